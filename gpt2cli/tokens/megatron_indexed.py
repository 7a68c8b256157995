r"""Megatron-LM's indexed data sets: PREFIX.bin with the tokens, PREFIX.idx with what lies where.

PREFIX.idx, little-endian: "MMIDIDX\0\0", a version (uint64, 1), the code of the tokens' type (uint8), the number of
sequences n and of document boundaries d (uint64 each); then n int32 tokens a sequence, n int64 bytes at which each
begins in PREFIX.bin, and d int64 sequence numbers: 0, then where each document ends. Source: indexed_dataset.py in
megatron/core/datasets. Its preprocess_data.py --append-eod puts end-of-text after each document, one sequence each.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.named_file import NamedFile
from gpt2cli.records.shard import ShardHeader
from gpt2cli.records.streams import open_raw_input
from gpt2cli.tokens.eot_documents import ForeignTally, Part, documents_of_entry
from gpt2cli.tokens.id_stream import check_end, read_ids
from gpt2cli.tokens.vocabulary import Vocabulary

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEAD = struct.Struct("<9sQBQQ")
TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
"""Megatron's codes of integer types; 6 and 7 are floats, which are no tokens."""
CODE_OF_WIDTH = {2: 8, 4: 4}
_ITEMS = 1 << 16


def read_megatron(paths: Sequence[str], vocabulary: Vocabulary, tally: ForeignTally) -> Iterator[Part]:
    """Yield the documents of data sets named by prefix, .bin or .idx.

    Raises BadInput when .idx is damaged or does not fit .bin, or an id is outside the vocabulary.
    """
    for path in paths:
        if path == "-":
            raise UsageFault("a Megatron data set is two files, so it can't come from standard input; name its prefix")
        prefix = path[:-4] if path.endswith((".bin", ".idx")) else path
        index = _Index(prefix)
        try:
            yield from _documents(index, vocabulary, tally)
        finally:
            index.close()


def _documents(index: _Index, vocabulary: Vocabulary, tally: ForeignTally) -> Iterator[Part]:
    name = f"{index.prefix}.bin"
    with open_raw_input(name) as stream:
        tokens = _Tokens(read_ids(stream, index.dtype, vocabulary.n_vocab, name, count=index.n_tokens))
        for size in index.document_sizes():
            yield from documents_of_entry(tokens.take(size), vocabulary.eot, tally)
        check_end(stream, name, index.n_tokens * np.dtype(index.dtype).itemsize)


class _Tokens:
    """A stream of ids from which so many at a time are taken."""

    def __init__(self, chunks: Iterator[np.ndarray]) -> None:
        self._chunks = chunks
        self._rest = np.empty(0, dtype="<u2")

    def take(self, count: int) -> Iterator[np.ndarray]:
        """Yield the next `count` ids, in pieces."""
        while count:
            if not len(self._rest):
                self._rest = next(self._chunks)
            part, self._rest = self._rest[:count], self._rest[count:]
            count -= len(part)
            yield part


