"""A long document's lower-cased text in parts that end between two words, in memory that no word makes grow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from gpt2cli.tokens.document_batch import LongDocument
from gpt2cli.tokens.exact_cut import whole_characters
from gpt2cli.tokens.unicode_loss import UnicodeLoss, decode_utf8
from gpt2cli.tokens.words import MAX_WORD, last_border, lower_case


class LongWords:
    """Iterates once over the parts of `document`, each ending between two words; together they hold all its words.

    A run that is too long to be a word is cut to one character more than a word may have.
    loss, sha256: what was no Unicode, and the digest of the text's UTF-8; complete at the end.
    """

    def __init__(self, document: LongDocument) -> None:
        self._document = document
        self.loss = document.loss
        self.sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[str]:
        """Yield the parts, in lower case."""
        open_word = ""
        for text in long_text(self._document, self.loss):
            self.sha256.update(text.encode())
            lower = open_word + lower_case(text)
            border = last_border(lower)
            open_word = lower[border:][: MAX_WORD + 1]
            if border:
                yield lower[:border]
        if open_word:
            yield open_word


def long_text(document: LongDocument, loss: UnicodeLoss) -> Iterator[str]:
    """Yield the text of a long document, cut anywhere; what is no UTF-8 in it is counted in `loss`."""
    held, offset = b"", document.offset
    for block in document.blocks:
        held += block
        size = whole_characters(held)
        yield decode_utf8(held[:size], loss, document.name, offset)
        held, offset = held[size:], offset + size
    yield decode_utf8(held, loss, document.name, offset)
