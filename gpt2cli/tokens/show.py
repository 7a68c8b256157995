"""The documents of token shards as people and other programs read them: ids, text, or JSONL records.

    ids    a document a line, ids in decimal with a space between; end-of-text is the end of the line
    text   the bytes of the documents, `<|endoftext|>` between two: of a single document its exact bytes
    json   gpt2.document/1 records; one whose bytes are no UTF-8 has them, exact, as text_base64 too
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.records.shard import ShardFile, ShardHeader, ShardReader
from gpt2cli.records.shard_info import is_shard_set
from gpt2cli.records.shard_set import SPLITS, load_shard_set
from gpt2cli.records.streams import display_name, open_raw_input
from gpt2cli.tokens.token_table import TokenTable, decimal_table
from gpt2cli.tokens.vocabulary import END_OF_TEXT, vocabulary_of

FORMS = ("ids", "text", "json")
Document = tuple[ShardHeader, np.ndarray]
_MOST_NUMBERS = 1 << 20
"""Vocabularies up to this size have their ids in decimal made beforehand: a header may claim two thousand million."""


@dataclass(frozen=True)
class ShowConfig:
    """form: one of FORMS; first, stop: which documents, counted from 0 over all inputs; split: of a shard set."""

    form: str = "ids"
    first: int = 0
    stop: int | None = None
    split: str | None = None


@dataclass(frozen=True)
class ShowSummary:
    """Documents shown, and how many of them were no UTF-8."""

    documents: int
    not_utf8: int


def show_documents(paths: Sequence[str], stream: BinaryIO, config: ShowConfig, *, end_record: bool = False
                   ) -> ShowSummary:
    """Write the chosen documents of shards and shard sets (none: stdin) to `stream`; return how many there were.

    Without `first`, shards are read front to back and checked on the way; with it, files are read at the place.
    end_record: close JSONL with gpt2.end/1. Raises BadInput for damage, where what came before it is written already.
    """
    if config.form not in FORMS:
        raise UsageFault(f"there is no form {config.form!r}; choose {', '.join(FORMS)}")
    documents = selected_documents(paths, config.first, config.stop, config.split)
    if config.form == "json":
        return _show_json(documents, stream, end_record)
    count = 0
    for count, (header, ids) in enumerate(documents, 1):
        if config.form == "ids":
            stream.write(_in_decimal(header, ids) + b"\n")
        else:
            if count > 1:
                stream.write(END_OF_TEXT.encode())
            stream.write(document_bytes(header, ids))
    return ShowSummary(count, 0)


def _show_json(documents: Iterator[Document], stream: BinaryIO, end_record: bool) -> ShowSummary:
    writer, not_utf8 = RecordWriter(stream), 0
    for header, ids in documents:
        data = document_bytes(header, ids)
        text = data.decode("utf-8", "replace")
        whole = text.encode()
        fields = {"id": hashlib.sha256(whole).hexdigest(), "text": text}
        if whole != data:
            not_utf8 += 1
            fields["text_base64"] = base64.b64encode(data).decode()
        writer.write("gpt2.document", fields)
    count = writer.count
    if end_record:
        writer.end()
    return ShowSummary(count, not_utf8)


def document_bytes(header: ShardHeader, ids: np.ndarray) -> bytes:
    """Return the bytes that a document's ids stand for; `header` says in which vocabulary. Raises BadInput."""
    return _table(header).decode(ids)


def _in_decimal(header: ShardHeader, ids: np.ndarray) -> bytes:
    if header.n_vocab > _MOST_NUMBERS:
        return b" ".join([b"%d" % number for number in ids.tolist()])
    return b" ".join(_numbers(header.n_vocab)[ids].tolist())


_numbers = functools.lru_cache(maxsize=4)(decimal_table)


@functools.lru_cache(maxsize=4)
def _table(header: ShardHeader) -> TokenTable:
    vocabulary = vocabulary_of(header.vocabulary, header.tokenizer_sha256, "the shard")
    if (vocabulary.n_vocab, vocabulary.eot) != (header.n_vocab, header.eot):
        raise BadInput("the shard's n_vocab or eot is not its vocabulary's; make the shard again")
    return TokenTable(vocabulary)


def selected_documents(paths: Sequence[str], first: int, stop: int | None, split: str | None = None
                       ) -> Iterator[Document]:
    """Yield documents `first` to `stop` (None: the end) of the inputs together, ids without end-of-text.

    A shard set gives its train, then its val files, or one `split` alone. Input past `stop` is not read.
    """
    position = 0
    for path in _files(paths, split):
        if stop is not None and position >= stop:
            return
        here = min(stop - position, sys.maxsize) if stop is not None else None
        if first > position and os.path.isfile(path):
            with ShardFile(path, cache_frames=2) as shard:
                yield from _read_at(shard, first - position, here)
                position += shard.footer.documents
            continue
        with open_raw_input(path) as stream:
            reader = ShardReader(stream, display_name(path))
            for ids in itertools.islice(reader.documents(), here):
                if position >= first:
                    yield reader.header, ids
                position += 1


def _read_at(shard: ShardFile, first: int, stop: int | None) -> Iterator[Document]:
    ends = np.concatenate([[0], np.cumsum(shard.footer.lengths(), dtype=np.int64)])
    last = len(ends) - 1 if stop is None else min(stop, len(ends) - 1)
    for number in range(first, last):
        yield shard.header, shard.read(int(ends[number]), int(ends[number + 1]) - 1)


def _files(paths: Sequence[str], split: str | None) -> Iterator[str]:
    for path in paths or ("-",):
        if is_shard_set(path):
            shards = load_shard_set(path)
            for name in SPLITS if split is None else (split,):
                yield from (str(shards.directory / entry.name) for entry in shards.files(name))
        elif split is not None:
            raise UsageFault(f"{display_name(path)} is no shard set, so it has no splits; leave --split out")
        else:
            yield path
