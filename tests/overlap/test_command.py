"""The command itself: its table, passages, tasks, filters, and what it says of wrong use."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2cli.evaluation.task_texts import item_texts
from gpt2cli.overlap.passages import LongestPassages, Passage, passages_of
from gpt2cli.overlap.test_side import TestDocument

TRAIN = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness"
TASK = """task: riddles
dataset_path: json
dataset_kwargs: {data_files: {test: riddles.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "It was the best of times, {{question}}"
doc_to_choice: ["it was the worst of times", "nothing of that kind"]
doc_to_target: label
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("none of it", TRAIN)))
    Path("test.txt").write_text(f"He read: {TRAIN[:52]}! And then there was no more of it to be read.\n")
    Path("riddles.jsonl").write_text('{"question": "it says", "label": 1}\n{"question": "", "label": 0}\n')
    Path("riddles.yaml").write_text(TASK)
    plain = {"context": TRAIN[:32], "choices": [TRAIN[33:], "no"], "label": 0}
    Path("plain.jsonl").write_text(json.dumps(plain) + "\n")
    return tmp_path


def records_of(result: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.usefixtures("place")
def test_records_table_and_passages(gpt2_here: Callable[..., Any]) -> None:
    result = gpt2_here("overlap", "train.jsonl", "--test", "test.txt", "--show", "5", check=True)
    kinds = ["gpt2.overlap/1", "gpt2.overlap-passage/1", "gpt2.overlap-set/1", "gpt2.end/1"]
    document, passage, whole, _ = records_of(result)
    assert [record["schema"] for record in records_of(result)] == kinds
    assert document["id"] == hashlib.sha256(Path("test.txt").read_bytes()).hexdigest()
    assert (document["n_overlap"], whole["n_overlap"], passage["n_words"]) == (5, 5, 12)
    assert passage["text"] == TRAIN[:51]
    assert passage["train"] == [{"document": 1, "where": "train.jsonl line 2", "n_grams": 5}]
    said = result.stderr.decode()
    assert "train: 2 documents, 27 words; 8-grams, exact" in said and "train.jsonl line 2 (5)" in said
    assert f"{100 * 5 / document['n_grams']:.2f} %" in said
    shorter = gpt2_here("overlap", "train.jsonl", "--test", "test.txt", "--summary", "-n", "3", check=True)
    assert [record["schema"] for record in records_of(shorter)] == ["gpt2.overlap-set/1", "gpt2.end/1"]


@pytest.mark.usefixtures("place")
def test_a_task_is_its_items(gpt2_here: Callable[..., Any]) -> None:
    for task, name in (("riddles.yaml", "riddles"), ("plain.jsonl", "plain")):
        *items, whole, _ = records_of(gpt2_here("overlap", "train.jsonl", "--test", task, check=True))
        expected = [(own, number, hashlib.sha256(text.encode()).hexdigest()) for own, number, text in item_texts(task)]
        assert [(item["task"], item["item"], item["id"]) for item in items] == expected
        assert items[-1]["task"] == name and items[-1]["overlap"] == 1 and whole["n_documents"] == len(items)


@pytest.mark.usefixtures("place")
def test_a_filter_is_built_verified_and_used(gpt2_here: Callable[..., Any]) -> None:
    built = gpt2_here("overlap", "train.jsonl", "--write-bloom", "a.bloom", check=True)
    assert built.stdout == b"" and b"false-positive rate" in built.stderr
    piped = gpt2_here("overlap", "--write-bloom", "b.bloom", "--capacity", "1K", input=Path("train.jsonl").read_bytes())
    assert piped.returncode == 0 and Path("b.bloom").stat().st_size > Path("a.bloom").stat().st_size
    used = gpt2_here("overlap", "--bloom", "a.bloom", "--test", "test.txt", "--show", "1", check=True)
    exact = gpt2_here("overlap", "train.jsonl", "--test", "test.txt", check=True)
    assert used.stdout.splitlines()[0] == exact.stdout.splitlines()[0]
    assert b"Bloom filter, false positives" in used.stderr
    verdict = records_of(gpt2_here("verify", "a.bloom", check=True))[0]
    assert (verdict["kind"], verdict["facts"]["n"]) == ("Bloom filter", 8)
    Path("cut.bloom").write_bytes(Path("a.bloom").read_bytes()[:-1])
    for options in ((), ("--quick",)):
        bad = gpt2_here("verify", *options, "cut.bloom")
        assert bad.returncode == 65 and b"cut short" in bad.stderr
    assert gpt2_here("overlap", "--bloom", "cut.bloom", "--test", "test.txt").returncode == 65


@pytest.mark.parametrize(("words", "status", "says"), [
    (["train.jsonl"], 2, "--test"),
    (["train.jsonl", "--test", "none.txt"], 2, "there is no none.txt"),
    (["none.txt", "--test", "test.txt"], 2, "there is no none.txt"),
    (["--test", "-"], 2, "can't be read twice"),
    (["train.jsonl", "--test", "test.txt", "--capacity", "5"], 2, "--capacity"),
    (["train.jsonl", "--write-bloom", "x", "--show", "5"], 2, "--show"),
    (["train.jsonl", "--write-bloom", "x", "-o", "y"], 2, "--output"),
    (["--write-bloom", "x"], 2, "--capacity N"),
    (["train.jsonl", "--write-bloom", "test.txt"], 2, "exists"),
    (["train.jsonl", "--bloom", "x", "--test", "test.txt"], 2, "leave train.jsonl out"),
    (["--bloom", "train.jsonl", "--test", "test.txt"], 65, "no Bloom filter"),
    (["--bloom", "none", "--test", "test.txt"], 2, "there is no none"),
    (["--bloom", "/dev/null", "--test", "test.txt"], 2, "ordinary file"),
    (["train.jsonl", "--test", "empty.jsonl"], 65, "no document with text"),
    (["broken.jsonl", "--test", "test.txt"], 65, "broken.jsonl line 2"),
    (["train.jsonl", "--test", "train.jsonl", "-n", "0"], 2, "0"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_use_is_a_sentence(place: Path, gpt2_here: Callable[..., Any], words: list[str], status: int, says: str
                                 ) -> None:
    Path("empty.jsonl").touch()
    Path("broken.jsonl").write_text('{"text": "a"}\n{"text": "b\n')
    before = sorted(os.listdir())
    result = gpt2_here("overlap", *words)
    assert result.returncode == status and says in result.stderr.decode(), result.stderr.decode()
    assert b"Traceback" not in result.stderr and result.stdout == b"" and sorted(os.listdir()) == before


@pytest.mark.usefixtures("place")
def test_a_filter_of_other_ngrams_is_refused(gpt2_here: Callable[..., Any]) -> None:
    gpt2_here("overlap", "train.jsonl", "-n", "3", "--write-bloom", "a.bloom", check=True)
    result = gpt2_here("overlap", "--bloom", "a.bloom", "--test", "test.txt", "-n", "8")
    assert result.returncode == 2 and b"is of 3-grams" in result.stderr
    assert records_of(gpt2_here("overlap", "--bloom", "a.bloom", "--test", "test.txt", check=True))[-2]["n"] == 3


def test_passages_join_what_overlaps_and_the_longest_stay() -> None:
    import numpy as np

    document = TestDocument("", 0, 100)
    found = list(passages_of(0, document, np.array([3, 4, 11, 19, 40]), 8))
    assert [(one.start, one.stop) for one in found] == [(3, 19), (19, 27), (40, 48)]
    longest = LongestPassages(2)
    for one in [*found, Passage(1, document, 0, 9)]:
        longest.add(one)
    assert [(one.start, one.stop) for one in longest.longest_first()] == [(3, 19), (0, 9)]


def test_memory_does_not_grow_with_one_long_document(tmp_path: Path) -> None:
    """A line of 26 MB, and a text of 10 MB without a space."""
    (tmp_path / "test.jsonl").write_text('{"text": "one two three four five six seven eight nine"}\n')
    with open(tmp_path / "long.jsonl", "w") as file:
        file.write('{"text": "' + "some words that go on and on without an end " * 600_000)
        file.write('one two three four five six seven eight nine"}\n')
    with open(tmp_path / "run.txt", "w") as file:
        file.write("x" * 10_000_000 + " one two three four five six seven eight")
    code = ("import re, sys; from gpt2cli.overlap.measure import *\n"
            "sides = tuple(sys.argv[1:3]), (sys.argv[3],)\n"
            "from gpt2cli.reporter import Silent\n"
            "found = list(measure_overlap(OverlapConfig(*sides), None, Silent()))\n"
            "print(found[0][1]['n_overlap'], *re.findall(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()))")
    result = subprocess.run([sys.executable, "-c", code, "long.jsonl", "run.txt", "test.jsonl"], cwd=tmp_path,
                            capture_output=True, text=True, check=True,
                            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])})
    hits, kilobytes = map(int, result.stdout.split())
    assert hits == 2
    assert kilobytes < 120_000
