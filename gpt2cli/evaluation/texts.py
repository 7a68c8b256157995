"""What is evaluated: documents with their ids, from text, JSONL, token shards or a shard set, told by content.

A shard's text is what its tokens decode to, so the same documents give the same numbers whichever way they come.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.measures import Totals
from gpt2cli.records.shard import ShardHeader, ShardReader
from gpt2cli.records.shard_set import ShardSet, load_shard_set
from gpt2cli.records.streams import decompressed, display_name, open_raw_input, proves_its_end
from gpt2cli.tokens.documents import DocumentTally, parse_documents
from gpt2cli.tokens.encode import Encoder

FORMATS = ("auto", "text", "jsonl", "shard")
_SHARD_START = b'{"schema":"gpt2.shard/'


@dataclass(frozen=True)
class EvaluatedSplit:
    """The split of a shard set that is evaluated, and the digest of its tokens."""

    name: str
    sha256: str


class Texts:
    """The documents of several inputs, in order. While ids() is iterated, `totals`, the digest and the tallies fill.

    paths: files, `-` for standard input, or one directory written by `gpt2 pack`, of which `split` is read.
    """

    def __init__(self, paths: Sequence[str], form: str, split: str | None, encoder: Encoder, totals: Totals) -> None:
        if form not in FORMATS:
            raise UsageFault(f"there is no format {form!r}; choose {', '.join(FORMATS)}")
        self._paths = tuple(paths) or ("-",)
        self._form = form
        self._encoder = encoder
        self._totals = totals
        self._digest = hashlib.sha256()
        self._tally = DocumentTally()
        self._set = self._find_set()
        if split is not None and self._set is None:
            raise UsageFault("--split chooses a split of a shard set, and no directory of one was named")
        self._split = split or "val"

    @property
    def n_tokens(self) -> int | None:
        """Tokens to come, where that is known before reading."""
        if self._set is None:
            return None
        return self._set.n_tokens(self._split) - self._set.n_documents(self._split)

    @property
    def split(self) -> EvaluatedSplit | None:
        """The split of a shard set; None for other inputs."""
        if self._set is None:
            return None
        return EvaluatedSplit(self._split, str(self._set.index["splits"][self._split]["sha256"]))

    @property
    def sha256(self) -> str:
        """The digest over every document's sha256 digest so far (of its UTF-8, 32 bytes each).

        This is what `gpt2 bpe-tokenize` calls input_sha256.
        """
        return self._digest.hexdigest()

    def sentences(self) -> list[str]:
        """Return what was skipped or replaced, in a line or two; empty when all went in as it was."""
        return self._tally.sentences()

    def ids(self) -> Iterator[np.ndarray]:
        """Yield every document's ids without end-of-text, empty documents included. Use once.

        Raises BadInput for a damaged input and for a shard in another vocabulary than the model's.
        """
        if self._set is not None:
            self._check(self._set.tokenizer_sha256, str(self._set.directory))
            for entry in self._set.files(self._split):
                yield from self._file(str(self._set.directory / entry.name), "shard")
            return
        for path in self._paths:
            yield from self._file(path, self._form)

    def _find_set(self) -> ShardSet | None:
        directories = [path for path in self._paths if os.path.isdir(path)]
        if not directories:
            return None
        if len(self._paths) > 1:
            raise UsageFault(f"{directories[0]} is a directory: a shard set is evaluated alone, other inputs are files")
        if not (Path(directories[0]) / "index.json").is_file():
            raise UsageFault(f"{directories[0]} is a directory without index.json; name its files, or a shard set")
        return load_shard_set(directories[0])

    def _file(self, path: str, form: str) -> Iterator[np.ndarray]:
        name = display_name(path)
        with open_raw_input(path) as raw:
            stream = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
            if form == "shard" or (form == "auto" and is_shard(stream)):
                yield from self._shard(cast(BinaryIO, stream), name)
            else:
                yield from self._documents(cast(BinaryIO, stream), name, form, expect_end=path == "-")

    def _documents(self, stream: BinaryIO, name: str, form: str, *, expect_end: bool) -> Iterator[np.ndarray]:
        before = self._tally.empty
        text_stream = decompressed(stream, name)
        expect_end = expect_end and not proves_its_end(text_stream)
        for document in parse_documents(text_stream, name, self._tally, form, expect_end=expect_end):
            self._count(document.text.encode(), document.text)
            yield self._encoder.encode(document.text)
        self._totals.n_empty += self._tally.empty - before

    def _shard(self, stream: BinaryIO, name: str) -> Iterator[np.ndarray]:
        reader = ShardReader(stream, name)
        header: ShardHeader = reader.header
        self._check(header.tokenizer_sha256, name)
        for ids in reader.documents():
            data = self._encoder.decode(ids)
            self._count(data, data.decode("utf-8", "replace"))
            if not len(ids):
                self._totals.n_empty += 1
            yield ids

    def _check(self, tokenizer_sha256: str, name: str) -> None:
        ours = self._encoder.vocabulary.sha256
        if tokenizer_sha256 != ours:
            raise BadInput(f"{name} is in another vocabulary ({tokenizer_sha256[:12]}) than the model's ({ours[:12]}); "
                           "evaluate its text, or tokenize that with the model's directory as --vocab")

    def _count(self, data: bytes, text: str) -> None:
        self._digest.update(hashlib.sha256(data).digest())
        self._totals.n_bytes += len(data)
        self._totals.n_words += len(text.split())


def is_shard(stream: io.BufferedReader) -> bool:
    """Whether a stream that nothing was read from begins as a token shard does."""
    return stream.peek(64)[8 : 8 + len(_SHARD_START)] == _SHARD_START
