"""What is evaluated: documents with their ids, from text, JSONL, token shards or a shard set, told by content.

A shard's text is what its tokens decode to, so the same documents give the same numbers whichever way they come.
Text of a MiB or more is encoded as it is read, so a document may be longer than memory.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.preparation import Preparation
from gpt2cli.evaluation.protocols import Protocol
from gpt2cli.evaluation.units import UnitCounter, Units, empty_text_units
from gpt2cli.records.shard import ShardHeader, ShardReader
from gpt2cli.records.shard_set import ShardSet, load_shard_set
from gpt2cli.records.streams import decompressed, display_name, open_raw_input, proves_its_end
from gpt2cli.tokens.document_batch import DocumentTally, LongDocument, TextBatch, documents_of
from gpt2cli.tokens.documents import stream_batches
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.exact_cut import whole_characters
from gpt2cli.tokens.unicode_loss import decode_utf8
from gpt2cli.tokens.vocabulary import END_OF_TEXT

FORMATS = ("auto", "text", "jsonl", "shard")
_SHARD_START = b'{"schema":"gpt2.shard/'


@dataclass(frozen=True)
class EvaluatedSplit:
    """The split of a shard set that is evaluated, and the digest of its tokens."""

    name: str
    sha256: str


@dataclass(frozen=True)
class EvaluatedText:
    """One document with text: its ids without end-of-text, in chunks that are used once, and the count of its text.

    `counter` is complete when the chunks are used up. It counts the text as it was before it was de-tokenised.
    """

    ids: Iterable[np.ndarray]
    counter: UnitCounter


class Texts:
    """The documents of several inputs, in order.

    paths: files, `-` for standard input, or one directory written by `gpt2 pack`, of which `split` is read. preparation
    is of whole texts, which are then held.
    """

    def __init__(self, paths: Sequence[str], form: str, split: str | None, encoder: Encoder, protocol: Protocol,
                 preparation: Preparation | None = None) -> None:
        if form not in FORMATS:
            raise UsageFault(f"there is no format {form!r}; choose {', '.join(FORMATS)}")
        self._paths = tuple(paths) or ("-",)
        self._form = form
        self._encoder = encoder
        self._protocol = protocol
        self._preparation = preparation
        self._lines = preparation is not None and preparation.treatment.lines
        self._tally = DocumentTally()
        self._empty_of_shards = 0
        self._set = self._find_set()
        if split not in (None, "train", "val"):
            raise UsageFault(f"a shard set has no split {split!r}, only train and val")
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
    def n_empty(self) -> int:
        """Documents without a character so far; documents() leaves them out."""
        return self._tally.empty + self._empty_of_shards

    @property
    def split(self) -> EvaluatedSplit | None:
        """The split of a shard set; None for other inputs."""
        if self._set is None:
            return None
        return EvaluatedSplit(self._split, str(self._set.index["splits"][self._split]["sha256"]))

    def sentences(self) -> list[str]:
        """Return what was skipped or replaced, in a line or two; empty when all went in as it was."""
        return self._tally.sentences()

    def documents(self) -> Iterator[EvaluatedText]:
        """Yield every document that has text. Use once, and use up a document's chunks before the next.

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

    def _file(self, path: str, form: str) -> Iterator[EvaluatedText]:
        name = display_name(path)
        with open_raw_input(path) as raw:
            stream = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
            if form == "shard" or (form == "auto" and is_shard(stream)):
                yield from self._shard(cast(BinaryIO, stream), name)
                return
            for parts in text_documents(cast(BinaryIO, stream), name, self._tally, form, expect_end=path == "-",
                                        lines=self._lines):
                yield self._text(parts)

    def _text(self, parts: Iterable[str]) -> EvaluatedText:
        if self._preparation is not None:
            return EvaluatedText(*self._preparation.document(parts, self._protocol.word, self._encode))
        counter = UnitCounter(self._protocol.word)
        counted = _counted(parts, counter)
        if self._protocol.special:
            return EvaluatedText((self._encode("".join(counted)) for _ in range(1)), counter)
        return EvaluatedText(self._encoder.encode_stream(counted), counter)

    def _encode(self, text: str) -> np.ndarray:
        return encode_special(self._encoder, text) if self._protocol.special else self._encoder.encode(text)

    def _shard(self, stream: BinaryIO, name: str) -> Iterator[EvaluatedText]:
        reader = ShardReader(stream, name)
        header: ShardHeader = reader.header
        self._check(header.tokenizer_sha256, name)
        for ids in reader.documents():
            if not len(ids):
                self._empty_of_shards += 1
                continue
            text = self._encoder.decode(ids).decode("utf-8", "replace")
            if self._preparation is not None or (self._protocol.special and END_OF_TEXT in text):
                yield self._text([text])
                continue
            counter = UnitCounter(self._protocol.word)
            counter.add(text)
            yield EvaluatedText([ids], counter)

    def _check(self, tokenizer_sha256: str, name: str) -> None:
        ours = self._encoder.vocabulary.sha256
        if tokenizer_sha256 != ours:
            raise BadInput(f"{name} is in another vocabulary ({tokenizer_sha256[:12]}) than the model's ({ours[:12]}); "
                           "evaluate its text, or tokenize that with the model's directory as --vocab")


