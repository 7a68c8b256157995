"""Ten minutes of the whole pipeline with a signal to a random process of it every few seconds, and make until it is
done: again and again the bytes of a run that nobody disturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.failing_calls import digests, leftovers

MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
EVERY_S = 5.0
TRIES = 60
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGSTOP)
OUTPUTS = ("docs.jsonl", "my.vocab", "x.tok.zst", "shards", "run", "eval.jsonl", "sample.jsonl", "fit.jsonl")
PIPELINE = """
SHELL := bash
.SHELLFLAGS := -o pipefail -c
.DELETE_ON_ERROR:
all: eval.jsonl sample.jsonl fit.jsonl
links.jsonl: RS.zst
\tgpt2 webtext-scrape links RS.zst -f -o links.jsonl
docs.jsonl: docs.jsonl.zst links.jsonl
\tgpt2 webtext-scrape filter docs.jsonl.zst | gpt2 webtext-scrape dedup --work state -f -o docs.jsonl
my.vocab: docs.jsonl
\tgpt2 bpe-train docs.jsonl --vocab-size 512 -f -o my.vocab
x.tok.zst: docs.jsonl my.vocab
\tgpt2 bpe-tokenize docs.jsonl --vocab my.vocab -j 2 -f -o x.tok.zst
shards/index.json: x.tok.zst
\tgpt2 pack x.tok.zst --val-fraction 0.1 -f -o shards
run/manifest.json: shards/index.json
\tgpt2 train shards --layers 2 --embd 64 --context 64 --batch-tokens 2048 --steps 300 -o run -q >/dev/null
eval.jsonl: run/manifest.json
\tgpt2 eval-ppl run shards -f -o eval.jsonl
sample.jsonl: run/manifest.json
\tgpt2 sample run --prompt The --max-tokens 60 --num-samples 4 --json -f -o sample.jsonl
fit.jsonl: metrics.jsonl
\tgpt2 fit-scaling metrics.jsonl --bootstrap 200 -f -o fit.jsonl
"""


def begin(work: Path, artefacts: Path) -> None:
    work.mkdir()
    for name, source in (("RS.zst", "RS_2017-10.zst"), ("docs.jsonl.zst",) * 2, ("metrics.jsonl",) * 2):
        (work / name).symlink_to(artefacts / source)
    (work / "Makefile").write_text(PIPELINE)


def processes_of(session: int) -> list[int]:
    """Return the gpt2 processes of a session."""
    listed = subprocess.run(["ps", "-s", str(session), "-o", "pid=,args="], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "-m gpt2cli" in line]


def disturb(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(0.5)
            os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass


@pytest.mark.skipif(os.environ.get("FAULTS") != "all", reason="ten minutes: make test-faults")
@pytest.mark.skipif(sys.platform != "linux", reason="needs ps -s")
def test_soak(shell_environment: dict[str, str], artefacts: Path, tmp_path: Path) -> None:
    calm = tmp_path / "calm"
    begin(calm, artefacts)
    made = subprocess.run(["make", "-j2"], cwd=calm, env=shell_environment, check=False, capture_output=True)
    assert made.returncode == 0, made.stderr.decode()[-2000:]
    right = digests(calm, OUTPUTS)
    rng, end, sent, rounds = random.Random(0), time.monotonic() + MINUTES * 60, 0, 0
    while time.monotonic() < end:
        work = tmp_path / "work"
        begin(work, artefacts)
        sent += until_done(work, shell_environment, rng)
        assert digests(work, OUTPUTS) == right
        assert leftovers(work) == []
        shutil.rmtree(work)
        rounds += 1
    print(f"{rounds} times through the pipeline, {sent} signals")
    assert sent >= rounds


def until_done(work: Path, environment: dict[str, str], rng: random.Random) -> int:
    """Make until it is made, disturbing it; return the number of signals sent."""
    sent = 0
    for _ in range(TRIES):
        with (work / "log").open("ab") as log:
            make = subprocess.Popen(["make", "-j2"], cwd=work, env=environment, stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL, start_new_session=True)
            while True:
                try:
                    status = make.wait(rng.uniform(0, 2 * EVERY_S))
                    break
                except subprocess.TimeoutExpired:
                    found = processes_of(make.pid)
                    if found:
                        disturb(rng.choice(found), rng.choice(SIGNALS))
                        sent += 1
        words = (work / "log").read_text("utf-8", "replace")
        assert "Traceback" not in words, words[-2000:]
        if status == 0:
            return sent
    raise AssertionError(f"not done after {TRIES} tries: {words[-2000:]}")
