"""Documents set aside on disk for a while: blocks go in at the end and come out in the same order.

A spool is a temporary of one process, uncompressed: the bytes of the tokens and 16 more for each document.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gpt2cli.errors import IOFailure
from gpt2cli.records.named_file import open_named
from gpt2cli.tokens.blocks import DocumentBlock

_HEAD = struct.Struct("<QQ")


class Spool:
    """A file of document blocks. `bytes` and `documents` count what was put in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.bytes = 0
        self.documents = 0
        self._dtype = np.dtype("<u2")

    def append(self, block: DocumentBlock) -> None:
        """Add a block; all must have tokens of one dtype. Raises OSError."""
        self._dtype = block.tokens.dtype
        parts = (block.hashes.astype("<u8", copy=False), block.lengths.astype("<i8", copy=False), block.tokens)
        with open(self._path, "ab") as file:
            file.write(_HEAD.pack(len(block), len(block.tokens)))
            for part in parts:
                file.write(np.ascontiguousarray(part).data)
        self.bytes += sum(part.nbytes for part in parts)
        self.documents += len(block)

    def __iter__(self) -> Iterator[DocumentBlock]:
        """Yield the blocks that were added. Raises OSError."""
        if not self.documents:
            return
        with open_named(self._path) as file:
            while head := file.read(_HEAD.size):
                documents, tokens = _HEAD.unpack(head)
                hashes = self._array(file, "<u8", documents)
                lengths = self._array(file, "<i8", documents)
                yield DocumentBlock(self._array(file, self._dtype, tokens), lengths, hashes)

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self._path.unlink(missing_ok=True)

    def _array(self, file: BinaryIO, dtype: np.dtype | str, count: int) -> np.ndarray:
        array = np.empty(count, dtype=dtype)
        if count and file.readinto(array.data.cast("B")) != array.nbytes:  # type: ignore[attr-defined]
            raise IOFailure(f"{self._path} became shorter while it was in use; run pack again")
        return array
