"""The Reporter of the commands: lines and progress on stderr, rich only on a terminal, foreign text made harmless."""

from __future__ import annotations

import os
import sys
import time
import unicodedata
from typing import Any

from gpt2cli.cli import signals

PLAIN_INTERVAL_S = 30.0
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def harmless(text: str) -> str:
    """Return `text` with control characters (but tab and newline) and bidi controls written as escapes.

    A byte of a file's name that is no UTF-8, which Python holds as a surrogate, is shown as that byte.
    """
    if text.isprintable():
        return text
    return "".join(_escape(ord(c)) if obeyed(c) else c for c in text)


def obeyed(character: str) -> bool:
    """Whether a terminal might do something else than show a character: C0 but tab and newline, DEL, C1, bidi."""
    return character not in "\t\n" and (unicodedata.category(character) in ("Cc", "Cs") or character in _BIDI)


def _escape(code: int) -> str:
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code
    return f"\\x{byte:02x}" if byte <= 0xFF else f"\\u{byte:04x}"


def one_line(text: str) -> str:
    """Return a harmless sentence on one line: a newline in it, which can only be a file's name's, is an escape too."""
    return harmless(text).replace("\n", "\\n")


def say(text: str) -> None:
    """Write one line to stderr; a stderr that is gone is no reason to fail."""
    try:
        sys.stderr.write(one_line(text) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


class Console:
    """Speaks for one command. Implements reporter.Reporter."""

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        self._name = name
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._last_line = time.monotonic() - PLAIN_INTERVAL_S + 5
        self._fancy = (
            not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and "NO_COLOR" not in os.environ
        )

    def note(self, text: str) -> None:
        """Say one line, unless quiet."""
        if not self._quiet:
            self._line(f"{self._name}: {text}")

    def warn(self, text: str) -> None:
        """Say one warning, also when quiet."""
        self._line(f"{self._name}: warning: {text}")

    def progress(self, done: float, total: float | None, unit: str, **fields: str) -> None:
        """Draw a bar on a terminal, else say a plain line every 30 s; answer SIGUSR1 with one line."""
        asked = signals.take_status_request()
        if asked:
            self._line(f"{self._name}: {_plain(done, total, unit, fields)}")
        if self._quiet:
            return
        if self._fancy:
            self._draw(done, total, unit, fields)
        elif not asked and time.monotonic() - self._last_line >= PLAIN_INTERVAL_S:
            self._last_line = time.monotonic()
            self._line(f"{self._name}: {_plain(done, total, unit, fields)}")

    def stopping(self) -> bool:
        """Whether a stopping signal came."""
        return signals.received() is not None

    def close(self) -> None:
        """Take the progress bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, text: str) -> None:
        if self._bar is not None:
            from rich.text import Text

            self._bar.console.print(Text(one_line(text)), soft_wrap=True)
        else:
            say(text)

    def _draw(self, done: float, total: float | None, unit: str, fields: dict[str, str]) -> None:
        if self._bar is None:
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.fields[what]}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(compact=True), TextColumn("{task.fields[extras]}", markup=False),
                console=RichConsole(stderr=True), transient=True, refresh_per_second=4,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=total, what="", extras="")
        extras = one_line("  ".join(f"{name} {value}" for name, value in fields.items()))
        self._bar.update(self._task, completed=done, total=total, what=f"{_count(done)} {unit}", extras=extras)


class Follower:
    """The Reporter of a process that another one speaks for: it listens to signals and says nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing."""

    def progress(self, done: float, total: float | None, unit: str, **fields: str) -> None:
        """Say nothing."""

    def stopping(self) -> bool:
        """Whether a stopping signal came."""
        return signals.received() is not None

    def close(self) -> None:
        """Do nothing."""


def follows() -> bool:
    """Return whether this process is one of several that a launcher started, and not the first, which speaks."""
    return signals.launched_with_others() and os.environ.get("RANK", "0") != "0"


def _plain(done: float, total: float | None, unit: str, fields: dict[str, str]) -> str:
    share = f" of {_count(total)} ({100 * done / total:.0f} %)" if total else ""
    extras = "".join(f", {name} {value}" for name, value in fields.items())
    return f"{_count(done)}{share} {unit}{extras}"


def _count(number: float) -> str:
    return f"{number:,.0f}"
