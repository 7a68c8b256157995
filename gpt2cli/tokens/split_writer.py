"""The files of a shard set in the making: each document goes to its split's open file, which is closed when full."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.shard import ShardHeader, ShardWriter
from gpt2cli.records.shard_set import SPLITS
from gpt2cli.tokens.vocabulary import vocabulary_of

FILE_DOCUMENTS = 1 << 24
"""A file with this many documents is full whatever its tokens: its index is held in memory, 4 bytes for each."""


class SplitWriter:
    """Writes documents to train-00000.tok.zst, val-00000.tok.zst and so on in a directory.

    A file is closed where it has reached `shard_tokens` tokens and a document ends; no document spans two files.
    After finish(), `files` lists each file as index.json does, and the dictionaries by split hold the totals;
    `digests` are over a split's token bytes, end-of-text included.
    """

    def __init__(self, directory: Path, header: ShardHeader, shard_tokens: int, pool: Executor | None = None) -> None:
        """`header`: the inputs'; `pool`: threads that compress, None to do it in this one.

        Raises BadInput when the header's vocabulary is neither carried by it nor GPT-2's.
        """
        self._directory = directory
        self._header = ShardHeader(header.n_vocab, header.eot, header.tokenizer_sha256, header.vocabulary)
        self._shard_tokens = shard_tokens
        self._pool = pool
        self._lengths = _byte_lengths(header)
        self._dtype = np.dtype(header.dtype).newbyteorder("<")
        self._open: dict[str, _SplitFile] = {}
        self._numbers = dict.fromkeys(SPLITS, 0)
        self.files: list[dict[str, Any]] = []
        self.tokens = dict.fromkeys(SPLITS, 0)
        self.documents = dict.fromkeys(SPLITS, 0)
        self.text_bytes = dict.fromkeys(SPLITS, 0)
        self.digests = {split: hashlib.sha256() for split in SPLITS}

    @property
    def n_tokens(self) -> int:
        """Tokens written so far, in all splits."""
        return sum(self.tokens.values())

    def end_of_text(self, count: int) -> np.ndarray:
        """Return `count` tokens of end-of-text."""
        return np.full(count, self._header.eot, dtype=self._dtype)

    def write(self, split: str, tokens: np.ndarray, lengths: np.ndarray, breaks: np.ndarray | None = None) -> None:
        """Append whole documents to `split`: `tokens` [n] with end-of-text, `lengths` [d] with it counted.

        breaks: the places (rising, the last is n) where a file may end; default: after every document.
        """
        if not len(lengths):
            return
        tokens = tokens.astype(self._dtype, copy=False)
        stops = np.cumsum(lengths)
        breaks = stops if breaks is None else breaks
        start = first = 0
        while start < len(tokens):
            file = self._file(split)
            full = int(np.searchsorted(breaks, start + self._shard_tokens - file.tokens))
            stop = int(breaks[min(full, len(breaks) - 1)])
            last = int(np.searchsorted(stops, stop, side="right"))
            text_bytes = int(self._lengths[tokens[start:stop]].sum())
            file.write_documents(tokens[start:stop], lengths[first:last], text_bytes)
            self.text_bytes[split] += text_bytes
            start, first = stop, last
        self.tokens[split] += len(tokens)
        self.documents[split] += len(lengths)
        self.digests[split].update(np.ascontiguousarray(tokens).data)

    def finish(self) -> None:
        """Close the files that are still open."""
        for split in list(self._open):
            self._close(split)

    def _file(self, split: str) -> _SplitFile:
        """Return a file of `split` that is not full."""
        file = self._open.get(split)
        if file and (file.tokens >= self._shard_tokens or file.documents >= FILE_DOCUMENTS):
            self._close(split)
        if split not in self._open:
            name = f"{split}-{self._numbers[split]:05d}.tok.zst"
            self._numbers[split] += 1
            self._open[split] = _SplitFile(self._directory / name, self._header, self._pool)
        return self._open[split]

    def _close(self, split: str) -> None:
        entry = self._open.pop(split).close()
        self.files.append({"name": entry.pop("name"), "split": split, **entry})


class _SplitFile:
    """One shard being written, with the digest and size of its bytes."""

    def __init__(self, path: Path, header: ShardHeader, pool: Executor | None) -> None:
        self._path = path
        self._file = open(path, "wb")  # noqa: SIM115
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self.tokens = 0
        self.documents = 0
        self._shard = ShardWriter(cast(BinaryIO, self), header, pool)

    def write_documents(self, tokens: np.ndarray, lengths: np.ndarray, text_bytes: int) -> None:
        self._shard.write_documents(tokens, lengths, text_bytes)
        self.tokens += len(tokens)
        self.documents += len(lengths)

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    def close(self) -> dict[str, Any]:
        footer = self._shard.close(None)
        self._file.close()
        return {"name": self._path.name, "tokens": footer.tokens, "documents": footer.documents,
                "text_bytes": footer.text_bytes, "bytes": self._bytes, "sha256": self._sha256.hexdigest(),
                "tokens_sha256": footer.sha256}


def _byte_lengths(header: ShardHeader) -> np.ndarray:
    vocabulary = vocabulary_of(header.vocabulary, header.tokenizer_sha256, "the shard")
    if (vocabulary.n_vocab, vocabulary.eot) != (header.n_vocab, header.eot):
        raise BadInput("the shard's n_vocab or eot is not its vocabulary's; make the shard again")
    lengths = np.array([len(token) for token in vocabulary.token_bytes()], dtype=np.int64)
    lengths[vocabulary.eot] = 0
    return lengths
