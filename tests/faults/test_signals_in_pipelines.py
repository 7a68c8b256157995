"""A signal at any change of a file, once or twice; a reader that goes away at every position of the pipeline."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.failing_calls import WHOLE, Faults, Trial, digests, leftovers, some_of
from faults.stages import NET, STAGES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD and /proc")
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
HARMLESS = (signal.SIGUSR1, signal.SIGSTOP)
CALLS = 6 if WHOLE else 1
CHAIN = (
    ("webtext-scrape", "links", "local.txt"), ("webtext-scrape", "fetch", *NET),
    ("webtext-scrape", "extract", "--work", "web", "-j", "1", "--extractor", "resiliparse"),
    ("webtext-scrape", "filter"), ("webtext-scrape", "dedup"), ("bpe-tokenize", "--vocab", "my.vocab", "-j", "1"),
    ("pack", "--val-fraction", "0.4", "--force", "-o", "chained"),
)
LONG = (("webtext-scrape", "filter", "docs.jsonl.zst"), ("webtext-scrape", "dedup"),
        ("bpe-tokenize", "--vocab", "my.vocab", "-j", "1"), ("shard", "cat", "--text"))
"""Each writes more than the pipe and a reader of its middle take."""


@pytest.mark.parametrize("name", some_of(STAGES, 2, "signals"))
def test_a_signal_at_any_change_of_a_file(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    stage, rng = STAGES[name], random.Random(name)
    trial = Trial(stage, faults, inputs, tmp_path)
    for number in (*STOPPING, *HARMLESS) if WHOLE else (rng.choice(STOPPING), rng.choice(HARMLESS)):
        for _ in range(CALLS):
            call, work = rng.randint(1, trial.over_old["calls"]), trial.begin()
            done = faults.run(stage, work, call, "signal", number)
            case = (signal.Signals(number).name, call, done)
            assert "Traceback" not in done["stderr"], case
            if number in HARMLESS or done["status"] == 0:  # asked to stop when all was done
                assert done["status"] == 0 and trial.is_right(work), case
            else:
                assert done["status"] == -number and not leftovers(work), case
            assert [*trial.wrong_now(work, False), *trial.wrong_again(work)] == [], case


@pytest.mark.parametrize("name", some_of(STAGES, 1, "second"))
def test_a_second_signal_stops_at_once(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    stage, rng = STAGES[name], random.Random(name)
    trial = Trial(stage, faults, inputs, tmp_path)
    for number in STOPPING if WHOLE else (rng.choice(STOPPING),):
        call, work = rng.randint(1, trial.over_old["calls"] - 1), trial.begin()
        done = faults.run(stage, work, call, "signal twice", number)
        assert done["status"] in (-number, 0) and "Traceback" not in done["stderr"], (number, call, done)
        assert [*trial.wrong_now(work, True), *trial.wrong_again(work)] == [], (number, call)


def assert_quiet_ends(done: dict) -> None:
    words = "".join(done["stderr"])
    assert set(done["statuses"]) <= {0, -signal.SIGPIPE}, done
    assert "Traceback" not in words and "roken pipe" not in words, words


def test_a_reader_that_is_gone_from_the_start(faults: Faults, work: Path) -> None:
    whole = faults.pipeline(CHAIN, work, None)
    assert whole["statuses"] == [0] * len(CHAIN), whole["stderr"]
    right = digests(work, ["chained"])
    assert right
    for length in range(1, len(CHAIN)) if WHOLE else random.Random(0).sample(range(1, len(CHAIN)), 1):
        done = faults.pipeline(CHAIN[:length], work, 0)
        assert_quiet_ends(done)
        assert done["statuses"][-1] == -signal.SIGPIPE, done
        assert not leftovers(work)
    again = faults.pipeline(CHAIN, work, None)
    assert again["statuses"] == [0] * len(CHAIN) and digests(work, ["chained"]) == right, again


@pytest.mark.parametrize("take", [1, 5000] if WHOLE else [5000])
@pytest.mark.parametrize("length", range(1, len(LONG) + 1))
def test_a_reader_that_leaves_in_the_middle(length: int, take: int, faults: Faults, work: Path) -> None:
    done = faults.pipeline(LONG[:length], work, take)
    assert_quiet_ends(done)
    assert (done["taken"], done["statuses"][-1]) == (take, -signal.SIGPIPE), done


def test_the_shell_sees_it(bash: Callable[..., subprocess.CompletedProcess[bytes]], work: Path) -> None:
    done = bash("gpt2 shard cat --text x.tok.zst | head -n 1 >/dev/null; echo ${PIPESTATUS[0]}", work)
    assert done.stdout == b"141\n", done.stderr
