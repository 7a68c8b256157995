"""WARC 1.1 (ISO 28500), written and read: one gzip member per record, so that a record is found by offset alone.

Bodies are stored decoded. The headers are the server's, but that Content-Encoding, Transfer-Encoding and
Content-Length are renamed with `X-Crawl-` (Common Crawl's habit) and a true Content-Length is added.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import time
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gpt2cli.errors import BadInput

Headers = tuple[tuple[str, str], ...]
_RENAMED = frozenset({"content-encoding", "transfer-encoding", "content-length"})
_MAX_RECORD = 1 << 30
_NAMESPACE = uuid.UUID("5f0d8f0a-93d6-5c7a-9a6e-2f0c8f7b7e11")


@dataclass(frozen=True)
class Response:
    """An HTTP response as kept: `url` is where it came from, `date` its UTC second (ISO 8601), `body` decoded."""

    url: str
    date: str
    status: int
    reason: str
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first header of that name (lower case), or None."""
        return next((value for key, value in self.headers if key.lower() == name), None)


def utc_now() -> str:
    """Return this second in UTC as WARC writes it, such as 2017-10-01T12:00:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def warcinfo_record(date: str, software: str) -> bytes:
    """Return the gzip member that opens a WARC file."""
    body = f"software: {software}\r\nformat: WARC File Format 1.1\r\n".encode()
    head = [("WARC-Type", "warcinfo"), ("WARC-Date", date), ("Content-Type", "application/warc-fields")]
    return _member(head, body, f"warcinfo {date} {software}")


def response_record(response: Response) -> bytes:
    """Return the gzip member of a response."""
    lines = [f"HTTP/1.1 {response.status} {_one_line(response.reason)}"]
    for key, value in response.headers:
        prefix = "X-Crawl-" if key.lower() in _RENAMED else ""
        lines.append(f"{prefix}{_one_line(key)}: {_one_line(value)}")
    lines.append(f"Content-Length: {len(response.body)}")
    message = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + response.body
    digest = base64.b32encode(hashlib.sha1(response.body).digest()).decode()
    head = [
        ("WARC-Type", "response"), ("WARC-Target-URI", response.url), ("WARC-Date", response.date),
        ("WARC-Payload-Digest", f"sha1:{digest}"), ("Content-Type", "application/http; msgtype=response"),
    ]
    return _member(head, message, f"response {response.date} {response.url}")


def read_response(path: str | os.PathLike[str], offset: int, length: int) -> Response:
    """Return the response whose gzip member lies at `offset`; raise BadInput when there is none that is whole."""
    where = f"{path} at byte {offset}"
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(length)
    try:
        record = _gunzip(data, where)
        head, _, block = record.partition(b"\r\n\r\n")
        fields = _parse_fields(head.split(b"\r\n")[1:])
        size = int(fields["content-length"])
        if not head.startswith(b"WARC/1.") or fields["warc-type"] != "response" or len(block) < size:
            raise ValueError("no whole response record")
        http, _, body = block[:size].partition(b"\r\n\r\n")
        status_line, *lines = http.split(b"\r\n")
        words = status_line.decode("utf-8", "replace").split(" ", 2)
        headers = tuple(_split_field(line) for line in lines)
        return Response(fields["warc-target-uri"], fields["warc-date"], int(words[1]), words[2], headers, body)
    except (ValueError, KeyError, IndexError, EOFError, zlib.error) as error:
        raise BadInput(f"{where}: no readable WARC response of {length} bytes ({error})") from None


class WarcAppender:
    """Appends records to `DIR/crawl-NNNNN.warc.gz`, starting a new file above `max_bytes`.

    `committed` maps file names to the byte length that is known to be good; anything beyond, and any file not
    named in it, is what a killed run left behind and is cut off at the start.
    """

    def __init__(self, directory: Path, software: str, committed: dict[str, int], max_bytes: int = 1 << 30) -> None:
        self._directory = directory
        self._software = software
        self._max_bytes = max_bytes
        directory.mkdir(exist_ok=True)
        for path in sorted(directory.glob("crawl-*.warc.gz")):
            if path.name not in committed:
                path.unlink()
            elif path.stat().st_size < committed[path.name]:
                raise BadInput(f"{path} is shorter than the {committed[path.name]} bytes recorded for it; "
                               "restore it or start with a new --work directory")
            else:
                os.truncate(path, committed[path.name])
        self._number = max((int(name[6:11]) for name in committed), default=0)
        self._file: BinaryIO | None = None

    def append(self, response: Response) -> tuple[str, int, int]:
        """Write one response; return its file's name, offset and length in bytes. Not on disk before sync()."""
        file = self._open(response.date)
        record = response_record(response)
        offset = file.tell()
        file.write(record)
        return self._name(), offset, len(record)

    def sync(self) -> None:
        """Put everything written on disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _name(self) -> str:
        return f"crawl-{self._number:05d}.warc.gz"

    def _open(self, date: str) -> BinaryIO:
        if self._file is not None and self._file.tell() >= self._max_bytes:
            self.close()
            self._number += 1
        if self._file is None:
            self._file = open(self._directory / self._name(), "ab")  # noqa: SIM115
            if self._file.tell() == 0:
                self._file.write(warcinfo_record(date, self._software))
        return self._file


def _member(head: list[tuple[str, str]], block: bytes, identity: str) -> bytes:
    record_id = uuid.uuid5(_NAMESPACE, identity)
    lines = ["WARC/1.1", *(f"{key}: {_one_line(value)}" for key, value in head),
             f"WARC-Record-ID: <urn:uuid:{record_id}>", f"Content-Length: {len(block)}"]
    record = "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + block + b"\r\n\r\n"
    return gzip.compress(record, 6, mtime=0)


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def _gunzip(data: bytes, where: str) -> bytes:
    decoder = zlib.decompressobj(wbits=31)
    record = decoder.decompress(data, _MAX_RECORD)
    if not decoder.eof:
        raise BadInput(f"{where}: the gzip member is cut short or larger than {_MAX_RECORD} bytes")
    return record


def _parse_fields(lines: list[bytes]) -> dict[str, str]:
    return {key.lower(): value for key, value in map(_split_field, lines)}


def _split_field(line: bytes) -> tuple[str, str]:
    key, _, value = line.decode("utf-8", "surrogateescape").partition(":")
    return key, value.strip()
