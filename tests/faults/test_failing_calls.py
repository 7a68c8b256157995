"""Every write, fsync and rename of every stage fails, or is where the process dies: no output that is not right, one
sentence and 74, and the same command again makes the bytes of a run without faults.

Some calls of each stage, chosen by a seed; `make test-faults` takes them all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.failing_calls import Faults, Stage, failing_calls, prove

TRAIN = ("train", "shards", "--layers", "1", "--embd", "16", "--context", "32", "--batch-tokens", "64", "--steps", "5",
         "--checkpoint-every", "2", "--eval-every", "2", "--eval-tokens", "128", "--dtype", "fp32", "-o",
         "run")
STAGES = {
    "links": Stage(("webtext-scrape", "links", "RS_2017-10.zst", "--force", "-o", "links.jsonl.zst"),
                   ("links.jsonl.zst",)),
    "filter": Stage(("webtext-scrape", "filter", "docs.jsonl.zst", "--force", "-o", "kept.jsonl.zst", "--rejects",
                     "rejects.jsonl"), ("kept.jsonl.zst", "rejects.jsonl")),
    "dedup": Stage(("webtext-scrape", "dedup", "docs.jsonl.zst", "--force", "--work", "state", "-o", "unique.jsonl"),
                   ("unique.jsonl",)),
    "bpe-train": Stage(("bpe-train", "docs.jsonl.zst", "--vocab-size", "300", "--force", "-o", "new.vocab"),
                       ("new.vocab",)),
    "bpe-tokenize": Stage(("bpe-tokenize", "docs.jsonl.zst", "--vocab", "my.vocab", "--force", "-o", "new.tok.zst"),
                          ("new.tok.zst",)),
    "pack": Stage(("pack", "x.tok.zst", "--val-fraction", "0.1", "--force", "-o", "set"), ("set",)),
    "train": Stage(TRAIN, ("run",), ("run",)),
    "eval-ppl": Stage(("eval-ppl", "runs/tiny", "shards", "--force", "-o", "eval.jsonl"),
                      ("eval.jsonl",)),
    "sample": Stage(("sample", "runs/tiny", "--prompt", "The", "--max-tokens", "5", "--json", "--force", "-o",
                     "sample.jsonl"), ("sample.jsonl",)),
    "fit-scaling": Stage(("fit-scaling", "metrics.jsonl", "--bootstrap", "20", "--force", "-o", "fit.jsonl"),
                         ("fit.jsonl",)),
    "quantize": Stage(("quantize", "runs/tiny", "--bits", "8", "--force", "-o", "small"), ("small",)),
    "export": Stage(("export", "runs/tiny", "--to", "llm.c", "--force", "-o", "model.bin"), ("model.bin",)),
}


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """A warm process for all stages of this file."""
    with failing_calls(tmp_path_factory.mktemp("library") / "faulty_calls.so") as found:
        yield found


@pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD and /proc")
@pytest.mark.parametrize("name", STAGES)
def test_every_change_of_a_file_may_fail(name: str, faults: Faults, artefacts: Path, tmp_path: Path) -> None:
    assert prove(STAGES[name], faults, artefacts, tmp_path, name) == []
