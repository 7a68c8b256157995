"""The documents of a side, train or test, whatever holds them: text, JSONL, directories, token shards, shard sets.

A shard's text is what its tokens decode to in the vocabulary that it carries. Reading holds a few MiB, however long a
document is.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.shard import ShardHeader, ShardReader
from gpt2cli.records.shard_format import HEADER_MAGIC
from gpt2cli.records.shard_info import is_shard_set
from gpt2cli.records.shard_set import INDEX_NAME, load_shard_set
from gpt2cli.records.streams import decompressed, display_name, open_raw_input, proves_its_end
from gpt2cli.tokens.document_batch import (
    Document,
    DocumentTally,
    LineBatch,
    LongDocument,
    TextBatch,
    count_empty,
    documents_of,
)
from gpt2cli.tokens.documents import stream_batches
from gpt2cli.tokens.eot_documents import pieces
from gpt2cli.tokens.input_files import foreign_format, input_files
from gpt2cli.tokens.show import document_bytes
from gpt2cli.tokens.unicode_loss import decode_utf8

LONG_DOCUMENT = 1 << 19
"""A document of more tokens than this, and a frame's, is not held whole."""


@dataclass(frozen=True)
class IdBatch:
    """Whole documents as ids `tokens` [n], end-of-text after each; `first` is the number of the first in its shard."""

    name: str
    header: ShardHeader
    tokens: np.ndarray
    first: int


Batch = LineBatch | TextBatch | IdBatch
Work = Batch | LongDocument


@dataclass(frozen=True)
class InputForm:
    """How plain text is read: form and split_on as in tokens.documents.read_batches; split: which of a shard set."""

    form: str = "auto"
    split_on: str | None = None
    split: str = "train"


TRAIN_FORM = InputForm()

def read_work(paths: Sequence[str], tally: DocumentTally, form: InputForm) -> Iterator[Work]:
    """Yield what `paths` (none: stdin) hold, in order; a long document's blocks must be used up before the next item.

    Raises BadInput for damage and for what is neither text nor shard.
    """
    for path in paths or ("-",):
        if is_shard_set(path) and os.path.isfile(path if path.endswith(INDEX_NAME) else os.path.join(path, INDEX_NAME)):
            shards = load_shard_set(path)
            for entry in shards.files(form.split):
                yield from _read_file(str(shards.directory / entry.name), tally, form)
        else:
            for file in input_files([path], tally):
                yield from _read_file(file, tally, form)


def documents_in(batch: Batch, tally: DocumentTally) -> Iterator[Document]:
    """Yield the documents with text of a batch and where each was found."""
    if not isinstance(batch, IdBatch):
        yield from documents_of(batch, tally)
        return
    for number, (ids, _) in enumerate(pieces((batch.tokens,), batch.header.eot), batch.first):
        where = f"{batch.name} document {number}"
        if len(ids):
            tally.documents += 1
            yield Document(decode_utf8(document_bytes(batch.header, ids), tally.loss, where, 0), where)
        else:
            count_empty(tally, "empty documents")


def _read_file(path: str, tally: DocumentTally, form: InputForm) -> Iterator[Work]:
    with open_raw_input(path) as raw:
        name = display_name(path)
        buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
        start = buffered.peek(8)[:8]
        if start[:4] == HEADER_MAGIC.to_bytes(4, "little"):
            yield from _read_shard(cast(BinaryIO, buffered), name, tally)
            return
        if form.form == "auto" and (foreign := foreign_format(start)):
            raise BadInput(f"{name} is in {foreign} format, not text; unpack it first, or say --format text")
        stream = decompressed(cast(BinaryIO, buffered), name)
        expect_end = path == "-" and not proves_its_end(stream)
        yield from stream_batches(stream, name, tally, form.form, form.split_on, expect_end=expect_end)


def _read_shard(stream: BinaryIO, name: str, tally: DocumentTally) -> Iterator[Work]:
    reader = ShardReader(stream, name)
    frames = _Frames(reader.frames(), reader.header.eot)
    first = 0
    while (whole := frames.next_documents()) is not None:
        if len(whole):
            yield IdBatch(name, reader.header, whole, first)
            first += int(np.count_nonzero(whole == reader.header.eot))
        if frames.begins_long:
            tally.documents += 1
            blocks = map(functools.partial(document_bytes, reader.header), frames.long_document())
            yield LongDocument(name, f"{name} document {first}", 0, blocks)
            first += 1


class _Frames:
    """Cuts frames of tokens into runs of whole documents and long documents."""

    def __init__(self, frames: Iterator[np.ndarray], eot: int) -> None:
        self._source = frames
        self._eot = eot
        self._put_back: np.ndarray | None = None
        self._open: list[np.ndarray] = []
        self._held = 0
        self.begins_long = False

    def next_documents(self) -> np.ndarray | None:
        """Return the next whole documents, none of them if begins_long; None at the end."""
        while (frame := self._next_frame()) is not None:
            ends = np.flatnonzero(frame == self._eot)
            if len(ends):
                stop = int(ends[-1]) + 1
                whole = np.concatenate([*self._open, frame[:stop]])
                self._open, self._held = [], 0
                self._hold(frame[stop:])
                return whole
            self._hold(frame)
            if self._held > LONG_DOCUMENT:
                self.begins_long = True
                return frame[:0]
        return None

    def long_document(self) -> Iterator[np.ndarray]:
        """Yield the ids of the document that has begun, without its end-of-text. Use once, to the end."""
        yield from self._open
        self._open, self._held, self.begins_long = [], 0, False
        while (frame := self._next_frame()) is not None:
            ends = np.flatnonzero(frame == self._eot)
            yield frame[: ends[0]] if len(ends) else frame
            if len(ends):
                self._put_back = frame[int(ends[0]) + 1 :]
                return

    def _next_frame(self) -> np.ndarray | None:
        frame, self._put_back = self._put_back, None
        return frame if frame is not None else next(self._source, None)

    def _hold(self, ids: np.ndarray) -> None:
        if len(ids):
            self._open.append(ids)
            self._held += len(ids)
