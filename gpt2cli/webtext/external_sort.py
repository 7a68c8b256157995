"""Sorting more than memory holds: sorted runs in files, merged. Stable: what is equal stays in the order it came.

RowSort sorts fixed-width numpy rows by one field (unsigned numbers, or bytes `S<n>`, where zero bytes at the end don't
count); LineSort sorts byte strings without b"\n" by all their bytes. Both keep their runs in a directory that the
caller owns, uncompressed, and delete them when they are closed. What a full disk or a removed file raises is OSError.
"""

from __future__ import annotations

import contextlib
import heapq
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from gpt2cli.records.named_file import open_named

LEAST_MEMORY = 1 << 16
"""Bytes below which a sort's memory is not cut."""
MOST_RUNS = 64
"""Runs that are merged at once; when there are more, groups of them are merged into longer ones first."""
_LINE_COST = 80
"""Bytes of memory that a short byte string in a list takes besides its own."""


class _Runs:
    """Files of sorted runs, in order of time. A `with` block deletes what is left of them."""

    def __init__(self, directory: Path, memory: int) -> None:
        self._directory = directory
        self._memory = max(memory, LEAST_MEMORY)
        self._paths: list[Path] = []
        self._made = 0
        self._name = f"sort-{id(self):x}"

    def _new_path(self) -> Path:
        path = self._directory / f"{self._name}-{self._made:06}"
        while path.exists():
            self._name += "x"
            path = self._directory / f"{self._name}-{self._made:06}"
        self._made += 1
        return path

    def _drop(self, paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the runs."""
        self._drop(self._paths)
        self._paths = []

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        self.close()


class RowSort(_Runs):
    """Sorts rows of `dtype` by their field `key` in about `memory` bytes."""

    def __init__(self, directory: Path, dtype: Any, key: str, memory: int) -> None:
        super().__init__(directory, memory)
        self._dtype = np.dtype(dtype)
        self._key = key
        self._capacity = max(1, self._memory // (3 * self._dtype.itemsize + 16))  # rows, their copy, its order
        self._waiting: list[np.ndarray] = []
        self._size = 0

    def __enter__(self) -> RowSort:
        return self

    def add(self, rows: np.ndarray) -> None:
        """Take in rows [k] of the dtype."""
        start = 0
        while start < len(rows):
            part = rows[start : start + self._capacity - self._size]
            self._waiting.append(part.astype(self._dtype))
            self._size += len(part)
            start += len(part)
            if self._size >= self._capacity:
                self._paths.append(self._write(iter((self._take(),))))

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows in order, a block [k] at a time. Use once; nothing is added after it."""
        last = self._take()
        if not self._paths:
            if len(last):
                yield last
            return
        if len(last):
            self._paths.append(self._write(iter((last,))))
        del last
        while len(self._paths) > MOST_RUNS:
            self._shorten()
        yield from self._merged(self._paths)
        self.close()

    def _shorten(self) -> None:
        merged: list[Path] = []
        for at in range(0, len(self._paths), MOST_RUNS):
            group = self._paths[at : at + MOST_RUNS]
            merged.append(self._write(self._merged(group)))
            self._drop(group)
        self._paths = merged

    def _take(self) -> np.ndarray:
        rows = np.concatenate(self._waiting) if self._waiting else np.empty(0, dtype=self._dtype)
        self._waiting, self._size = [], 0
        return rows[np.argsort(rows[self._key], kind="stable")]

    def _write(self, blocks: Iterator[np.ndarray]) -> Path:
        path = self._new_path()
        with open(path, "wb") as file:
            for block in blocks:
                file.write(block.view(np.uint8).data)
        return path

    def _merged(self, paths: Sequence[Path]) -> Iterator[np.ndarray]:
        rows = max(1, self._capacity // (len(paths) + 1))
        return merge_sorted([read_rows(path, self._dtype, rows) for path in paths], self._key)


def read_rows(path: Path, dtype: Any, rows: int) -> Iterator[np.ndarray]:
    """Yield the rows of a flat file, at most `rows` at a time. Raises OSError."""
    kind = np.dtype(dtype)
    with open_named(path) as file:
        at_once = min(rows, 1 + os.fstat(file.fileno()).st_size // kind.itemsize)  # all that is asked for is allocated
        while data := file.read(at_once * kind.itemsize):
            yield np.frombuffer(data, dtype=kind)


def merge_sorted(sources: Sequence[Iterator[np.ndarray]], key: str) -> Iterator[np.ndarray]:
    """Yield the rows of sorted sources in order; of equal ones an earlier source's come first.

    sources: each yields blocks, arrays [k] with the field `key`, sorted by it within and across blocks.
    """
    heads: list[tuple[Iterator[np.ndarray], np.ndarray]] = []
    for source in sources:
        _advance(heads, source)
    while heads:
        limits = [block[key][-1] for _, block in heads]
        first = min(range(len(limits)), key=limits.__getitem__)
        parts: list[np.ndarray] = []
        left: list[tuple[Iterator[np.ndarray], np.ndarray]] = []
        for number, (source, block) in enumerate(heads):
            # Rows equal to the limit may follow in the source that sets it: later sources hold theirs back.
            cut = int(np.searchsorted(block[key], limits[first], side="right" if number <= first else "left"))
            parts.append(block[:cut])
            if cut < len(block):
                left.append((source, block[cut:]))
            else:
                _advance(left, source)
        heads = left
        rows = np.concatenate(parts)
        yield rows[np.argsort(rows[key], kind="stable")]


def _advance(heads: list[tuple[Iterator[np.ndarray], np.ndarray]], source: Iterator[np.ndarray]) -> None:
    for block in source:
        if len(block):
            heads.append((source, block))
            return


class LineSort(_Runs):
    """Sorts lines (bytes without LF) in about `memory` bytes; put the key first in the line."""

    def __init__(self, directory: Path, memory: int) -> None:
        super().__init__(directory, memory)
        self._lines: list[bytes] = []
        self._size = 0

    def __enter__(self) -> LineSort:
        return self

    def add(self, line: bytes) -> None:
        """Take in one line."""
        self._lines.append(line)
        self._size += len(line) + _LINE_COST
        if self._size >= self._memory:
            self._spill()

    def lines(self) -> Iterator[bytes]:
        """Yield all lines in order. Use once; nothing is added after it."""
        if not self._paths:
            self._lines.sort()
            yield from self._lines
            return
        self._spill()
        while len(self._paths) > MOST_RUNS:
            groups = [self._paths[at : at + MOST_RUNS] for at in range(0, len(self._paths), MOST_RUNS)]
            self._paths = []
            for group in groups:
                with contextlib.closing(_merged_lines(group)) as lines:
                    self._write(lines)
                self._drop(group)
        with contextlib.closing(_merged_lines(self._paths)) as lines:
            yield from (line[:-1] for line in lines)
        self.close()

    def _spill(self) -> None:
        self._lines.sort()
        self._write(line + b"\n" for line in self._lines)
        self._lines, self._size = [], 0

    def _write(self, lines: Iterable[bytes]) -> None:
        path = self._new_path()
        self._paths.append(path)
        with open(path, "wb") as file:
            file.writelines(lines)


def _merged_lines(paths: Sequence[Path]) -> Generator[bytes, None, None]:
    with contextlib.ExitStack() as stack:
        # Compared without their LF: it is no part of a line, and a byte below it may follow in a longer one.
        files = [stack.enter_context(open_named(path)) for path in paths]
        yield from heapq.merge(*files, key=lambda line: line[:-1])
