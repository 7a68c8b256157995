"""Stopping signals: real processes, the status a shell would see, and nothing half-written left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt2cli.cli import signals

WAIT_S = 30


@pytest.fixture
def reader_of_fifo(gpt2_popen, tmp_path: Path):
    """A `gpt2 bpe-tokenize FIFO -o x.tok.zst` that has opened the fifo and waits for bytes, and our end of it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = gpt2_popen("bpe-tokenize", fifo, "-o", tmp_path / "x.tok.zst", stderr=subprocess.PIPE,
                         stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    writer = open_when_read(fifo, process)
    os.write(writer, b"It is a truth universally acknowledged\n")
    time.sleep(0.3)
    yield process
    os.close(writer)
    if process.poll() is None:
        process.kill()
    process.communicate()


def open_when_read(fifo: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO until somebody reads
            time.sleep(0.05)
            continue
        os.set_blocking(descriptor, True)
        return descriptor
    raise AssertionError(f"the command never read its input: {process.communicate()[1]!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_waiting_command_and_leaves_nothing(reader_of_fifo, tmp_path: Path, number: int) -> None:
    reader_of_fifo.send_signal(number)
    stdout, stderr = reader_of_fifo.communicate(timeout=WAIT_S)
    assert reader_of_fifo.returncode == -number  # a shell shows 128 + number
    assert stdout == b""
    assert b"Traceback" not in stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo"]


def test_shell_sees_128_and_the_number(bash, tmp_path: Path) -> None:
    script = """
    mkfifo fifo
    gpt2 bpe-tokenize fifo -o x.tok.zst & pid=$!
    exec 3>fifo
    sleep 0.5; kill -TERM $pid
    wait $pid; echo $?
    """
    result = bash(script, tmp_path, timeout=WAIT_S)
    assert result.stdout == b"143\n"


POLLED = """
import os, sys, time
from gpt2cli.cli import signals
signals.install()
with signals.polled():
    os.write(1, b"ready\\n")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(0.01)
        if {obey} and signals.received():
            os.write(1, b"saved\\n")
            signals.die_of(signals.received())
        if signals.take_status_request():
            os.write(1, b"status\\n")
"""


def start_polled(obey: bool, **keywords: object) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", POLLED.format(obey=obey)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, **keywords)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_polled_work_saves_first(number: int) -> None:
    process = start_polled(obey=True)
    process.send_signal(number)
    assert process.communicate(timeout=WAIT_S) == (b"saved\n", b"")
    assert process.returncode == -number


def test_second_signal_stops_work_that_does_not_listen() -> None:
    process = start_polled(obey=False)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == -signal.SIGTERM


def test_usr1_asks_for_one_line_and_stops_nothing() -> None:
    process = start_polled(obey=True)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout and process.stdout.readline() == b"status\n"
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == -signal.SIGTERM


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    """As under nohup: SIGHUP ignored by the parent must not stop the work."""
    process = start_polled(obey=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == -signal.SIGTERM


SWALLOWING = """
import os, signal, sys, time
from gpt2cli.cli import signals
from gpt2cli.cli.signals import SignalReceived
signals.install()
sys.path.insert(0, sys.argv[1])
try:
    {lost}
    time.sleep(20)
    print("went on")
except SignalReceived as stop:
    signals.settle()
    print("unwound", sorted(name for name in sys.modules if name.startswith("half_")), flush=True)
    signals.die_of(stop.number)
"""
IMPORTED = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGTERM)
    import half_two
except BaseException:  # as torch's C code does when numpy's import fails
    pass
"""
FINALISED = "Lost = type('Lost', (), {'__del__': lambda self: os.kill(os.getpid(), signal.SIGTERM)}); Lost()"


@pytest.mark.parametrize(("lost", "modules"), [("import half_one", ["half_one", "half_two"]), (FINALISED, [])])
def test_no_signal_gets_lost(lost: str, modules: list[str], tmp_path: Path) -> None:
    """A signal inside an import waits for its end; one that a finaliser swallowed is raised again."""
    (tmp_path / "half_one.py").write_text(IMPORTED)
    (tmp_path / "half_two.py").write_text("")
    done = subprocess.run([sys.executable, "-c", SWALLOWING.replace("{lost}", lost), tmp_path], capture_output=True,
                          text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, f"unwound {modules}\n"), done.stderr


def test_cleaning_up_is_not_disturbed(tmp_path: Path) -> None:
    """Longer than it takes to look again whether a signal is being obeyed."""
    slow = "os.kill(os.getpid(), signal.SIGTERM)\n    finally:\n        time.sleep(0.5); print('clean')\n    try: pass"
    program = SWALLOWING.replace("{lost}", f"try:\n        {slow}\n    finally: pass")
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=WAIT_S,
                          check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "clean\nunwound []\n"), done.stderr


def test_nothing_received_in_this_process() -> None:
    assert signals.received() is None
    assert signals.take_status_request() is False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_train_saves_and_the_same_command_goes_on(gpt2_popen, gpt2, shard_directory: Path, tmp_path: Path,
                                                  number: int) -> None:
    model = ("--layers", 1, "--embd", 16, "--heads", 2, "--context", 32, "--batch-tokens", 256)
    command = ("train", shard_directory, *model, "--steps", 100_000, "-o", tmp_path / "run")
    process = gpt2_popen(*command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    steps = 0
    for line in process.stdout:
        steps += b'"gpt2.step/1"' in line
        if steps == 5:
            process.send_signal(number)
            break
    _, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == -number, stderr.decode()
    assert b"Traceback" not in stderr
    assert list((tmp_path / "run" / "checkpoints").glob("step-*/manifest.json"))
    assert not (tmp_path / "run" / "manifest.json").exists()
