"""Standard output on a terminal: what it might obey is escaped, however it is cut, and what is drawn is not."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.cli import stdout
from gpt2cli.cli.console import obeyed


@given(st.text(st.characters(codec="utf-8")))
def test_a_records_escapes_are_json(text: str) -> None:
    line = json.dumps({"text": text}, ensure_ascii=False)
    shown = stdout.escaped(line)
    assert not any(map(obeyed, shown)) and json.loads(shown) == {"text": text}


@contextlib.contextmanager
def terminal() -> Iterator[int]:
    """Our end of a terminal that is descriptor 1, with sys.stdout on it. No fixture: pytest takes 1 between the two."""
    ours, theirs = pty.openpty()
    kept, before = os.dup(1), sys.stdout
    os.dup2(theirs, 1)
    try:
        sys.stdout = stdout.open_stdout()
        yield ours
    finally:
        sys.stdout = before
        os.dup2(kept, 1)
        for descriptor in (ours, theirs, kept):
            os.close(descriptor)


def seen(ours: int) -> str:
    data = b""
    while select.select([ours], [], [], 0)[0]:
        data += os.read(ours, 65536)
    return data.decode().replace("\r\n", "\n")


def test_a_character_that_comes_in_two_writes() -> None:
    with terminal() as ours:
        for byte in "\u202e\x9b\x1b\u20ac".encode():
            sys.stdout.buffer.write(bytes([byte]))
            sys.stdout.buffer.flush()
        shown = seen(ours)
    assert shown == "\\u202e\\u009b\\u001b\u20ac"


def test_bytes_that_are_no_utf8() -> None:
    with terminal() as ours:
        sys.stdout.buffer.write(b"a\xffb\n")
        sys.stdout.buffer.flush()
        shown = seen(ours)
    assert shown == "a\\xffb\n"


def test_what_is_drawn_comes_as_it_is_and_in_order() -> None:
    with terminal() as ours:
        sys.stdout.write("first\x07")
        drawing = stdout.drawing_stream()
        drawing.write("\x1b[1mbold\x1b[0m\n")
        drawing.flush()
        shown = seen(ours)
    assert shown == "first\\u0007\x1b[1mbold\x1b[0m\n"


def test_elsewhere_sys_stdout_itself_is_drawn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert stdout.drawing_stream() is sys.stdout
