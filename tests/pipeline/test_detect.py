"""`make detect` with a small model: samples, detectors, reports and a summary, and a second make that does nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make_detect(work: Path, run: Path, shards: Path, vocabulary: Path) -> subprocess.CompletedProcess[str]:
    words = {
        "DEMO": str(work), "DETECT_MODEL": str(run), "DETECT_SHARDS": str(shards), "DETECT_VOCAB": str(vocabulary),
        "DETECT_SETTINGS": "t1 k4", "DETECT_METHODS": "logprob", "DETECT_PASSAGES": "--prompt-words 3 --words 6",
        "DETECT_FLAGS": "--max-tokens 32 --batch 64 --threads 1",
        "PY": sys.executable, "GPT2": f"{sys.executable} -m gpt2cli", "STAMP": "",
    }
    dropped = ("GPT2_", "MAKE", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    command = ["make", "--no-print-directory", "-j2", "detect", *(f"{name}={value}" for name, value in words.items())]
    return subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=300, check=False)


@pytest.mark.slow
def test_make_detect_runs_every_stage_once_and_then_nothing(
    tmp_path: Path, tiny_run: Path, shard_directory: Path, vocabulary_file: Path
) -> None:
    first = make_detect(tmp_path / "work", tiny_run, shard_directory, vocabulary_file)
    assert first.returncode == 0, first.stderr[-3000:]
    work = tmp_path / "work" / "detect"
    summary = (work / "summary.txt").read_text()
    assert summary in first.stdout
    for words in ("logprob  temperature 1 ", "logprob  temperature 1, top-k 4", "first ", "Calibration (Platt)",
                  "false positives at most", "this is weak evidence"):
        assert words in summary
    samples = [json.loads(line) for line in (work / "sample-k4.jsonl").read_text().splitlines()]
    passages = [json.loads(line) for line in (work / "passages.jsonl").read_text().splitlines()]
    assert {sample["top_k"] for sample in samples} == {4}
    assert [sample["prompt"] for sample in samples] == [passage["prompt"] for passage in passages]
    report = [json.loads(line) for line in (work / "tfidf-all.report.jsonl").read_text().splitlines()]
    assert {(one["temperature"], one["top_k"]) for one in report if one["group"] == "setting"} == {(1, None), (1, 4)}
    # ten steps of training: what it writes is nothing like English, and a detector that missed that would be broken
    assert report[-1]["auc_interval"][0] > 0.7

    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    second = make_detect(tmp_path / "work", tiny_run, shard_directory, vocabulary_file)
    assert second.returncode == 0 and "nothing has changed" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()} == before
