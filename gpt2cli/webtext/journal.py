"""The crawl's memory: pages.jsonl and the WARC files under --work, append-only and safe against kill -9.

A page counts as fetched when its line in pages.jsonl is on disk, and the line is written only after the bytes it
points to. So whatever a killed run left behind after the last whole line is cut off, and only the URLs that were
in flight are fetched again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.atomic import sync_directory
from gpt2cli.records.jsonl import Record, encode_record, parse_line
from gpt2cli.webtext.warc import Response, WarcAppender

WARC_DIRECTORY = "warc"


@contextlib.contextmanager
def lock_work(work: Path) -> Iterator[None]:
    """Hold `work` (made if missing) for this process. Raises UsageFault while another scrape holds it."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageFault(f"{work} is in use by another webtext-scrape; wait for it, or give another --work"
                             ) from None
        yield


class Journal:
    """What has been fetched. `done` maps a URL to its page record (schema, url, outcome, warc, offset, ...)."""

    def __init__(self, work: Path, software: str) -> None:
        self._path = work / "pages.jsonl"
        self.done: dict[str, Record] = {}
        committed: dict[str, int] = {}
        good = 0
        for record, size in _whole_lines(self._path):
            good += size
            self.done[record["url"]] = record
            if record.get("warc"):
                name = record["warc"]
                committed[name] = max(committed.get(name, 0), record["offset"] + record["length"])
        self._file: BinaryIO = open(self._path, "ab")  # noqa: SIM115
        self._file.truncate(good)
        self._warc = WarcAppender(work / WARC_DIRECTORY, software, committed)
        sync_directory(work)

    def commit(self, pages: Sequence[tuple[dict[str, Any], Response | None]]) -> None:
        """Put finished pages on disk: the responses first, then the lines that point to them."""
        lines = []
        for fields, response in pages:
            if response is not None:
                name, offset, length = self._warc.append(response)
                fields = {**fields, "warc": name, "offset": offset, "length": length}
            lines.append(encode_record("gpt2.page", fields))
            self.done[fields["url"]] = fields
        self._warc.sync()
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the files; everything committed is on disk already."""
        self._warc.close()
        self._file.close()


def _whole_lines(path: Path) -> Iterator[tuple[Record, int]]:
    if not path.exists():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # torn by a kill; the caller cuts it off
            record = parse_line(line, f"{path} line {number}")
            if not isinstance(record.get("url"), str) or record.get("schema") != "gpt2.page/1":
                raise BadInput(f"{path} line {number} is no gpt2.page/1 record; start with a new --work directory")
            yield record, len(line)
