r"""Standard output: bytes as they are into a file or a pipe; on a terminal no byte of foreign text is obeyed.

There control characters and bidi controls are escapes of JSON's form, \u009b, so that a record that is copied off the
screen is a record still. What draws by escape codes itself (rich) writes to drawing_stream(), and sees to its own text.
"""

from __future__ import annotations

import codecs
import io
import select
import sys
from typing import TextIO

from gpt2cli.cli.console import obeyed
from gpt2cli.errors import StdoutGone

_BUFFER = 1 << 16


class StdoutFile(io.FileIO):
    """Descriptor 1. A reader that left is StdoutGone, so that no other broken pipe is mistaken for it.

    drawn: the writer draws, and nothing is escaped.
    """

    def __init__(self, *, drawn: bool = False) -> None:
        super().__init__(1, "wb", closefd=False)
        escaping = self.isatty() and not drawn
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace") if escaping else None

    def write(self, data) -> int | None:  # type: ignore[no-untyped-def, override]
        """Write; return how many bytes of `data` were taken."""
        if self._decoder is None:
            return self._put(data)
        shown = escaped(self._decoder.decode(bytes(data))).encode()
        while shown:
            written = self._put(shown)
            if written is None:  # another program left the terminal so that a write does not wait
                select.select([], [self.fileno()], [])
            shown = shown[written or 0 :]
        return len(data)

    def _put(self, data) -> int | None:  # type: ignore[no-untyped-def]
        try:
            return super().write(data)
        except BrokenPipeError:
            raise StdoutGone from None
        except OSError as error:
            error.filename = "standard output"
            raise


def escaped(text: str) -> str:
    """Return `text` with what a terminal would obey as JSON's escapes, but for tabs and newlines."""
    if text.isprintable():
        return text
    return "".join(f"\\u{ord(c):04x}" if obeyed(c) else c for c in text)


def open_stdout() -> io.TextIOWrapper:
    """Return what sys.stdout is to be for all of the process."""
    return _text(StdoutFile())


def drawing_stream() -> TextIO:
    """Return where to draw by escape codes; what was written to sys.stdout is out before."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return _text(StdoutFile(drawn=True)) if isinstance(raw, StdoutFile) else sys.stdout


def _text(raw: StdoutFile) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(raw, _BUFFER), encoding="utf-8", errors="backslashreplace", newline="\n",
                            line_buffering=raw.isatty())
