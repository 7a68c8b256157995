"""Documents as whole texts, for tests: what the commands read in batches and, when long, in blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from gpt2cli.tokens.document_batch import Document, DocumentTally, LongDocument, documents_of
from gpt2cli.tokens.documents import Work, read_batches, stream_batches
from gpt2cli.tokens.unicode_loss import decode_utf8


def read_documents(paths: Sequence[str | os.PathLike[str]], tally: DocumentTally, form: str = "auto"
                   ) -> Iterator[Document]:
    """Yield the documents of files."""
    yield from _whole(read_batches(paths, tally, form), tally)


def parse_documents(stream: BinaryIO, name: str, tally: DocumentTally, form: str = "auto", *,
                    expect_end: bool = False) -> Iterator[Document]:
    """Yield the documents of a stream."""
    yield from _whole(stream_batches(stream, name, tally, form, expect_end=expect_end), tally)


def _whole(work: Iterator[Work], tally: DocumentTally) -> Iterator[Document]:
    for batch in work:
        if isinstance(batch, LongDocument):
            tally.loss.add(batch.loss)
            data = b"".join(batch.blocks)
            yield Document(decode_utf8(data, tally.loss, batch.name, batch.offset), batch.where)
        else:
            yield from documents_of(batch, tally)
