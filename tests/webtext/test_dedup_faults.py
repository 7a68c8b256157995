"""dedup killed at random moments, on a full disk, and on documents made to hurt it."""

from __future__ import annotations

import os
import random
import resource
import signal
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from in_process import gpt2_here
from near_documents import corpus, lines, parsed

from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.records.streams import open_output
from gpt2cli.reporter import Silent
from gpt2cli.webtext import sign_documents
from gpt2cli.webtext.dedup import DedupConfig, dedup
from gpt2cli.webtext.tally import StepTally

__all__ = ["gpt2_here"]


def to_file(paths: list[Path], out: Path, config: DedupConfig) -> None:
    with open_output(out) as kept, open_output(out.with_suffix(".rejects")) as dropped:
        dedup(paths, RecordWriter(kept), StepTally("dedup", RecordWriter(dropped)), config, Silent())


def in_child(work: Callable[[], None]) -> int:
    """Do `work` in a child of this process and return its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


@pytest.mark.parametrize(("kept_state", "jobs"), [(True, 1), (True, 2), (False, 1)])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(kept_state: bool, jobs: int, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_documents, "BATCH_LINES", 64)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    paths = [tmp_path / f"{number}.jsonl" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(lines(corpus(220, seed=number)))
    began = time.monotonic()
    to_file(paths, tmp_path / "calm", DedupConfig())
    calm_s = time.monotonic() - began
    config = DedupConfig(memory=1 << 16, jobs=jobs, work=tmp_path / "work" if kept_state else None)
    draw, kills, finished = random.Random(jobs), 0, False
    for _ in range(12):
        child = in_child(lambda: to_file(paths, tmp_path / "torn", config))
        time.sleep(draw.uniform(0, 1.2 * calm_s))
        os.kill(child, signal.SIGKILL)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        kills += killed
        calm_s *= 1 if killed else 0.7  # the machine was busier when it was measured
        finished = finished or not killed
        assert (tmp_path / "torn").exists() == finished
    assert kills >= 3
    to_file(paths, tmp_path / "torn", config)
    assert (tmp_path / "torn").read_bytes() == (tmp_path / "calm").read_bytes()
    assert (tmp_path / "torn.rejects").read_bytes() == (tmp_path / "calm.rejects").read_bytes()
    left = {path.name for path in tmp_path.rglob("*")} - {path.name for path in paths}
    assert left == {"calm", "calm.rejects", "torn", "torn.rejects", "tmp"} | ({"work"} if kept_state else set())


@pytest.mark.parametrize("kept_state", [True, False])
def test_a_full_disk_leaves_nothing(kept_state: bool, gpt2_here: Callable[..., Any], tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on the size of a file stands for a disk that is full: the kernel refuses the write just so."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = tmp_path / "docs.jsonl"
    source.write_bytes(lines(corpus(400)))
    options = ("--work", tmp_path / "work") if kept_state else ()
    arguments = ("webtext-scrape", "dedup", source, "-o", tmp_path / "out", "--rejects", tmp_path / "rejects", *options)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for size in (1_000, 100_000, 200_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            done = gpt2_here(*arguments)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert done.returncode == 74 and b"File too large" in done.stderr, done.stderr.decode()
            left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
            assert not left & {"out", "rejects"} and not any("scratch" in name or "tmp" in name for name in left)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    gpt2_here(*arguments, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"docs.jsonl", "out", "rejects"} | (
        {"work"} if kept_state else set())


def test_two_runs_in_one_work_directory(gpt2_here: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "docs.jsonl"
    source.write_bytes(lines(corpus(20)))
    seen: list[Any] = []

    class Second(Silent):
        def stopping(self) -> bool:
            if not seen:
                seen.append(gpt2_here("webtext-scrape", "dedup", source, "--work", tmp_path / "work"))
            return False

    dedup([source], RecordWriter(BytesIO()), StepTally("dedup"), DedupConfig(work=tmp_path / "work"), Second())
    assert seen[0].returncode == 2 and b"in use by another dedup" in seen[0].stderr


def kept_ids(records: list[dict[str, Any]]) -> list[str]:
    out = BytesIO()
    dedup(iter(lines(records).splitlines()), RecordWriter(out), StepTally("dedup"), DedupConfig(), Silent())
    return [record["id"] for record in parsed(out.getvalue())]


def test_documents_made_to_hurt() -> None:
    hostile = {
        "one word": "word " * 200_000,
        "one word, once less": "word " * 199_999,
        "one letter": "a" * 1_000_000,
        "one letter, once less": "a" * 999_999,
        "combining": "e" + "\u0301" * 200_000,
        "null": "\0 \0 \0",
        "bidirectional": "\u202e" + "abc " * 50,
        "emoji": "\U0001f600" * 1000,
        "spaces": " \u2003\n" * 100_000,
    }
    documents = [{"id": name, "text": text} for name, text in hostile.items()]
    found = kept_ids(documents)
    # repeated words make one shingle, however often
    assert sorted(set(hostile) - set(found)) == ["one word, once less"]
    assert kept_ids(documents + [{**one, "id": "z" + one["id"]} for one in documents]) == found


def test_different_documents_in_one_bucket_cost_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody shares a band and nobody is similar: 64 comparisons each, not all with all."""
    from gpt2cli.webtext import near_duplicates

    compared = [0]
    counted = near_duplicates.similarities

    def counting(one: Any, other: Any) -> Any:
        compared[0] += len(one)
        return counted(one, other)

    monkeypatch.setattr(near_duplicates, "similarities", counting)
    monkeypatch.setattr(near_duplicates, "band_keys", lambda rows, profile: rows[:, :1].astype("u8") * 0 + 5)
    documents = [{"id": str(number), "text": " ".join(f"w{number}x{place}" for place in range(8))}
                 for number in range(1000)]
    reporter, out = Silent(), BytesIO()
    dedup(iter(lines(documents).splitlines()), RecordWriter(out), StepTally("dedup"), DedupConfig(), reporter)
    assert len(list(parsed(out.getvalue()))) == 1000
    assert compared[0] <= 64 * 1000
    assert any("1 band shared by more than 64 documents that differ" in note for note in reporter.notes)
