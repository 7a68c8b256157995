"""The `text` of one JSONL line too long to be held: the line is read once and checked, its text spooled to disk.

It accepts and refuses what records.jsonl.parse_line does, in memory that does not grow with the line. The spool is an
unnamed temporary file ($TMPDIR), because what a record is may be told behind its text.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn, cast

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record, parse_line
from gpt2cli.tokens.exact_cut import whole_characters
from gpt2cli.tokens.unicode_loss import UnicodeLoss, decode_utf8, replace_surrogates

MAX_DEPTH = 500
"""Deepest nesting in a long line, half of what a short one may have."""
SHORT = 1 << 16
"""Bytes of a key, a number or a `schema` that are kept; longer ones are checked and forgotten."""
_BLOCK = 1 << 18
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]*+")
_PLAIN = re.compile(rb"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?|true|false|null")
_STRING = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_LONGEST_UNIT = 6
"""Bytes of a \\uXXXX."""


@dataclass
class LongRecord:
    """What a long line was: its other top-level fields (values that are long or nested are None), its text on disk.

    `fields["text"]` is "" for a text that is a string; `spool` holds its UTF-8, `size` bytes; None without one.
    """

    fields: Record = field(default_factory=dict)
    spool: BinaryIO | None = None
    size: int = 0
    loss: UnicodeLoss = field(default_factory=UnicodeLoss)

    def close(self) -> None:
        """Give the text's disk back."""
        if self.spool is not None:
            self.spool.close()

    def blocks(self) -> Iterator[bytes]:
        """Yield the text's UTF-8 and give its disk back. Use once."""
        assert self.spool is not None
        with self.spool as spool:
            spool.seek(0)
            while block := spool.read(_BLOCK):
                yield block


def read_long_record(chunks: Iterator[bytes], where: str, name: str, offset: int) -> LongRecord:
    """Read one line, which `chunks` hold without its LF, as a JSON object; it begins at byte `offset` of file `name`.

    Raises BadInput naming `where`, the line, for anything else than a JSON object.
    """
    return _Scanner(chunks, where, name, offset).record()


def begins_object(data: bytes) -> bool:
    """Whether `data`, the start of a line, may go on to be a JSON object."""
    scanner = _Scanner(iter((data,)), "", "", 0)
    try:
        scanner.record()
    except BadInput:
        return scanner.ended
    return True


