"""Documents to one token shard, front to back, in constant memory, by one process or several: the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.shard import ShardHeader, ShardWriter
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.document_batch import DocumentTally, LineBatch, LongDocument, TextBatch
from gpt2cli.tokens.documents import BLOCK, Work, read_batches
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.encode_batch import BatchEncoder, Encoded, Segment
from gpt2cli.tokens.exact_cut import free_cut_of_bytes, whole_characters
from gpt2cli.tokens.ordered_pool import Done, OrderedPool
from gpt2cli.tokens.unicode_loss import decode_utf8
from gpt2cli.tokens.vocabulary import Vocabulary, load_vocabulary

DEFAULT_JOBS = 4
"""Most processes when none are asked for: with them all memory together stays under 400 MB."""
_SEARCH = 1 << 16
"""Bytes at the end of a block of a long document that are searched for a free cut."""
Task = LineBatch | TextBatch | Segment


@dataclass(frozen=True)
class TokenizeConfig:
    """How documents become a shard.

    vocab: a path for load_vocabulary; form and split_on: as in read_batches; source: a free name kept in the shard;
    jobs: processes that encode (1: this one); strict: what would be skipped or replaced is BadInput.
    """

    vocab: str | None = None
    form: str = "auto"
    source: str | None = None
    split_on: str | None = None
    jobs: int = 1
    strict: bool = False


@dataclass(frozen=True)
class TokenizeSummary:
    """What went in and came out; `text_bytes` is UTF-8, `tokens` counts end-of-text."""

    documents: int
    text_bytes: int
    tokens: int
    sha256: str


def shard_header(vocabulary: Vocabulary, source: str | None = None) -> ShardHeader:
    """Return the header of a shard in `vocabulary`, which travels along unless it is GPT-2's own."""
    text = None if vocabulary.is_gpt2 else vocabulary.canonical()
    return ShardHeader(vocabulary.n_vocab, vocabulary.eot, vocabulary.sha256, text, source)


def tokenize_documents(paths: Sequence[str], stream: BinaryIO, config: TokenizeConfig, reporter: Reporter
                       ) -> TokenizeSummary:
    """Write the documents of `paths` (none: stdin) to `stream` as one shard; return what was done.

    The shard's input_sha256 is the sha256 of the documents' sha256 digests (of their UTF-8, 32 bytes each) in order.
    So it tells the same of the same documents, whatever file, compression or pipe they came in.
    Raises what load_vocabulary and read_batches raise, and BadInput for a loss when config.strict.
    """
    encoder = Encoder(load_vocabulary(config.vocab))
    header = shard_header(encoder.vocabulary, config.source)
    batches = BatchEncoder(encoder, header.dtype)
    tally = DocumentTally()
    tasks = _Tasks(encoder, batches)
    work = _joined_texts(read_batches(paths, tally, config.form, config.split_on))
    # Frames are compressed in a thread, which is begun with the first of them: after the processes were forked.
    with ThreadPoolExecutor(1) as threads:
        writer = ShardWriter(stream, header, threads)
        digest, total = hashlib.sha256(), 0
        for encoded in _encode_all(tasks.of(work), batches, config.jobs):
            tally.add(encoded.tally)
            if config.strict:
                _refuse_losses(tally)
            if encoded.lengths is not None:
                writer.write_documents(encoded.tokens, encoded.lengths, encoded.text_bytes)
            elif encoded.ends:
                writer.write_document(encoded.tokens, encoded.text_bytes)
            else:
                writer.write_part(encoded.tokens)
            digest.update(encoded.digests)
            total += encoded.text_bytes
            reporter.progress(total / 1e6, None, "MB of text", documents=f"{tally.documents:,}")
        if config.strict:
            _refuse_losses(tally)
        footer = writer.close(digest.hexdigest())
    for line in tally.sentences():
        reporter.warn(line)
    if not footer.documents:
        reporter.warn("there was no document with text: the shard is empty")
    return TokenizeSummary(footer.documents, total, footer.tokens, footer.sha256)


def _encode_all(tasks: Iterator[Task | Done[Encoded]], batches: BatchEncoder, jobs: int) -> Iterator[Encoded]:
    """Yield what the tasks encode to, in order. Processes are started only for a second task."""
    first = next(tasks, None)
    second = next(tasks, None) if jobs > 1 else None
    if first is None:
        return
    everything = chain((first,) if second is None else (first, second), tasks)
    if jobs == 1 or second is None:
        for task in everything:
            yield task.result if isinstance(task, Done) else batches(task)
        return
    with OrderedPool(jobs, batches) as pool:
        yield from pool.map(everything)


def _joined_texts(work: Iterable[Work]) -> Iterator[Work]:
    """Yield `work` with small batches of texts joined, so that a million small files are not a million tasks."""
    texts: list[tuple[str, int, bytes]] = []
    size = 0
    for batch in work:
        if isinstance(batch, TextBatch):
            texts += batch.texts
            size += sum(len(data) for _, _, data in batch.texts)
            if size < BLOCK:
                continue
        if texts:
            yield TextBatch(texts)
            texts, size = [], 0
        if not isinstance(batch, TextBatch):
            yield batch
    if texts:
        yield TextBatch(texts)


class _Tasks:
    """Makes tasks of what was read. Long documents are cut, hashed and, where they cannot be cut, encoded here."""

    def __init__(self, encoder: Encoder, batches: BatchEncoder) -> None:
        self._encoder = encoder
        self._batches = batches

    def of(self, work: Iterable[Work]) -> Iterator[Task | Done[Encoded]]:
        """Yield the tasks, in order."""
        for batch in work:
            if isinstance(batch, LongDocument):
                yield from self._long(batch)
            else:
                yield batch

    def _long(self, document: LongDocument) -> Iterator[Task | Done[Encoded]]:
        text = _LongText(document)
        while data := text.next_part():
            if text.cut_is_free:
                yield Segment(data)
            else:
                for ids in self._encoder.encode_stream(text.unbroken(data)):
                    yield Done(self._batches.part(ids))
        tally = DocumentTally(loss=text.loss)
        yield Done(Encoded(np.empty(0, np.uint32), None, text.sha256.digest(), text.size, ends=True, tally=tally))


class _LongText:
    """A long document's UTF-8 in parts: `cut_is_free` tells whether the last part ends where its ids do not change."""

    def __init__(self, document: LongDocument) -> None:
        self._document = document
        self._blocks = iter(document.blocks)
        self.loss = document.loss
        self._held = b""
        self._offset = document.offset
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.cut_is_free = True

    def next_part(self) -> bytes:
        """Return the next part, b"" at the end."""
        while True:
            block = next(self._blocks, b"")
            self._held += block
            if not block:
                self.cut_is_free = True
                return self._take(len(self._held))
            if len(self._held) >= BLOCK:
                cut = free_cut_of_bytes(self._held, len(self._held) - _SEARCH, len(self._held))
                self.cut_is_free = cut is not None
                if cut or (cut := whole_characters(self._held)):
                    return self._take(cut)

    def unbroken(self, part: bytes) -> Iterator[str]:
        """Yield `part` and those after it as text, until a cut is free."""
        yield part.decode()
        while not self.cut_is_free:
            yield self.next_part().decode()

    def _take(self, size: int) -> bytes:
        raw, self._held = self._held[:size], self._held[size:]
        data = decode_utf8(raw, self.loss, self._document.name, self._offset).encode()
        self._offset += size
        self.sha256.update(data)
        self.size += len(data)
        return data


def _refuse_losses(tally: DocumentTally) -> None:
    lines = tally.sentences()
    if lines:
        raise BadInput("; ".join(lines) + " (--strict)")
