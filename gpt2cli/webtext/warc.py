"""WARC 1.1 records (ISO 28500), each in a zstd frame or gzip member of its own, so that one is found by offset alone.

Bodies are stored decoded. The headers are the server's, but that Content-Encoding, Transfer-Encoding and
Content-Length are renamed with `X-Crawl-` (Common Crawl's habit) and a true Content-Length is added.
"""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import zstandard

Headers = tuple[tuple[str, str], ...]
Compress = Callable[[bytes], bytes]
COMPRESSIONS = ("zst", "gz")
"""File name endings: zst (the IIPC's WARC zstd, which FastWARC reads) and gz (which everything reads)."""
_RENAMED = frozenset({"content-encoding", "transfer-encoding", "content-length"})
_NAMESPACE = uuid.UUID("5f0d8f0a-93d6-5c7a-9a6e-2f0c8f7b7e11").bytes
_ONE_LINE = MappingProxyType({10: " ", 13: " "})
_ZSTD_LEVEL = 3
_GZIP_LEVEL = 6


@dataclass(frozen=True)
class Response:
    """An HTTP response as kept: `url` is where it came from, `date` its UTC second (ISO 8601), `body` decoded.

    address: of the server; None where it was not kept.
    """

    url: str
    date: str
    status: int
    reason: str
    headers: Headers
    body: bytes | bytearray
    address: str | None = None

    def header(self, name: str) -> str | None:
        """Return the first header of that name (lower case), or None."""
        return next((value for key, value in self.headers if key.lower() == name), None)


def utc_now() -> str:
    """Return this second in UTC as WARC writes it, such as 2017-10-01T12:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def compressor(compression: str) -> Compress:
    """Return what makes one of COMPRESSIONS of a record, for one thread."""
    if compression == "gz":
        return _gzip
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress


def warcinfo_record(date: str, software: str, name: str, compress: Compress) -> bytes:
    """Return the compressed record that opens the WARC file `name`."""
    body = f"software: {software}\r\nformat: WARC File Format 1.1\r\n".encode()
    head = (f"WARC-Type: warcinfo\r\nWARC-Date: {date}\r\nWARC-Filename: {name}\r\n"
            "Content-Type: application/warc-fields")
    return compress(_record(head, body, f"warcinfo {date} {software} {name}"))


def response_record(response: Response, compress: Compress) -> bytes:
    """Return the compressed record of a response."""
    lines = [f"HTTP/1.1 {response.status} {_one_line(response.reason)}"]
    for key, value in response.headers:
        prefix = "X-Crawl-" if key.lower() in _RENAMED else ""
        lines.append(f"{prefix}{_one_line(key)}: {_one_line(value)}")
    lines.append(f"Content-Length: {len(response.body)}\r\n\r\n")
    message = b"".join(("\r\n".join(lines).encode("utf-8", "surrogateescape"), response.body))
    digest = base64.b32encode(hashlib.sha1(response.body, usedforsecurity=False).digest()).decode()
    address = f"WARC-IP-Address: {response.address}\r\n" if response.address else ""
    head = (f"WARC-Type: response\r\nWARC-Target-URI: {_one_line(response.url)}\r\nWARC-Date: {response.date}\r\n"
            f"{address}WARC-Payload-Digest: sha1:{digest}\r\nContent-Type: application/http; msgtype=response")
    return compress(_record(head, message, f"response {response.date} {response.url}"))


def _record(head: str, block: bytes, identity: str) -> bytes:
    digest = hashlib.sha1(_NAMESPACE + identity.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    record_id = uuid.UUID(bytes=digest[:16], version=5)
    text = f"WARC/1.1\r\n{head}\r\nWARC-Record-ID: <urn:uuid:{record_id}>\r\nContent-Length: {len(block)}\r\n\r\n"
    return b"".join((text.encode("utf-8", "surrogateescape"), block, b"\r\n\r\n"))


def _one_line(text: str) -> str:
    return text.translate(_ONE_LINE)


def _gzip(record: bytes) -> bytes:
    coder = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    return coder.compress(record) + coder.flush()