def is_shard(stream: io.BufferedReader) -> bool:
    """Whether a stream that nothing was read from begins as a token shard does."""
    return stream.peek(64)[8 : 8 + len(_SHARD_START)] == _SHARD_START


def encode_special(encoder: Encoder, text: str) -> np.ndarray:
    """Return the ids of `text` where a literal <|endoftext|> is end-of-text, as transformers reads it."""
    first, *rest = (encoder.encode(part) for part in text.split(END_OF_TEXT))
    eot = np.array([encoder.vocabulary.eot], dtype=np.uint32)
    return np.concatenate([first, *(ids for part in rest for ids in (eot, part))])


def text_documents(stream: BinaryIO, name: str, tally: DocumentTally, form: str, *, expect_end: bool,
                   lines: bool = False) -> Iterator[Iterable[str]]:
    """Yield the text of every document of a byte stream, in parts when it is long. No document is empty.

    lines: each line of plain text is a document, with its line end; records are documents as ever.
    """
    plain = decompressed(stream, name)
    expect_end = expect_end and not proves_its_end(plain)
    for batch in stream_batches(plain, name, tally, form, expect_end=expect_end):
        if isinstance(batch, LongDocument):
            text = _long_text(batch, tally)
            yield from _each_line(text) if lines and batch.where == name else [text]
            continue
        for document in documents_of(batch, tally):
            yield from _each_line([document.text]) if lines and isinstance(batch, TextBatch) else [[document.text]]


def count_units(path: str, form: str, word: str) -> tuple[Units, str]:
    """Return the units of all documents in a text or JSONL file, and the sha256 over its documents' digests.

    Raises BadInput where there is no character to count.
    """
    tally, total, digest = DocumentTally(), Units(), hashlib.sha256()
    with open_raw_input(path) as raw:
        for parts in text_documents(raw, display_name(path), tally, form, expect_end=path == "-"):
            counter = UnitCounter(word)
            for part in parts:
                counter.add(part)
            total += counter.units
            digest.update(bytes.fromhex(counter.sha256))
    if not total.n_characters:
        raise BadInput(f"{display_name(path)} holds no text, so no words, bytes or characters can be counted in it")
    for _ in range(tally.empty):
        total += empty_text_units(word)
    return total, digest.hexdigest()


def _counted(parts: Iterable[str], counter: UnitCounter) -> Iterator[str]:
    for part in parts:
        counter.add(part)
        yield part


def _each_line(parts: Iterable[str]) -> Iterator[Iterable[str]]:
    held = ""
    for part in parts:
        *whole, held = (held + part).split("\n")
        yield from ([f"{line}\n"] for line in whole)
    if held:
        yield [held]


def _long_text(document: LongDocument, tally: DocumentTally) -> Iterator[str]:
    tally.loss.add(document.loss)
    held, offset = b"", document.offset
    for block in document.blocks:
        held += block
        size = whole_characters(held)
        yield decode_utf8(held[:size], tally.loss, document.name, offset)
        held, offset = held[size:], offset + size
    yield decode_utf8(held, tally.loss, document.name, offset)
