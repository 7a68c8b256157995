"""The view of gradient norms: of several runs, and of one with its layers, as text and as figures."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from in_process import gpt2_here  # noqa: F401  (a fixture)

from gpt2cli.records.jsonl import encode_record

Gpt2 = Callable[..., "subprocess.CompletedProcess[bytes]"]


def run_file(path: Path, name: str, layers: object = None) -> Path:
    """A run whose norm falls from 8 as 8/step; with `layers` a record of them at every tenth step."""
    lines = []
    for step in range(1, 41):
        at = {"run": name, "step": step, "tokens": 4096 * step, "flops": 1e9 * step}
        lines.append(encode_record("gpt2.step", {**at, "loss_nats": 4.0, "lr": 1e-3, "lr_phase": "stable",
                                                 "grad_norm": 8.0 / step}))  # fmt: skip
        if layers is not None and step % 10 == 0:
            lines.append(encode_record("gpt2.layers", {**at, "layers": layers}))
    path.write_bytes(b"".join(lines))
    return path


LAYERS = {name: {"grad_norm": 0.5, "weight_norm": 2.0, "update_norm": 0.004, "update_ratio": 0.002}
          for name in ("wte", "wpe", "h.0", "h.1", "ln_f")}


def test_text_has_every_run_and_of_one_its_layers(gpt2_here: Gpt2, tmp_path: Path) -> None:  # noqa: F811
    paths = [run_file(tmp_path / f"{name}.jsonl", name, LAYERS) for name in ("one", "two")]
    both = gpt2_here("plot", *paths, "--view", "gradients", check=True).stdout.decode()
    assert "Gradient norm before clipping" in both
    assert "a  one, 0.2 at the end, at most 8" in both and "b  two" in both and "layers at" not in both
    alone = gpt2_here("plot", paths[0], "--view", "gradients", check=True).stdout.decode()
    assert "layers at step 40: gradient norm, update over weights" in alone and "   h.1  0.5, 2.00e-03" in alone


def test_figures_are_drawn_and_come_out_the_same(gpt2_here: Gpt2, tmp_path: Path) -> None:  # noqa: F811
    with_layers, plain = run_file(tmp_path / "a", "a", LAYERS), run_file(tmp_path / "b", "b")
    sizes = []
    for number, inputs in enumerate(([with_layers], [plain], [with_layers, plain])):
        outputs = [tmp_path / f"{number}{again}.svg" for again in range(2)]
        for output in outputs:
            gpt2_here("plot", *inputs, "--view", "gradients", "-o", output, check=True)
        assert outputs[0].read_bytes() == outputs[1].read_bytes()
        sizes.append(outputs[0].stat().st_size)
    assert sizes[0] > 1.5 * sizes[1]


def test_what_cannot_be_shown_is_a_sentence(gpt2_here: Gpt2, tmp_path: Path) -> None:  # noqa: F811
    path = run_file(tmp_path / "m", "m")
    for words in (("--metric", "acc"), ("--reference", "x=2"), ("--x", "params")):
        refused = gpt2_here("plot", path, "--view", "gradients", *words)
        assert refused.returncode == 2 and b"--view gradients is of norms along runs" in refused.stderr
    for layers in ([], {"wte": 3}, {"wte": {"grad_norm": "x", "update_ratio": 1}}, {"wte": {"grad_norm": 1}}):
        damaged = gpt2_here("plot", run_file(tmp_path / "d", "d", layers), "--view", "gradients")
        assert damaged.returncode == 65 and b"has no norms by layer" in damaged.stderr, layers
