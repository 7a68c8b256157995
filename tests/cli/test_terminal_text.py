"""What a terminal is shown of foreign text, and that it does not run into a bar or a message."""

from __future__ import annotations

import io

from gpt2cli.cli.console import Console
from gpt2cli.cli.terminal_text import TerminalText


class Bar(Console):
    """A console whose bar stands until it is taken away."""

    stands = True

    def close(self) -> None:
        self.stands = False


def test_characters_cut_anywhere_are_shown_whole_and_controls_as_escapes() -> None:
    terminal = io.BytesIO()
    shown = TerminalText(terminal)
    for byte in "é\x1b[31m\n€".encode() + b"\xe2\x82":
        shown.write(bytes([byte]))
    shown.finish()
    assert terminal.getvalue().decode() == "é\\x1b[31m\n€\\xe2\\x82\n"


def test_a_line_is_ended_once_and_nothing_is_no_line() -> None:
    for written, expected in ((b"", b""), (b"a", b"a\n"), (b"a\n", b"a\n")):
        terminal = io.BytesIO()
        shown = TerminalText(terminal)
        shown.write(written)
        shown.finish()
        assert terminal.getvalue() == expected


def test_the_bar_is_taken_away_before_text_and_the_text_is_there_at_once() -> None:
    raw = io.BytesIO()
    console = Bar("gpt2 test")
    shown = TerminalText(io.BufferedWriter(raw), console)  # type: ignore[arg-type]
    shown.write(b"")
    assert console.stands
    shown.write(b"text")
    assert not console.stands
    assert raw.getvalue() == b"text"
