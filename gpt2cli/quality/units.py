"""What is counted: words (the default) or tokens of a vocabulary, as whole numbers that are equal when they are."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import regex

from gpt2cli.errors import UsageFault

UNITS = ("word", "token")
WORD_DEFINITION = "runs of letters, digits, marks and _, with ' or \u2019 inside; any other character but white space"
_WORD = regex.compile(r"[\w\p{M}]+(?:['\u2019][\w\p{M}]+)*|[^\s\w]")


def split_words(text: str) -> list[str]:
    """Return the words of a text: see WORD_DEFINITION. Case is kept; white space belongs to no word."""
    return _WORD.findall(text)


class UnitIds:
    """Gives units their numbers: the same one in every text that it is asked about.

    unit: word, or token, those of `vocab`, a path for load_vocabulary. Raises UsageFault for another unit.
    """

    def __init__(self, unit: str = "word", vocab: str | os.PathLike[str] | None = None) -> None:
        self.name = unit
        self.definition = WORD_DEFINITION
        self.tokenizer_sha256: str | None = None
        self._numbers: dict[str, int] = {}
        self._ids: Callable[[str], np.ndarray] = self._word_ids
        if unit == "token":
            from gpt2cli.tokens.encode import Encoder
            from gpt2cli.tokens.vocabulary import load_vocabulary

            encoder = Encoder(load_vocabulary(vocab))
            self._ids = lambda text: encoder.encode(text).astype(np.int64)
            self.definition = "tokens of a byte-level BPE vocabulary"
            self.tokenizer_sha256 = encoder.vocabulary.sha256
        elif unit != "word":
            raise UsageFault(f"there is no unit {unit!r}; choose {' or '.join(UNITS)}")

    def ids(self, text: str) -> np.ndarray:
        """Return the numbers of a text's units in order, int64 [n]."""
        return self._ids(text)

    def _word_ids(self, text: str) -> np.ndarray:
        numbers = self._numbers
        return np.array([numbers.setdefault(word, len(numbers)) for word in split_words(text)], dtype=np.int64)
