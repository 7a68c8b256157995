"""Bodies decoded under a cap, in steps: what counts is the size after decompression, and no more is ever held.

The steps let a caller reserve memory before a body grows: 64 KiB on the wire can unfold to 64 MB.
"""

from __future__ import annotations

import zlib

from gpt2cli.webtext.outcomes import FetchFault

ACCEPT_ENCODING = "gzip, deflate"
_GZIP = 31
_ZLIB = 15
_RAW_DEFLATE = -15


class BodyDecoder:
    """Collects a body of at most `max_bytes` decoded bytes: feed() received bytes, step() while `hungry`.

    Raises FetchFault: too_big, or bad_encoding for damaged data and codings that were never asked for.
    """

    def __init__(self, content_encoding: str | None, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._received = 0
        self._fed = b""
        self._body = bytearray()
        coding = (content_encoding or "identity").strip().lower()
        self._wbits: int | None = None
        if coding in ("gzip", "x-gzip"):
            self._wbits = _GZIP
        elif coding == "deflate":
            self._wbits = _ZLIB
        elif coding not in ("identity", ""):
            raise FetchFault("bad_encoding", f"content coding {coding[:40]!r}")
        self._decoder = None if self._wbits is None else zlib.decompressobj(self._wbits)

    @property
    def hungry(self) -> bool:
        """Whether step() has something to do."""
        return bool(self._fed)

    def feed(self, chunk: bytes) -> None:
        """Hand over bytes as received; step() decodes them."""
        self._received += len(chunk)
        self._fed = self._fed + chunk if self._fed else chunk
        if self._received > self._max_bytes:
            if self._decoder is None:  # what fits is the beginning of a robots.txt
                self._body += chunk[: max(0, self._max_bytes - len(self._body))]
            raise FetchFault("too_big")

    def step(self, room: int) -> int:
        """Decode what was fed to at most `room` more bytes of body; return how many they are."""
        before = len(self._body)
        if self._decoder is None:
            self._body += self._fed[:room]
            self._fed = self._fed[room:]
        else:
            self._inflate(room)
        if len(self._body) > self._max_bytes:
            raise FetchFault("too_big")
        return len(self._body) - before

    def finish(self) -> bytearray:
        """Return the body; FetchFault `incomplete` when a compressed one does not end."""
        if self._decoder is not None and self._received and not self._decoder.eof:
            raise FetchFault("incomplete", "the compressed body is cut short")
        return self._body

    def beginning(self) -> bytearray:
        """Return what there is of the body, at most `max_bytes`."""
        del self._body[self._max_bytes :]
        return self._body

    def discard(self) -> None:
        """Free the bytes now: a failure's traceback would keep them until the garbage collector comes by."""
        self._body, self._fed, self._decoder = bytearray(), b"", None

    def _inflate(self, room: int) -> None:
        assert self._decoder is not None
        try:
            decoded = self._decoder.decompress(self._fed, room)
        except zlib.error as error:
            if self._wbits != _ZLIB or self._body or self._received != len(self._fed):
                raise FetchFault("bad_encoding", str(error)) from None
            # Many servers send raw deflate where RFC 9110 asks for a zlib wrapper.
            self._wbits, self._decoder = _RAW_DEFLATE, zlib.decompressobj(_RAW_DEFLATE)
            self._inflate(room)
            return
        self._body += decoded
        self._fed = self._decoder.unconsumed_tail
        if not self._decoder.eof:
            return
        rest = self._decoder.unused_data
        self._fed = b""  # what follows the data is padding, as browsers read it, unless it is one more gzip member
        if self._wbits == _GZIP and rest.startswith(b"\x1f\x8b"):
            self._decoder, self._fed = zlib.decompressobj(_GZIP), rest
