"""Flat integers in a file as ids: read in bounded pieces, each id checked against the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from gpt2cli.errors import BadInput

CHUNK_IDS = 1 << 17


def read_ids(stream: BinaryIO, dtype: str, n_vocab: int, name: str, *, count: int | None = None, offset: int = 0
             ) -> Iterator[np.ndarray]:
    """Yield `count` integers (None: all there are) of numpy type `dtype` as ids [n <= 131,072], in order.

    offset: bytes of the file before them, for messages. Raises BadInput where the stream ends too soon or inside an
    integer, and for an id that is not in 0 to n_vocab - 1.
    """
    width = np.dtype(dtype).itemsize
    done = 0
    while count is None or done < count:
        wanted = CHUNK_IDS if count is None else min(CHUNK_IDS, count - done)
        data = stream.read(wanted * width)
        place = offset + done * width
        if len(data) % width or (count is not None and len(data) < wanted * width):
            what = f"{count:,} tokens" if count is not None else f"tokens of {width} bytes"
            raise BadInput(f"{name} ends at byte {place + len(data)}, where {what} would go on; it was cut short")
        if not data:
            return
        ids = np.frombuffer(data, dtype=dtype)
        check_ids(ids, n_vocab, name, place)
        done += len(ids)
        yield ids


def check_ids(ids: np.ndarray, n_vocab: int, name: str, place: int) -> None:
    """Raise BadInput naming the first id outside 0 to n_vocab - 1; `place` is the byte at which `ids` begin."""
    if not len(ids) or (int(ids.max()) < n_vocab and int(ids.min()) >= 0):
        return
    first = int(np.flatnonzero((ids >= n_vocab) | (ids < 0))[0])
    raise BadInput(f"{name}: the token at byte {place + first * ids.itemsize} is {int(ids[first])}, and the vocabulary "
                   f"has {n_vocab:,} ids; name the right one with --vocab")


def check_end(stream: BinaryIO, name: str, offset: int) -> None:
    """Raise BadInput when anything follows in `stream`, which stands at byte `offset`."""
    if stream.read(1):
        raise BadInput(f"{name} goes on after byte {offset}, where its last token ends; it is not what its header says")
