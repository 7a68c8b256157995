"""Runs of one size by depth, width and heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import gpt2_here as gpt2_here

from gpt2cli.records.jsonl import encode_record

Gpt2 = Callable[..., Any]


def metrics(path: Path, rows: list[tuple[str, int, int, int, float, int]]) -> Path:
    lines = []
    for run, n_layer, n_embd, n_head, loss, n in rows:
        lines += [
            encode_record("gpt2.run", {
                "run": run, "config": {}, "seed": 0, "n_params": n, "n_params_non_embedding": n, "n_layer": n_layer,
                "n_embd": n_embd, "n_head": n_head, "n_ctx": 32, "n_vocab": 512, "tokenizer_sha256": "0" * 64,
                "data_sha256": "0" * 64, "versions": {}}),
            encode_record("gpt2.eval", {
                "run": run, "step": 10, "tokens": 1000, "flops": 1e9, "lr_phase": "done", "split": "val",
                "nll_nats_per_token": loss, "ppl": 2.0, "n_tokens": 1000, "protocol": {}}),
        ]  # fmt: skip
    path.write_bytes(b"".join(lines))
    return path


def test_shapes_best_first_with_their_spread(gpt2_here: Gpt2, tmp_path: Path) -> None:
    rows = [("deep", 8, 32, 4, 3.09, 101_000), ("base", 2, 64, 8, 3.0, 100_000), ("one", 1, 90, 9, 3.06, 98_000)]
    done = gpt2_here("fit-scaling", "compare", metrics(tmp_path / "m.jsonl", rows), "--shapes", check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    assert [one["run"] for one in found] == ["base", "one", "deep"]
    assert [one["above_best"] for one in found] == pytest.approx([0, 0.02, 0.03])
    assert (found[2]["n_layer"], found[2]["n_embd"], found[2]["n_head"], found[2]["kind"]) == (8, 32, 4, "shape")
    assert b"the worst of 3 lies 3.0 % above the best" in done.stderr


@pytest.mark.parametrize(
    ("rows", "words", "status", "says"),
    [
        ([("a", 2, 64, 8, 3.0, 100_000), ("b", 1, 64, 8, 3.0, 50_000)], ["--shapes"], 65, b"compared at one size"),
        ([("a", 2, 64, 8, 3.0, 100_000)], ["--shapes"], 65, b"one run has nothing to be compared with"),
        ([("a", 2, 64, 8, 3.0, 100_000)], ["--shapes", "--law", "hoffmann"], 2, b"not with a law"),
        ([("a", 2, 64, 8, 3.0, 100_000)], ["--shapes", "--reference", "a"], 2, b"ask one"),
        ([("a", -2, 64, 8, 3.0, 10), ("b", 1, 64, 8, 3.0, 10)], ["--shapes"], 65, b"n_layer is -2"),
    ],
)
def test_what_shapes_refuse(
    gpt2_here: Gpt2, tmp_path: Path, rows: list[Any], words: list[str], status: int, says: bytes
) -> None:
    done = gpt2_here("fit-scaling", "compare", metrics(tmp_path / "m.jsonl", rows), *words)
    assert done.returncode == status and says in done.stderr
