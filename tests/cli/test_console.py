"""What reaches a terminal is harmless, and what reaches a file is plain lines."""

from __future__ import annotations

import io
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.cli import signals
from gpt2cli.cli.console import Console, harmless, say

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\x9b31m\x7f\r\x00"


def test_a_byte_that_is_no_utf8_is_shown_as_that_byte() -> None:
    assert harmless(os.fsdecode(b"b\xff\x80.txt")) == "b\\xff\\x80.txt"
    assert harmless("\ud800") == "\\ud800"


def test_control_and_bidi_characters_become_escapes() -> None:
    assert harmless(HOSTILE) == (
        "\\x1b]0;owned\\x07\\x1b[2J\\u202egnp.exe\\x9b31m\\x7f\\x0d\\x00")


def test_ordinary_text_stays_as_it_is() -> None:
    text = "naïve façade, 東京 🙂\ttab\nline"
    assert harmless(text) == text


@given(st.text())
def test_nothing_that_moves_a_cursor_survives(text: str) -> None:
    shown = harmless(text)
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)
    assert not any(0x7F <= ord(c) < 0xA0 for c in shown)
    assert harmless(shown) == shown


def test_notes_and_warnings_are_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console("gpt2 test")
    console.note("read 3 files")
    console.warn(f"odd title {HOSTILE}")
    console.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first == "gpt2 test: read 3 files"
    assert second.startswith("gpt2 test: warning: odd title \\x1b]0;owned")


def test_quiet_keeps_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console("gpt2 test", quiet=True)
    console.note("news")
    console.warn("care")
    console.progress(1, 2, "steps")
    assert capsys.readouterr().err == "gpt2 test: warning: care\n"


def test_progress_without_a_terminal_is_a_rare_plain_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("gpt2cli.cli.console.time.monotonic", lambda: now[0])
    console = Console("gpt2 test")
    for step in range(1, 101):
        now[0] += 1
        console.progress(step, 100, "steps", loss="3.21")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "gpt2 test: 5 of 100 (5 %) steps, loss 3.21"
    assert len(lines) == 4, "one early line, then one every 30 s"


def test_usr1_gets_one_line_even_when_quiet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals._State, "status_wanted", True)
    console = Console("gpt2 test", quiet=True)
    console.progress(1500, None, "pages")
    console.progress(1501, None, "pages")
    assert capsys.readouterr().err == "gpt2 test: 1,500 pages\n"


def test_a_stderr_that_is_gone_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    with pytest.raises(ValueError, match="closed"):
        closed.write("as it would be")
    assert say("nobody hears this") is None
