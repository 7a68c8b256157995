"""Words, bytes and characters of a text that comes in parts: the denominators beside tokens."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gpt2cli.evaluation.protocols import RE_SPLIT, WORDS_AND_LINE_ENDS


@dataclass(frozen=True)
class Units:
    """Words by a protocol's rule, bytes of UTF-8, and characters (code points)."""

    n_words: int = 0
    n_bytes: int = 0
    n_characters: int = 0

    def __add__(self, other: Units) -> Units:
        return Units(self.n_words + other.n_words, self.n_bytes + other.n_bytes,
                     self.n_characters + other.n_characters)


def empty_text_units(word: str) -> Units:
    """Return the units of a document without a character: one word where splitting "" gives one."""
    return Units(n_words=int(word == RE_SPLIT))


class UnitCounter:
    """Counts one document's units and hashes its UTF-8. word: a protocol's rule for words."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._words = self._line_ends = self._bytes = self._characters = 0
        self._first = self._last = ""
        self._sha256 = hashlib.sha256()

    def add(self, text: str) -> None:
        """Take in the next part of the text."""
        if not text:
            return
        data = text.encode()
        self._sha256.update(data)
        self._bytes += len(data)
        self._characters += len(text)
        joins = self._last != "" and not self._last.isspace() and not text[0].isspace()
        self._words += len(text.split()) - joins
        self._line_ends += text.count("\n")
        self._first = self._first or text[0]
        self._last = text[-1]

    @property
    def units(self) -> Units:
        """The units so far."""
        words = self._words
        if self._word == RE_SPLIT:
            # White space at either end gives an empty string beside it; a text of nothing else is one run, so two.
            words = words + self._first.isspace() + self._last.isspace() if words else 1 + bool(self._first)
        elif self._word == WORDS_AND_LINE_ENDS:
            words += self._line_ends + (self._last not in ("", "\n"))
        return Units(words, self._bytes, self._characters)

    @property
    def sha256(self) -> str:
        """The hex sha256 of the UTF-8 so far: a gpt2.document's id."""
        return self._sha256.hexdigest()
