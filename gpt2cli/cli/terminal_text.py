"""Foreign text on a terminal: control characters, bidi controls and broken UTF-8 as escapes, the last line ended."""

from __future__ import annotations

import codecs
import io
from typing import Any, BinaryIO

from gpt2cli.cli.console import Console, harmless


class TerminalText(io.RawIOBase):
    """Takes bytes of UTF-8 as they come, characters cut anywhere, and writes what a terminal may be shown.

    With a console, its progress bar is taken away before each write, which would go on in the bar's line.
    """

    def __init__(self, terminal: BinaryIO, console: Console | None = None) -> None:
        self._terminal = terminal
        self._console = console
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._ended = True

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Show bytes."""
        self._show(self._decoder.decode(bytes(data)))
        return len(data)

    def flush(self) -> None:
        """Flush the terminal."""
        self._terminal.flush()

    def finish(self) -> None:
        """Show what is left of a character, and end the line."""
        self._show(self._decoder.decode(b"", final=True))
        if not self._ended:
            self._show("\n")
        self.flush()

    def _show(self, text: str) -> None:
        if not text:
            return
        if self._console is not None:
            self._console.close()
        self._terminal.write(harmless(text).encode())
        self._ended = text.endswith("\n")
        if self._console is not None:
            self.flush()
