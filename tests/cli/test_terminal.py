"""On a terminal: no silent wait for input, no binary output, a bar that goes away. A pty stands in for a person."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

WAIT_S = 60


@pytest.fixture
def terminal():
    """The two ends of a pseudo-terminal, ours and the command's."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    for descriptor in (ours, theirs):
        os.close(descriptor)


def drain(descriptor: int) -> bytes:
    data = b""
    while select.select([descriptor], [], [], 0.2)[0]:
        data += os.read(descriptor, 65536)
    return data


@pytest.mark.parametrize("command", [("bpe-tokenize", "-o", "x.tok.zst"), ("pack", "-o", "shards")])
def test_no_input_on_a_terminal_is_said_at_once(gpt2_popen, terminal, tmp_path: Path, command) -> None:
    process = gpt2_popen(*command, stdin=terminal[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    stdout, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    assert stdout == b""
    assert b"standard input is a terminal" in stderr
    assert list(tmp_path.iterdir()) == []


def test_binary_is_not_written_to_a_terminal(gpt2_popen, terminal, plays: Path) -> None:
    process = gpt2_popen(
        "bpe-tokenize", plays / "macbeth.txt", stdin=subprocess.DEVNULL, stdout=terminal[1], stderr=subprocess.PIPE
    )
    _, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    assert b"terminal" in stderr
    assert drain(terminal[0]) == b""


BAR = """
import time
from gpt2cli.cli.console import Console
console = Console("gpt2 test")
for step in range(5):
    console.progress(step, 5, "steps", loss="\\x1b[31m3.2")
    time.sleep(0.3)
console.note("[bold]done[/bold] \\x1b]0;owned\\x07")
console.close()
"""


def run_bar(terminal: tuple[int, int], **env: str) -> bytes:
    process = subprocess.Popen(
        [sys.executable, "-c", BAR],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal[1],
        env={**os.environ, "TERM": "xterm", **env},
    )
    output = b""
    deadline = time.monotonic() + WAIT_S
    while process.poll() is None and time.monotonic() < deadline:
        output += drain(terminal[0])
    stdout, _ = process.communicate(timeout=5)
    assert (process.returncode, stdout) == (0, b"")
    return output + drain(terminal[0])


@pytest.mark.slow
def test_bar_on_a_terminal_shows_foreign_text_harmlessly(terminal) -> None:
    shown = run_bar(terminal)
    assert b"steps" in shown
    assert b"\\x1b[31m3.2" in shown, "a control character in a field is shown, not obeyed"
    assert b"[bold]done[/bold]" in shown, "markup is not obeyed either"
    assert b"\x1b]0;owned" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_no_bar_when_asked(terminal, variables: dict[str, str]) -> None:
    assert b"\x1b" not in run_bar(terminal, **variables)
