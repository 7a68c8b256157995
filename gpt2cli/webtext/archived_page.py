"""What a WARC record holds of a page: the HTML as the server meant it, or why there is none."""

from __future__ import annotations

import io
import zlib

from gpt2cli.errors import BadInput
from gpt2cli.records.streams import ZSTD_MAGIC, decompressed
from gpt2cli.webtext.charset import header_charset
from gpt2cli.webtext.page import NoPage, PageBody
from gpt2cli.webtext.warc_reader import MAX_HEADER, WarcRecord, split_fields

PAGE_KINDS = frozenset({"response", "resource", "revisit"})
"""Kinds of record that stand for something fetched."""
HTML_TYPES = ("text/html", "application/xhtml+xml")
_GZIP_MAGIC = b"\x1f\x8b"
_RAW_DEFLATE = -15
_STATUS_DIGITS = 3
_ZSTD_WINDOW_LOG = 23  # RFC 9659: what a browser accepts


def page_of(record: WarcRecord, max_bytes: int) -> PageBody:
    """Return the page in a record of one of PAGE_KINDS; at most `max_bytes` decoded.

    Raises NoPage: http_error (a status other than 200), not_html, too_big, bad_encoding, bad_response, revisit (the
    page stands elsewhere).
    """
    if record.kind == "revisit":
        raise NoPage("revisit", record.fields.get("warc-refers-to-target-uri", ""))
    if record.block is None:
        raise NoPage("too_big")
    if record.kind == "resource":
        kind = record.fields.get("content-type")
        _require_html(kind, record.block)
        return PageBody(_capped(record.block, max_bytes), header_charset(kind))
    head, body = _split_message(record.block)
    status_line, *lines = head.replace(b"\r\n", b"\n").split(b"\n")
    headers = dict(reversed(split_fields(lines)))  # the first of a name counts
    words = status_line.split(None, 2)
    if len(words) < 2 or not words[0].upper().startswith(b"HTTP/") or not (
            words[1].isdigit() and len(words[1]) == _STATUS_DIGITS):
        raise NoPage("bad_response", "no HTTP status line")
    if int(words[1]) != 200:
        raise NoPage("http_error", f"status {words[1].decode('ascii')}")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _dechunked(body, max_bytes)
    body = _decoded(body, headers.get("content-encoding", ""), max_bytes)
    kind = headers.get("content-type")
    _require_html(kind, body)
    return PageBody(_capped(body, max_bytes), header_charset(kind))


def _split_message(block: bytes) -> tuple[bytes, bytes]:
    ends = [(at, len(mark)) for mark in (b"\r\n\r\n", b"\n\n") if (at := block.find(mark, 0, MAX_HEADER)) >= 0]
    if not ends:
        raise NoPage("bad_response", "the HTTP header does not end")
    at, length = min(ends)
    return block[:at], block[at + length:]


def _require_html(content_type: str | None, body: bytes) -> None:
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind and kind not in HTML_TYPES:
        raise NoPage("not_html", kind[:100])
    if not kind and not body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise NoPage("not_html", "no content type, and no markup")


def _capped(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise NoPage("too_big", f"more than {max_bytes} bytes")
    return body


def _dechunked(body: bytes, max_bytes: int) -> bytes:
    """Return a chunked body in one; one that was put together already, as many archivers do, as it is."""
    pieces: list[bytes] = []
    at = total = 0
    while True:
        end = body.find(b"\n", at, at + 1024)
        digits = body[at:end].split(b";")[0].strip() if end >= 0 else b""
        try:
            size = int(digits, 16) if 0 < len(digits) <= 8 and digits.isalnum() else -1
        except ValueError:
            size = -1
        if size < 0 or end + 1 + size > len(body):
            if not pieces:
                return body
            raise NoPage("bad_encoding", f"no chunk begins at byte {at} of the body")
        if size == 0:
            return b"".join(pieces)
        total += size
        if total > max_bytes:
            raise NoPage("too_big", f"more than {max_bytes} bytes")
        pieces.append(body[end + 1: end + 1 + size])
        at = end + 1 + size
        at += 2 if body[at: at + 2] == b"\r\n" else 1


def _decoded(body: bytes, encoding: str, max_bytes: int) -> bytes:
    for coding in reversed([name.strip() for name in encoding.lower().split(",") if name.strip()]):
        if coding in ("gzip", "x-gzip"):
            # archivers that store the body decoded often leave the header as it was
            body = _inflate(body, 31, max_bytes) if body.startswith(_GZIP_MAGIC) else body
        elif coding == "deflate":
            body = _undeflated(body, max_bytes)
        elif coding == "zstd":
            body = _unzstd(body, max_bytes) if body.startswith(ZSTD_MAGIC) else body
        elif coding == "br":
            body = _unbrotli(body, max_bytes)
        elif coding != "identity" and not body.lstrip().startswith(b"<"):
            raise NoPage("bad_encoding", f"content coding {coding[:40]}")
    return body


def _undeflated(body: bytes, max_bytes: int) -> bytes:
    if body[:1] == b"\x78":
        return _inflate(body, 15, max_bytes)
    # many servers send raw deflate where RFC 9110 asks for a zlib wrapper
    return body if body.lstrip().startswith(b"<") else _inflate(body, _RAW_DEFLATE, max_bytes)


def _inflate(body: bytes, wbits: int, max_bytes: int) -> bytes:
    decoder = zlib.decompressobj(wbits)
    try:
        data = decoder.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise NoPage("bad_encoding", str(error)) from None
    if len(data) > max_bytes:
        raise NoPage("too_big", f"more than {max_bytes} bytes")
    if not decoder.eof:
        raise NoPage("bad_encoding", "the compressed body is cut short")
    return data


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    try:
        return _capped(decompressed(io.BytesIO(body), "the body", _ZSTD_WINDOW_LOG).read(max_bytes + 1), max_bytes)
    except BadInput as error:
        raise NoPage("bad_encoding", str(error)) from None


def _unbrotli(body: bytes, max_bytes: int) -> bytes:
    import brotli

    decoder = brotli.Decompressor()
    try:
        data = bytes(decoder.process(body, output_buffer_limit=max_bytes + 1))
    except brotli.error as error:
        # brotli has no magic: what is no stream of it and looks like markup was stored decoded
        if body.lstrip().startswith(b"<"):
            return body
        raise NoPage("bad_encoding", str(error)) from None
    if len(data) > max_bytes:
        raise NoPage("too_big", f"more than {max_bytes} bytes")
    if not decoder.is_finished():
        raise NoPage("bad_encoding", "the compressed body is cut short")
    return data