class _Scanner:
    def __init__(self, chunks: Iterator[bytes], where: str, name: str, offset: int) -> None:
        self._chunks = chunks
        self._where = where
        self._name = name
        self._data = b""
        self._at = 0
        self._base = 0
        self._offset = offset
        self._record = LongRecord()
        self.ended = False

    def record(self) -> LongRecord:
        """Read all of the line."""
        if self._next() != b"{":
            self._fail("a JSON object was expected")
        self._object()
        if self._next(end_allowed=True):
            self._fail("more after the object")
        return self._record

    def _object(self) -> None:
        """Read from behind the first brace to the last; a stack, because nesting is the input's to choose."""
        stack, expect = [b"{"], "key or end"
        key: str | None = None
        while stack:
            byte = self._next()
            if expect in ("key", "key or end") and byte == b'"':
                key = self._key(keep=len(stack) == 1)
                if self._next() != b":":
                    self._fail("':' was expected")
                expect = "value"
            elif byte in (b"}", b"]") and expect == ("key or end" if byte == b"}" else "value or end"):
                stack.pop()
                expect = "comma or end"
            elif expect == "comma or end" and byte == (b"}" if stack[-1] == b"{" else b"]"):
                stack.pop()
            elif expect == "comma or end" and byte == b",":
                expect = "key" if stack[-1] == b"{" else "value"
            elif expect in ("value", "value or end"):
                expect = self._value(byte, stack, key if len(stack) == 1 else None)
            else:
                self._fail("not JSON")

    def _value(self, byte: bytes, stack: list[bytes], key: str | None) -> str:
        """Read a value that begins with `byte`, or open a container; return what to expect next."""
        if key == "text":
            self._drop_text()
        if byte in (b"{", b"["):
            if key is not None:
                self._record.fields[key] = None if key != "text" else []
            if len(stack) == MAX_DEPTH:
                self._fail("JSON nested too deeply")
            stack.append(byte)
            return "key or end" if byte == b"{" else "value or end"
        if byte != b'"':
            value = self._scalar(byte, key is not None)
        elif key == "text":
            value = self._text()
        else:
            value = self._short_string()
        if key is not None:
            self._record.fields[key] = value
        return "comma or end"

    def _scalar(self, first: bytes, wanted: bool) -> object:
        """Return a number, true, false or null that begins with `first`; None when it is right but not wanted."""
        token = first
        while True:
            found = _SCALAR.match(self._data, self._at)
            assert found is not None
            token += found[0]
            self._at = found.end()
            if self._at < len(self._data) or not self._fill():
                break
            if len(token) > SHORT:
                self._fail("a number with too many digits")
        if not wanted and _PLAIN.fullmatch(token):
            return None
        return parse_line(b'{"":' + token + b"}", self._where)[""]

    def _key(self, keep: bool) -> str | None:
        value = self._short_string()
        return value if keep else None

    def _short_string(self) -> str | None:
        parts: list[str] = []
        size = 0
        for part in self._string():
            size += len(part)
            if size <= SHORT:
                parts.append(part)
        if size > SHORT:
            return None
        # a pair of surrogates may lie in two parts
        return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

    def _text(self) -> str:
        self._record.spool = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
        held = ""
        for part in self._string():
            part, held = held + part, ""
            if "\ud800" <= part[-1:] <= "\udbff":
                part, held = part[:-1], part[-1]
            self._spool(part)
        self._spool(held)
        return ""

    def _spool(self, text: str) -> None:
        assert self._record.spool is not None
        try:
            data = text.encode()
        except UnicodeEncodeError:
            text, lone = replace_surrogates(text)
            self._record.loss.add_surrogates(lone, self._where)
            data = text.encode()
        self._record.spool.write(data)
        self._record.size += len(data)

    def _drop_text(self) -> None:
        self._record.close()
        self._record.spool, self._record.size = None, 0

    def _string(self) -> Iterator[str]:
        """Yield the parts of a string whose first quote was read, decoded; surrogates stay, pairs may be parted."""
        while True:
            found = _STRING.match(self._data, self._at)
            assert found is not None
            end = found.end()
            closed = self._data[end : end + 1] == b'"'
            raw = self._data[self._at : end]
            if not closed and end == len(self._data):
                raw = raw[: whole_characters(raw)]
            if raw:
                place = self._offset + self._base + self._at
                text = decode_utf8(raw, self._record.loss, self._name, place)
                yield str(parse_line(b'{"":"' + text.encode() + b'"}', self._where)[""])
            self._at += len(raw)
            if closed:
                self._at += 1
                return
            if len(self._data) - self._at >= _LONGEST_UNIT:
                self._fail("not JSON (a control character or an unknown escape in a string)")
            if not self._fill():
                if self._at < len(self._data) and self._data[self._at] < 0x20:
                    self._fail("not JSON (a control character in a string)")
                self._end()

    def _next(self, end_allowed: bool = False) -> bytes:
        """Return the next byte that is no space, consumed; b"" at the end of the line, where that may come."""
        while True:
            found = _SPACE.match(self._data, self._at)
            assert found is not None
            self._at = found.end()
            if self._at < len(self._data):
                self._at += 1
                return self._data[self._at - 1 : self._at]
            if not self._fill():
                if not end_allowed:
                    self._end()
                return b""

    def _fill(self) -> bool:
        chunk = next(self._chunks, b"")
        self._base += self._at
        self._data, self._at = self._data[self._at :] + chunk, 0
        return bool(chunk)

    def _end(self) -> NoReturn:
        self.ended = True
        self._fail("not JSON (the line ends inside the object)")

    def _fail(self, what: str) -> NoReturn:
        raise BadInput(f"{self._where}: {what}, at byte {self._base + self._at} of the line")
