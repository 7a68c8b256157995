"""Bodies decoded under a cap: what counts is the size after decompression, and no more than that is ever held."""

from __future__ import annotations

import zlib

from gpt2cli.webtext.outcomes import FetchFault

ACCEPT_ENCODING = "gzip, deflate"
_GZIP = 31
_ZLIB = 15
_RAW_DEFLATE = -15


class BodyDecoder:
    """Collects a body of at most `max_bytes` decoded bytes.

    Raises FetchFault: too_big, or bad_encoding for damaged data and codings that were never asked for.
    """

    def __init__(self, content_encoding: str | None, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._received = 0
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

    def feed(self, chunk: bytes) -> None:
        """Add bytes as received."""
        self._received += len(chunk)
        if self._decoder is None:
            self._body += chunk
        if self._received > self._max_bytes:
            raise FetchFault("too_big")
        if self._decoder is None:
            return
        while chunk:
            self._inflate(chunk)
            if len(self._body) > self._max_bytes:
                raise FetchFault("too_big")
            if not self._decoder.eof:
                return
            chunk = self._decoder.unused_data
            if self._wbits != _GZIP or not chunk.startswith(b"\x1f\x8b"):
                return  # what follows the data is padding, as browsers read it
            self._decoder = zlib.decompressobj(_GZIP)

    def finish(self) -> bytes:
        """Return the body; FetchFault `incomplete` when a compressed one does not end."""
        if self._decoder is not None and self._received and not self._decoder.eof:
            raise FetchFault("incomplete", "the compressed body is cut short")
        return bytes(self._body)

    def beginning(self) -> bytes:
        """Return what there is of the body, at most `max_bytes`."""
        return bytes(self._body[: self._max_bytes])

    def _inflate(self, chunk: bytes) -> None:
        assert self._decoder is not None
        room = self._max_bytes + 1 - len(self._body)
        try:
            self._body += self._decoder.decompress(chunk, room)
        except zlib.error as error:
            if self._wbits != _ZLIB or self._body or self._received != len(chunk):
                raise FetchFault("bad_encoding", str(error)) from None
            # Many servers send raw deflate where RFC 9110 asks for a zlib wrapper.
            self._wbits, self._decoder = _RAW_DEFLATE, zlib.decompressobj(_RAW_DEFLATE)
            self._inflate(chunk)
