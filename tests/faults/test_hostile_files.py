"""Every command on files made wrong by chance: a status that is documented, one sentence, never a traceback, and no
warning of numpy or Python, which names a line of code.

Some files for each command; `make test-faults` tries twenty times as many.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY_MODEL
from faults.hostile_edits import edited
from faults.stages import ITEMS, TASK
from hypothesis import HealthCheck, given, settings
from in_process import gpt2_here as gpt2_here

EXAMPLES = 500 if os.environ.get("FAULTS") == "all" else 25
READERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "verify shard": ("x.tok.zst", ("verify", "x.tok.zst")),
    "verify records": ("docs.jsonl.zst", ("verify", "docs.jsonl.zst")),
    "verify vocabulary": ("my.vocab", ("verify", "my.vocab")),
    "verify manifest": ("model/manifest.json", ("verify", "model")),
    "verify weights": ("model/model.safetensors", ("verify", "model/model.safetensors")),
    "bpe-tokenize": ("docs.jsonl.zst", ("bpe-tokenize", "docs.jsonl.zst", "-f", "-o", "out")),
    "bpe-train": ("docs.jsonl.zst", ("bpe-train", "docs.jsonl.zst", "--vocab-size", "270", "-f", "-o", "out")),
    "vocab": ("my.vocab", ("vocab", "--vocab", "my.vocab")),
    "pack": ("x.tok.zst", ("pack", "x.tok.zst", "--val-fraction", "0.1", "-f", "-o", "set")),
    "shard info": ("shards/index.json", ("shard", "info", "shards")),
    "shard cat": ("x.tok.zst", ("shard", "cat", "x.tok.zst")),
    "links": ("RS_2017-10.zst", ("webtext-scrape", "links", "RS_2017-10.zst")),
    "links of URLs": ("links.txt", ("webtext-scrape", "links", "links.txt")),
    "extract a page": ("page.html", ("webtext-scrape", "extract", "page.html", "-j", "1")),
    "extract a WARC": ("crawl.warc.gz", ("webtext-scrape", "extract", "crawl.warc.gz", "-j", "1")),
    "filter": ("docs.jsonl.zst", ("webtext-scrape", "filter", "docs.jsonl.zst")),
    "dedup": ("docs.jsonl.zst", ("webtext-scrape", "dedup", "docs.jsonl.zst")),
    "overlap": ("docs.jsonl.zst", ("overlap", "docs.jsonl.zst", "--test", "docs.jsonl.zst", "-o", "out", "-f")),
    "eval-text": ("docs.jsonl.zst", ("eval-text", "docs.jsonl.zst")),
    "fit-scaling": ("metrics.jsonl", ("fit-scaling", "metrics.jsonl", "--bootstrap", "0")),
    "plot": ("metrics.jsonl", ("plot", "metrics.jsonl")),
    "predict": ("fit.jsonl", ("fit-scaling", "predict", "--fit", "fit.jsonl", "--n", "1M", "--d", "10M")),
    "sample config": ("model/config.json", ("sample", "model", "--max-tokens", "1", "--prompt", "a")),
    "sample weights": ("model/model.safetensors", ("sample", "model", "--max-tokens", "1", "--prompt", "a")),
    "eval-ppl": ("small.tok.zst", ("eval-ppl", "model", "small.tok.zst")),
    "eval-tasks": ("task.yaml", ("eval-tasks", "model", "task.yaml")),
    "eval-tasks items": ("items.jsonl", ("eval-tasks", "model", "task.yaml")),
    "resume": ("run/run.json", ("train", "shards", *TINY_MODEL, "--batch-tokens", "1024", "--steps", "10", "-o",
                                "run")),
}
STATUSES = {0, 1, 2, 65, 74}


@pytest.fixture(scope="module")
def place(artefacts: Path, gpt2: Callable[..., subprocess.CompletedProcess[bytes]],
          tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every file that READERS names, sound."""
    place = tmp_path_factory.mktemp("hostile") / "place"
    shutil.copytree(artefacts, place)
    shutil.copytree(sorted((place / "runs/tiny/checkpoints").iterdir())[-1], place / "model")
    shutil.copytree(place / "runs/tiny", place / "run")
    (place / "task.yaml").write_text(TASK)
    (place / "items.jsonl").write_text(ITEMS)
    gpt2("bpe-tokenize", "-", "--vocab", place / "my.vocab", "-o", place / "small.tok.zst", input=b"To be. " * 60,
         check=True)
    gpt2("fit-scaling", place / "metrics.jsonl", "--bootstrap", 5, "-o", place / "fit.jsonl", check=True)
    return place


@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")
@pytest.mark.parametrize("name", READERS)
def test_no_file_makes_a_traceback(
    name: str, place: Path, gpt2_here: Callable[..., subprocess.CompletedProcess[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, arguments = READERS[name]
    monkeypatch.chdir(place)
    sound = (place / file).read_bytes()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))
    @given(edited(sound))
    def check(data: bytes) -> None:
        (place / file).write_bytes(data)
        done = gpt2_here(*arguments)
        words = done.stderr.decode("utf-8", "replace")
        assert done.returncode in STATUSES and "Traceback" not in words and "this is a bug" not in words, words[-3000:]
        assert done.returncode == 0 or words.strip(), "a failure without a word"
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", words), "control characters of a file on the terminal"

    try:
        first = gpt2_here(*arguments)
        assert first.returncode == 0, first.stderr.decode()[-2000:]
        check()
    finally:
        (place / file).write_bytes(sound)
