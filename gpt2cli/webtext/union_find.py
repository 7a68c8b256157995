"""Which documents belong together: a union-find over ranks, kept in a file that is mapped into memory.

It takes 8 bytes for each document, which the system may write out when memory is short. The root of a set is always
its least member, so the sets and their roots don't depend on the order in which they were joined.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

_BLOCK = 1 << 18


class UnionFind:
    """Sets of the numbers 0 to size - 1, each alone at first. A `with` block deletes its file."""

    def __init__(self, size: int, path: Path) -> None:
        self.size = size
        self._path = path
        with open(path, "wb") as file:
            for start in range(0, size, _BLOCK):
                file.write(np.arange(start, min(size, start + _BLOCK), dtype="<u8").data)
        self._parent = np.empty(0, dtype="<u8")
        if size:
            with open(path, "r+b") as file:
                self._parent = np.frombuffer(mmap.mmap(file.fileno(), 0), dtype="<u8")

    def __enter__(self) -> UnionFind:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        self._parent = np.empty(0, dtype="<u8")
        self._path.unlink(missing_ok=True)

    def roots(self, members: np.ndarray) -> np.ndarray:
        """Return the least member of each one's set, uint64 [k]."""
        found = self._parent[members]
        while True:
            above = self._parent[found]
            if np.array_equal(above, found):
                break
            found = above
        self._parent[members] = found
        return found

    def join(self, pairs: np.ndarray) -> np.ndarray:
        """Join the sets of each pair, uint64 [k, 2]; return the pairs that were not in one set already."""
        roots = np.stack([self.roots(pairs[:, 0]), self.roots(pairs[:, 1])], axis=1)
        parent = self._parent
        joined = []
        for place in np.flatnonzero(roots[:, 0] != roots[:, 1]).tolist():
            one, other = self._root(int(roots[place, 0])), self._root(int(roots[place, 1]))
            if one != other:
                parent[max(one, other)] = min(one, other)
                joined.append(place)
        return pairs[joined]

    def blocks(self, size: int = _BLOCK) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first member, roots of the members from there [k]) for all members, in order."""
        for start in range(0, self.size, size):
            yield start, self.roots(np.arange(start, min(self.size, start + size), dtype=np.uint64))

    def _root(self, member: int) -> int:
        parent = self._parent
        while (above := int(parent[member])) != member:
            parent[member] = parent[above]
            member = above
        return member
