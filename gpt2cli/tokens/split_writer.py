"""The files of a shard set in the making: each document goes to its split's open file, which is closed when full."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.shard import ShardHeader, ShardWriter
from gpt2cli.records.shard_set import SPLITS
from gpt2cli.tokens.vocabulary import vocabulary_of


class SplitWriter:
    """Writes documents to train-00000.tok.zst, val-00000.tok.zst and so on in a directory.

    A file is closed after the document that brings it to `shard_tokens` tokens; no document spans two files.
    After finish(), `files` lists each file as index.json does, and the dictionaries by split hold the totals;
    `digests` are over a split's token bytes, end-of-text included.
    """

    def __init__(self, directory: Path, shard_tokens: int) -> None:
        self._directory = directory
        self._shard_tokens = shard_tokens
        self._open: dict[str, _SplitFile] = {}
        self._numbers = dict.fromkeys(SPLITS, 0)
        self._lengths: np.ndarray | None = None
        self.files: list[dict[str, Any]] = []
        self.tokens = dict.fromkeys(SPLITS, 0)
        self.documents = dict.fromkeys(SPLITS, 0)
        self.text_bytes = dict.fromkeys(SPLITS, 0)
        self.digests = {split: hashlib.sha256() for split in SPLITS}

    @property
    def n_tokens(self) -> int:
        """Tokens written so far, in all splits."""
        return sum(self.tokens.values())

    def write(self, split: str, header: ShardHeader, ids: np.ndarray) -> None:
        """Append a document (ids without eot) to `split`; `header` is the same in every call.

        Raises BadInput when the header's vocabulary is neither carried by it nor GPT-2's.
        """
        if self._lengths is None:
            self._lengths = _byte_lengths(header)
        if split not in self._open:
            name = f"{split}-{self._numbers[split]:05d}.tok.zst"
            self._numbers[split] += 1
            self._open[split] = _SplitFile(self._directory / name, header)
        file = self._open[split]
        text_bytes = int(self._lengths[ids].sum())
        file.shard.write_document(ids, text_bytes)
        file.tokens += len(ids) + 1
        self.tokens[split] += len(ids) + 1
        self.documents[split] += 1
        self.text_bytes[split] += text_bytes
        dtype = np.dtype(header.dtype).newbyteorder("<")
        self.digests[split].update(ids.astype(dtype, copy=False).tobytes())
        self.digests[split].update(np.array([header.eot], dtype=dtype).tobytes())
        if file.tokens >= self._shard_tokens:
            self._close(split)

    def finish(self) -> None:
        """Close the files that are still open."""
        for split in list(self._open):
            self._close(split)

    def _close(self, split: str) -> None:
        entry = self._open.pop(split).close()
        self.files.append({"name": entry.pop("name"), "split": split, **entry})


class _SplitFile:
    """One shard being written, with the digest and size of its bytes."""

    def __init__(self, path: Path, header: ShardHeader) -> None:
        self._path = path
        self._file = open(path, "wb")  # noqa: SIM115
        self._sha256 = hashlib.sha256()
        self._bytes = 0
        self.tokens = 0
        self.shard = ShardWriter(cast(BinaryIO, self), ShardHeader(header.n_vocab, header.eot, header.tokenizer_sha256,
                                                                   header.vocabulary))

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    def close(self) -> dict[str, Any]:
        footer = self.shard.close(None)
        self._file.close()
        return {"name": self._path.name, "tokens": footer.tokens, "documents": footer.documents,
                "text_bytes": footer.text_bytes, "bytes": self._bytes, "sha256": self._sha256.hexdigest(),
                "tokens_sha256": footer.sha256}


def _byte_lengths(header: ShardHeader) -> np.ndarray:
    vocabulary = vocabulary_of(header.vocabulary, header.tokenizer_sha256, "the shard")
    if (vocabulary.n_vocab, vocabulary.eot) != (header.n_vocab, header.eot):
        raise BadInput("the shard's n_vocab or eot is not its vocabulary's; make the shard again")
    return np.array([len(token) for token in vocabulary.token_bytes()], dtype=np.int64)
