"""`make demo` with a small model: every stage the real command, in order, and a second make that does nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORPUS_COMMANDS = ("webtext-scrape", "bpe-train", "bpe-tokenize", "pack")
SMALL = {
    "MAIN_FLAGS": "--batch-tokens 1024 --steps 60 --lr 5e-3 --eval-every 20 --eval-tokens 4096 --dtype fp32",
    "MODEL": "--layers 2 --embd 64 --context 64",
    "LAW": "chinchilla",  # such small runs are too alike for auto to hold some out
    "RUNG_SHAPES": "l1-e8 l1-e16 l1-e32",
    "RUNG_TOKENS": "8Ki 24Ki 64Ki",
    "RUNG_FLAGS": "--context 64 --batch-tokens 512 --eval-tokens 4096 --dtype fp32 --threads 1 --lr 1e-2",
}


def make_demo(work: Path) -> subprocess.CompletedProcess[str]:
    words = {**SMALL, "DEMO": str(work), "LADDER": f"{work}/ladder", "SHARDS": f"{work}/shards",
             "PY": sys.executable, "GPT2": f"{sys.executable} -m gpt2cli", "STAMP": ""}
    dropped = ("GPT2_", "MAKE", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    command = ["make", "--no-print-directory", "demo", *(f"{name}={value}" for name, value in words.items())]
    return subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=300, check=False)


@pytest.mark.slow
def test_the_demo_runs_every_stage_once_and_then_nothing(tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = make_demo(work)
    assert first.returncode == 0, first.stderr[-3000:]
    for command in (*CORPUS_COMMANDS, "train", "eval-ppl", "sample", "fit-scaling"):
        assert f"-m gpt2cli {command} " in first.stdout, f"{command} was not among the commands that make shows"
    summary = (work / "summary.txt").read_text()
    for words in ("documents crawled", "unigram entropy", "  L = ", "kept out of the fit", "Warnings:"):
        assert words in summary
    assert len(json.loads((work / "ladder" / "fit.jsonl").read_text())["observations"]) == 9
    for name in ("loss.png", "ladder/fit.png"):
        assert (work / name).read_bytes().startswith(b"\x89PNG")
    assert "scrape" in (work / "crawl.log").read_text()

    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    second = make_demo(work)
    assert second.returncode == 0 and "nothing has changed" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()} == before
