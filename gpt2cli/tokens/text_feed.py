"""Documents as short texts for the merge trainer, cut where GPT-2's pattern ends a word, in constant memory.

The native trainer needs some thirty times the memory of each text that it is handed, and counts pairs of tokens in 32
bits: beyond, a pair silently becomes the rarest of all (seen with tokenizers 0.23: a pair that occurred 2.3e9 times was
not merged). No pair of tokens is more frequent than the pair of bytes where they meet, so those are counted here, and
the text ends before one gets there. In English that is at about 80 GB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gpt2cli.tokens.document_batch import DocumentTally, LongDocument, documents_of
from gpt2cli.tokens.documents import read_batches
from gpt2cli.tokens.exact_cut import free_cut, free_cut_of_bytes, whole_characters
from gpt2cli.tokens.unicode_loss import decode_utf8

PIECE = 1 << 16
"""Characters or bytes that are handed over at once."""
PAIR_LIMIT = (1 << 31) - 1
"""Most occurrences of a pair that the trainer can count."""
_COUNTED_AT_ONCE = 1 << 20


class TextFeed:
    """Iterates over the texts of `paths` once, in another thread than its owner's, who may read:

    tally, text_bytes: what was read so far; ended: whether that is all; error: what made it end early;
    full: whether it ended because a pair would be too frequent. The owner sets `stop` to end it.
    """

    def __init__(self, paths: Sequence[str], form: str) -> None:
        self.tally = DocumentTally()
        self.text_bytes = 0
        self.ended = False
        self.full = False
        self.stop = False
        self.error: Exception | None = None
        self._paths, self._form = paths, form
        self._pairs = np.zeros(1 << 16, dtype=np.int64)
        self._most = 0
        self._uncounted: list[bytes] = []
        self._pending = 0

    def __iter__(self) -> Iterator[str]:
        """Yield texts of at most PIECE characters; never raises: an exception must not cross the native code."""
        try:
            for text in self._texts():
                if self.stop or not self._has_room(text):
                    return
                yield text
        except Exception as error:
            self.error = error
        finally:
            self.ended = True

    def sentences(self) -> list[str]:
        """Return what a person should be told, a line each."""
        lines = self.tally.sentences()
        if self.full:
            lines.append(f"read only the first {self.text_bytes:,} bytes of text: more would hold a pair of bytes over "
                         f"{PAIR_LIMIT:,} times, which the trainer cannot count; a sample of the documents is as good")
        return lines

    def _texts(self) -> Iterator[str]:
        for batch in read_batches(self._paths, self.tally, self._form):
            if isinstance(batch, LongDocument):
                yield from self._long(batch)
                continue
            for document in documents_of(batch, self.tally):
                yield from cut_text(document.text)

    def _long(self, document: LongDocument) -> Iterator[str]:
        self.tally.loss.add(document.loss)
        held, offset = b"", document.offset
        for block in document.blocks:
            held += block
            while len(held) > PIECE:
                stop = free_cut_of_bytes(held, 1, PIECE) or whole_characters(held[:PIECE])
                yield decode_utf8(held[:stop], self.tally.loss, document.name, offset)
                held, offset = held[stop:], offset + stop
        if held:
            yield decode_utf8(held, self.tally.loss, document.name, offset)

    def _has_room(self, text: str) -> bool:
        data = text.encode()
        if self._pending + len(data) > _COUNTED_AT_ONCE:
            self._count()
        if self._most + self._pending + len(data) > PAIR_LIMIT:
            self._count()
            self.full = self._most + len(data) > PAIR_LIMIT
        if not self.full:
            self._uncounted.append(data)
            self._pending += len(data)
            self.text_bytes += len(data)
        return not self.full

    def _count(self) -> None:
        units = np.frombuffer(b"".join(self._uncounted), dtype=np.uint8).astype(np.uint16)
        self._pairs += np.bincount((units[:-1] << 8) | units[1:], minlength=1 << 16)
        self._most = int(self._pairs.max())
        self._uncounted, self._pending = [], 0


def cut_text(text: str) -> Iterator[str]:
    """Yield `text` in pieces of at most PIECE characters, cut between words of GPT-2's pattern if there is a space."""
    start = 0
    while len(text) - start > PIECE:
        stop = free_cut(text, start + 1, start + PIECE) or start + PIECE
        yield text[start:stop]
        start = stop
    yield text[start:]
