"""Documents in blocks: many at once as one array of tokens, with their lengths and the hash that places each.

The hash is of a document's content and the seed alone: it decides its split, and its place when documents are shuffled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.shard import ShardHeader, ShardReader
from gpt2cli.records.streams import display_name, open_raw_input


@dataclass(frozen=True)
class DocumentBlock:
    """Whole documents: `tokens` [n] with end-of-text after each, `lengths` int64 [d] with it, `hashes` uint64 [d]."""

    tokens: np.ndarray
    lengths: np.ndarray
    hashes: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def _stops(self) -> np.ndarray:
        return np.cumsum(self.lengths)

    def pieces(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Return the tokens of the documents `numbers`, each with its end-of-text, as views."""
        chosen = self._stops[numbers].tolist()
        return [self.tokens[stop - length : stop]
                for stop, length in zip(chosen, self.lengths[numbers].tolist(), strict=True)]

    def take(self, numbers: np.ndarray) -> DocumentBlock:
        """Return the documents `numbers` (int [k]) in that order."""
        if not len(numbers):
            return DocumentBlock(self.tokens[:0], self.lengths[:0], self.hashes[:0])
        edges = np.flatnonzero(np.diff(numbers) != 1)
        first = numbers[np.concatenate([[0], edges + 1])]
        starts = (self._stops[first] - self.lengths[first]).tolist()
        stops = self._stops[numbers[np.concatenate([edges, [-1]])]].tolist()
        runs = [self.tokens[start:stop] for start, stop in zip(starts, stops, strict=True)]
        return DocumentBlock(np.concatenate(runs), self.lengths[numbers], self.hashes[numbers])


def join_blocks(blocks: Sequence[DocumentBlock]) -> DocumentBlock:
    """Return one block with the documents of several, in order; there is at least one."""
    if len(blocks) == 1:
        return blocks[0]
    return DocumentBlock(np.concatenate([block.tokens for block in blocks]),
                         np.concatenate([block.lengths for block in blocks]),
                         np.concatenate([block.hashes for block in blocks]))


def block_of(tokens: np.ndarray, lengths: np.ndarray, seed: int) -> DocumentBlock:
    """Return the block of `tokens` [n], which are whole documents of `lengths` [d] tokens, end-of-text counted.

    The 64-bit hash that places a document is BLAKE2b of its ids (without end-of-text) as uint32, keyed by the seed.
    """
    stops = np.cumsum(lengths)
    hashes = _hashes(tokens.astype("<u4").tobytes(), (stops - lengths).tolist(), (stops - 1).tolist(), seed)
    return DocumentBlock(tokens, lengths, hashes)


def _hashes(data: bytes, starts: list[int], stops: list[int], seed: int) -> np.ndarray:
    view, key, blake2b = memoryview(data), seed.to_bytes(8, "little"), hashlib.blake2b
    digests = [blake2b(view[4 * start : 4 * stop], digest_size=8, key=key).digest()
               for start, stop in zip(starts, stops, strict=True)]
    return np.frombuffer(b"".join(digests), dtype="<u8")


@dataclass
class ShardInputs:
    """The shards to pack as one run of documents. `header` is the first's; `parts` what index.json says of each."""

    paths: Sequence[str]
    seed: int
    header: ShardHeader | None = None
    parts: list[dict[str, Any]] = field(default_factory=list)

    def blocks(self) -> Iterator[DocumentBlock]:
        """Yield all documents in order, each shard verified as it is read.

        Raises BadInput for a shard that is damaged, cut short, or in another vocabulary than the first.
        """
        for path in self.paths:
            name = display_name(path)
            with open_raw_input(path) as stream:
                reader = ShardReader(stream, name)
                self._agree(reader.header, name)
                yield from self._documents(reader, name)
                self.parts += [
                    {"sha256": footer.sha256, "tokens": footer.tokens, "documents": footer.documents,
                     "input_sha256": footer.input_sha256, "source": header.source}
                    for header, footer in zip(reader.headers, reader.footers, strict=True)
                ]

    def _agree(self, header: ShardHeader, name: str) -> None:
        self.header = self.header or header
        if not header.same_tokens(self.header):
            raise BadInput(f"{name} is in another vocabulary ({header.tokenizer_sha256[:12]}...) than "
                           f"{display_name(self.paths[0])} ({self.header.tokenizer_sha256[:12]}...); "
                           "tokenize all with one --vocab")

    def _documents(self, reader: ShardReader, name: str) -> Iterator[DocumentBlock]:
        pending: list[np.ndarray] = []
        for frame in reader.frames():
            stops = np.flatnonzero(frame == reader.header.eot) + 1
            if not len(stops):
                pending.append(frame)
                continue
            held = sum(map(len, pending))
            tokens = np.concatenate([*pending, frame[: stops[-1]]])
            yield block_of(tokens, np.diff(stops + held, prepend=0), self.seed)
            pending = [frame[stops[-1] :]]
        if sum(map(len, pending)):
            raise BadInput(f"{name}: the last document has no end-of-text; make the shard again")
