"""The WARC files of a crawl: appended to, cut back to what the state has committed, and replaced when they are full."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from gpt2cli.errors import BadInput
from gpt2cli.records.atomic import sync_directory
from gpt2cli.webtext.warc import Response, compressor, response_record, warcinfo_record

WARC_DIRECTORY = "warc"
MAX_WARC = 1 << 30
"""Bytes at which a new file is begun."""
_NAME = re.compile(r"crawl-(\d{5,})\.warc\.(zst|gz)")


class WarcFiles:
    """Appends records to `DIR/crawl-NNNNN.warc.zst` or .gz.

    `committed` maps the files of the crawl to the byte length that is known to be good; beyond it is what a killed run
    left behind, which is cut off. Raises BadInput for a file that is missing, shorter than that, or not of this crawl.
    """

    def __init__(self, directory: Path, software: str, committed: Mapping[str, int], compression: str = "zst",
                 max_bytes: int = MAX_WARC) -> None:
        self._directory = directory
        self._software = software
        self._compression = compression
        self._compress = compressor(compression)
        self._max_bytes = max_bytes
        directory.mkdir(exist_ok=True)
        _cut_back(directory, committed)
        self._number = max((_number(name) for name in committed), default=-1)
        newest = f"crawl-{self._number:05d}.warc.{compression}"
        self._name = newest if committed.get(newest, max_bytes) < max_bytes else None
        self._file: BinaryIO | None = None

    def next_file(self) -> str | None:
        """Return the name of the file to be opened by the next append(), or None when one is open and has room.

        Tell the state of it first: a file that the state does not know is not of this crawl.
        """
        if self._file is not None and self._file.tell() < self._max_bytes:
            return None
        if self._file is not None or self._name is None:
            self.close()
            self._number += 1
            self._name = f"crawl-{self._number:05d}.warc.{self._compression}"
        return self._name

    def append(self, response: Response) -> tuple[str, int, int]:
        """Write one response; return its file's name, offset and length in bytes. Not on disk before sync()."""
        if self._file is None:
            self._open(response.date)
        assert self._file is not None and self._name is not None
        record = response_record(response, self._compress)
        offset = self._file.tell()
        self._file.write(record)
        return self._name, offset, len(record)

    def sync(self) -> tuple[str, int] | None:
        """Put everything written on disk; return the open file's name and length in bytes."""
        if self._file is None:
            return None
        assert self._name is not None
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._name, self._file.tell()

    def close(self) -> None:
        """Sync and close."""
        if self._file is not None:
            self.sync()
            self._file.close()
            self._file = None

    def _open(self, date: str) -> None:
        assert self._name is not None
        self._file = open(self._directory / self._name, "ab")  # noqa: SIM115
        if self._file.tell() == 0:
            self._file.write(warcinfo_record(date, self._software, self._name, self._compress))
            sync_directory(self._directory)


def _cut_back(directory: Path, committed: Mapping[str, int]) -> None:
    for path in sorted(directory.iterdir()):
        if _NAME.fullmatch(path.name) and path.name not in committed:
            raise BadInput(f"{path} is of another crawl: the state beside it does not know it; give a new --work "
                           "directory")
    for name, length in sorted(committed.items()):
        path = directory / name
        size = path.stat().st_size if path.exists() else 0
        if size < length:
            raise BadInput(f"{path} has {size:,} bytes and the state recorded {length:,}; restore it, or start with a "
                           "new --work directory")
        if size > length:
            os.truncate(path, length)


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    if match is None:
        raise BadInput(f"the crawl's state names a WARC file {name[:80]!r}; start with a new --work directory")
    return int(match[1])