class _Index:
    """A checked .idx: `dtype`, `n_tokens`, and the documents' sizes, read in pieces of bounded size."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._name = f"{prefix}.idx"
        for path in (self._name, f"{prefix}.bin"):
            if not os.path.isfile(path):
                raise UsageFault(f"there is no {path}; name a Megatron data set by what comes before .bin and .idx")
        self._file = NamedFile(self._name)
        try:
            self._read_head()
            self.n_tokens = self._check_sequences()
            self._check_documents()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def document_sizes(self) -> Iterator[int]:
        """Yield the number of tokens of each document."""
        before = 0
        for ends in self._document_ends():
            yield from np.diff(ends, prepend=before).tolist()
            before = int(ends[-1])

    def _read_head(self) -> None:
        data = self._file.read(HEAD.size)
        if data[:9] != MAGIC or len(data) < HEAD.size:
            raise BadInput(f"{self._name} is no index of a Megatron data set: it does not begin with MMIDIDX")
        _, version, code, self._sequences, self._bounds = HEAD.unpack(data)
        if version != VERSION:
            raise BadInput(f"{self._name} has version {version}; only {VERSION} is known")
        if code not in TYPES:
            raise BadInput(f"{self._name}: its tokens have the type number {code}, which is no integer type")
        self.dtype = TYPES[code]
        size, wanted = os.fstat(self._file.fileno()).st_size, HEAD.size + 12 * self._sequences + 8 * self._bounds
        if size == wanted + self._sequences and self._sequences:
            raise BadInput(f"{self._name} is multimodal (it has a mode for each sequence): that is no text")
        if size != wanted:
            raise BadInput(f"{self._name} has {size} bytes where {self._sequences} sequences and {self._bounds} "
                           f"document boundaries take {wanted}; it is damaged")

    def _column(self, dtype: str, offset: int, start: int, stop: int) -> np.ndarray:
        width = np.dtype(dtype).itemsize
        wanted = (stop - start) * width
        data = self._file.pread(wanted, offset + start * width)
        if len(data) != wanted:
            raise BadInput(f"{self._name} was cut short while it was read")
        return np.frombuffer(data, dtype=dtype)

    def _pointers(self, start: int, stop: int) -> np.ndarray:
        return self._column("<i8", HEAD.size + 4 * self._sequences, start, stop)

    def _check_sequences(self) -> int:
        """Return the number of tokens: the sequences must lie in .bin one after the other, and fill it."""
        width, total = np.dtype(self.dtype).itemsize, 0
        for start in range(0, self._sequences, _ITEMS):
            stop = min(start + _ITEMS, self._sequences)
            sizes = self._column("<i4", HEAD.size, start, stop).astype(np.int64)
            ends = total + np.cumsum(sizes)
            wrong = np.flatnonzero((sizes < 0) | (self._pointers(start, stop) != (ends - sizes) * width))
            if len(wrong):
                raise BadInput(f"{self._name}: sequence {start + int(wrong[0])} does not begin where the one before "
                               "it ends")
            total = int(ends[-1])
        held = os.stat(f"{self.prefix}.bin").st_size
        if held != total * width:
            raise BadInput(f"{self.prefix}.bin has {held} bytes where its index says {total * width}; one of the two "
                           "is damaged")
        return total

    def _check_documents(self) -> None:
        before, last = 0, -1
        for start in range(0, self._bounds, _ITEMS):
            values = self._boundaries(start, min(start + _ITEMS, self._bounds))
            if (start == 0 and values[0] != 0) or (np.diff(values, prepend=before) < 0).any():
                raise BadInput(f"{self._name}: its document boundaries don't begin at 0 and rise; it is damaged")
            before = last = int(values[-1])
        if last != self._sequences:
            raise BadInput(f"{self._name}: its documents end at sequence {max(last, 0)} of {self._sequences}; "
                           "it is damaged")

    def _boundaries(self, start: int, stop: int) -> np.ndarray:
        return self._column("<i8", HEAD.size + 12 * self._sequences, start, stop)

    def _document_ends(self) -> Iterator[np.ndarray]:
        """Yield, as int64 [<= 65,536], the number of tokens up to the end of each document."""
        width = np.dtype(self.dtype).itemsize
        for start in range(1, self._bounds, _ITEMS):
            values = self._boundaries(start, min(start + _ITEMS, self._bounds))
            while len(values):
                first = int(values[0])
                near = values[: int(np.searchsorted(values, first + _ITEMS))]
                values = values[len(near) :]
                bytes_before = self._pointers(first, min(int(near[-1]) + 1, self._sequences))
                ends = np.append(bytes_before // width, self.n_tokens)
                yield ends[near - first]


def write_megatron(directory: Path, split: str, header: ShardHeader, frames: Iterable[np.ndarray]) -> list[str]:
    """Write a stream of tokens as SPLIT.bin and SPLIT.idx, one sequence a document, end-of-text included.

    Holds 4 bytes a document. Returns the names; raises BadInput for a document of 2^31 tokens or more.
    """
    lengths: list[np.ndarray] = []
    done, begun = 0, 0
    with open(directory / f"{split}.bin", "wb") as file:
        for tokens in frames:
            file.write(tokens.tobytes())
            ends = np.flatnonzero(tokens == header.eot) + (done + 1)
            if len(ends):
                sizes = np.diff(ends, prepend=begun)
                if int(sizes.max()) >= 1 << 31:
                    raise BadInput("a document has 2^31 tokens or more, which a Megatron index can't say")
                lengths.append(sizes.astype("<i4"))
                begun = int(ends[-1])
            done += len(tokens)
    with open(directory / f"{split}.idx", "wb") as file:
        count = sum(len(part) for part in lengths)
        file.write(HEAD.pack(MAGIC, VERSION, CODE_OF_WIDTH[header.width], count, count + 1))
        file.writelines(part.tobytes() for part in lengths)
        start = 0
        for part in lengths:
            ends = start + np.cumsum(part, dtype=np.int64)
            file.write(((ends - part) * header.width).astype("<i8").tobytes())
            start = int(ends[-1])
        for first in range(0, count + 1, _ITEMS):
            file.write(np.arange(first, min(first + _ITEMS, count + 1), dtype="<i8").tobytes())
    return [f"{split}.bin", f"{split}.idx"]
