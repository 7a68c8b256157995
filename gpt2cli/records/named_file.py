"""Files whose read errors name them. The system's own say only what failed, which is of no use among a run's files."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any


class NamedFile(io.FileIO):
    """A file opened to be read, unbuffered. Raises OSError with the file's name, in the constructor as in all reads."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, "r")

    def readinto(self, buffer: Any) -> int | None:
        """Read into `buffer`."""
        with self._named():
            return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes."""
        with self._named():
            return super().read(size) or b""

    def readall(self) -> bytes:
        """Read all that follows."""
        with self._named():
            return super().readall() or b""

    def pread(self, size: int, offset: int) -> bytes:
        """Read up to `size` bytes at `offset`, wherever the file stands. Safe from several threads."""
        with self._named():
            return os.pread(self.fileno(), size, offset)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = str(self.name)
            raise


def open_named(path: str | os.PathLike[str], buffer_size: int = io.DEFAULT_BUFFER_SIZE) -> io.BufferedReader:
    """Open a file to be read, as open(path, "rb") does."""
    return io.BufferedReader(NamedFile(path), buffer_size)


def read_named(path: str | os.PathLike[str]) -> bytes:
    """Return all of a file of ours, which is small."""
    with open_named(path) as file:
        return file.read()
