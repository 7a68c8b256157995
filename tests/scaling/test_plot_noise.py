"""The view of the gradient noise: what it shows equals `fit-scaling batch`, as text, SVG and PNG."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import gpt2_here  # noqa: F401  (a fixture)

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent
from gpt2cli.scaling.critical_batch import FIELDS
from gpt2cli.scaling.curves import read_drawable
from gpt2cli.scaling.plot_noise import noise_curves

Gpt2 = Callable[..., "subprocess.CompletedProcess[bytes]"]


def run_file(path: Path, name: str, steps: int = 40, drowned: bool = False) -> Path:
    """A run that measures every other step; its noise scale is 1000 tokens times the step, or never to be seen."""
    lines = []
    for step in range(1, steps + 1):
        noise = {}
        if step % 2 == 0:
            trace = 1000.0 * step
            noise = dict(zip(FIELDS, (64, 4096, 1 + trace / 64, 1e-9 if drowned else 1 + trace / 4096), strict=True))
        lines.append(encode_record("gpt2.step", {
            "run": name, "step": step, "tokens": 4096 * step, "flops": 1e9 * step, "loss_nats": 4.0, "lr": 1e-3,
            "lr_phase": "stable", "grad_norm": 1.0, **noise}))  # fmt: skip
    path.write_bytes(b"".join(lines))
    return path


def test_it_ends_where_batch_does_and_names_the_batch(gpt2_here: Gpt2, tmp_path: Path) -> None:  # noqa: F811
    path = run_file(tmp_path / "m.jsonl", "one")
    (curve,) = noise_curves(read_drawable([str(path)], Silent()).curves, "steps")
    assert curve.x.tolist() == list(range(2, 41, 2)) and curve.batch_tokens == 4096
    assert curve.single == pytest.approx(1000 * curve.x)
    assert (curve.scale[1:] < curve.single[1:]).all(), "an average of a rising scale lags"
    asked = json.loads(gpt2_here("fit-scaling", "batch", path, check=True).stdout.splitlines()[0])
    assert asked["critical_batch_tokens"] == pytest.approx(curve.scale[-1])
    text = gpt2_here("plot", path, "--view", "noise", "--x", "steps", check=True).stdout.decode()
    assert "Critical batch size by gradient noise (tokens)" in text
    assert "a  one, 38K tokens at the last of 20 measurements; batch 4.1K" in text


def test_figures_of_one_run_and_of_several(gpt2_here: Gpt2, tmp_path: Path) -> None:  # noqa: F811
    paths = [run_file(tmp_path / f"{name}.jsonl", name) for name in ("one", "two")]
    run_file(tmp_path / "gone.jsonl", "gone", drowned=True)
    for number, inputs in enumerate(([paths[0]], [*paths, tmp_path / "gone.jsonl"])):
        for kind, magic in (("png", b"\x89PNG"), ("svg", b"<?xml")):
            outputs = [tmp_path / f"{number}{again}.{kind}" for again in range(2)]
            for output in outputs:
                gpt2_here("plot", *inputs, "--view", "noise", "-o", output, check=True)
            assert outputs[0].read_bytes().startswith(magic)
            assert outputs[0].read_bytes() == outputs[1].read_bytes()
    text = gpt2_here("plot", *paths, tmp_path / "gone.jsonl", "--view", "noise", check=True).stdout.decode()
    assert "gone, drowned in its noise; batch 4.1K" in text


def test_what_cannot_be_shown_is_a_sentence(gpt2_here: Gpt2, tmp_path: Path, ladder_metrics: Path) -> None:  # noqa: F811
    path = run_file(tmp_path / "m.jsonl", "one")
    for words, status, says in (
        ((ladder_metrics,), 65, b"no step measures the gradient noise; gpt2 train --noise-every N does"),
        ((run_file(tmp_path / "gone.jsonl", "gone", drowned=True),), 65, b"drowned in its noise at every"),
        ((path, "--reference", "chance=2"), 2, b"--reference is a loss or a measure"),
        ((path, "--metric", "acc"), 2, b"no --metric or --x params"),
        ((path, "--x", "params"), 2, b"no --metric or --x params"),
    ):
        refused = gpt2_here("plot", *words, "--view", "noise")
        assert (refused.returncode, refused.stdout) == (status, b"") and says in refused.stderr, words


@pytest.mark.parametrize("damage", [{FIELDS[0]: "x"}, {FIELDS[3]: -1}, {"tokens": None}, {"step": []}])
def test_damaged_measurements_are_named(tmp_path: Path, damage: dict[str, object]) -> None:
    path = run_file(tmp_path / "m.jsonl", "one")
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines[1].update(damage)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BadInput, match="run 'one'"):
        noise_curves(read_drawable([str(path)], Silent()).curves, "tokens")
