"""A batch of documents to tokens: the work that is done beside other batches."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from gpt2cli.tokens.document_batch import DocumentTally, LineBatch, TextBatch, documents_of
from gpt2cli.tokens.encode import Encoder


@dataclass(frozen=True)
class Segment:
    """A part of one long document, valid UTF-8, cut where ids do not change."""

    data: bytes


@dataclass
class Encoded:
    """Tokens of whole documents, end-of-text after each, and `lengths` with it; or of a part of one (lengths None).

    digests: the sha256 of each whole document's UTF-8, joined. text_bytes: of all their text.
    ends: the part is the last of its document, of `text_bytes` bytes in all.
    """

    tokens: np.ndarray
    lengths: np.ndarray | None = None
    digests: bytes = b""
    text_bytes: int = 0
    ends: bool = False
    tally: DocumentTally = field(default_factory=DocumentTally)


class BatchEncoder:
    """Encodes batches in one vocabulary; `dtype` is the shard's."""

    def __init__(self, encoder: Encoder, dtype: str) -> None:
        self._encoder = encoder
        self._dtype = dtype

    def __call__(self, batch: LineBatch | TextBatch | Segment) -> Encoded:
        """Return a batch's tokens. Raises BadInput for a broken line."""
        if isinstance(batch, Segment):
            return Encoded(self._encoder.encode(batch.data.decode()).astype(self._dtype))
        tally = DocumentTally()
        texts = [document.text.encode() for document in documents_of(batch, tally)]
        digests = b"".join([hashlib.sha256(text).digest() for text in texts])
        tokens, lengths = self._encoder.encode_documents(texts)
        return Encoded(tokens.astype(self._dtype), lengths, digests, sum(map(len, texts)), tally=tally)

    def part(self, ids: np.ndarray) -> Encoded:
        """Return a part of a long document that was encoded already."""
        return Encoded(ids.astype(self._dtype))
