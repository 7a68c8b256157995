"""Foreign text on a terminal: control characters, bidi controls and broken UTF-8 as escapes, the last line ended."""

from __future__ import annotations

import codecs
import io
from typing import Any, BinaryIO

from gpt2cli.cli.console import harmless


class TerminalText(io.RawIOBase):
    """Takes bytes of UTF-8 as they come, characters cut anywhere, and writes what a terminal may be shown."""

    def __init__(self, terminal: BinaryIO) -> None:
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._ended = True

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Show bytes."""
        self._show(self._decoder.decode(bytes(data)))
        return len(data)

    def finish(self) -> None:
        """Show what is left of a character, and end the line."""
        self._show(self._decoder.decode(b"", final=True))
        if not self._ended:
            self._terminal.write(b"\n")

    def _show(self, text: str) -> None:
        if text:
            self._terminal.write(harmless(text).encode())
            self._ended = text.endswith("\n")
