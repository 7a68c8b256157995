"""A text's shingles, its overlapping runs of n words, as 64-bit numbers; and the hash of the text itself.

Words are those of gpt2cli.tokens.words (runs of letters and digits, lower-cased) of the text in NFC; a character of a
script that writes no spaces (Han, kana, Thai, Lao, Khmer, Burmese) is a word by itself. A text of fewer than n words,
but of one at least, has one shingle: all its words. A text without words has none.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator

import numpy as np

from gpt2cli.tokens.word_windows import mixed, multipliers, running_sums
from gpt2cli.tokens.words import words_of

SLICE = 1 << 20
"""Characters of a text that are cut into words at once: a large text's words never stand in memory together."""
LONGEST_RUN = 1 << 20
MOST_WORDS = 1 << 18
"""Words whose hashes are kept; then they are forgotten, and made again when they come again."""
LONGEST_KEPT = 64
"""Characters of the longest word whose hash is kept."""
_SEED = 7
_NO_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
                        "\U00020000-\U0003ffff]")
_BORDER = re.compile(r"[\x00-/:-@\[-`{-\x7f]")  # of ASCII and of no word: nothing before it composes with it


def composed(text: str) -> str:
    """Return `text` in NFC."""
    return text if text.isascii() or unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def slices(text: str) -> Iterator[str]:
    """Yield `text` in NFC in pieces of about SLICE characters, cut between two words.

    A run of more than LONGEST_RUN characters without a sign or space of ASCII is cut anywhere.
    """
    at = 0
    while at < len(text):
        stop = at + SLICE
        if stop < len(text):
            border = _BORDER.search(text, stop, stop + LONGEST_RUN)
            stop = border.start() if border is not None else stop + LONGEST_RUN
        yield composed(text[at:stop])
        at = stop


def text_digest(text: str) -> bytes:
    """Return the 128-bit BLAKE2b of a text in NFC, every run of white space one space, none at its ends."""
    digest = hashlib.blake2b(digest_size=16)
    begun = gap = False
    for piece in slices(text):
        words = " ".join(piece.split())
        if not words:
            gap = True
            continue
        if begun and (gap or piece[0].isspace()):
            digest.update(b" ")
        digest.update(words.encode("utf-8", "surrogatepass"))
        begun, gap = True, piece[-1].isspace()
    return digest.digest()


class WordHashes(dict[str, int]):
    """Words and the first 64 bits of their BLAKE2b; at most MOST_WORDS are kept."""

    def __missing__(self, word: str) -> int:
        value = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        if len(word) <= LONGEST_KEPT:
            if len(self) >= MOST_WORDS:
                self.clear()
            self[word] = value
        return value

    def of(self, words: list[str]) -> np.ndarray:
        """Return the hashes of `words`, uint64 [words]."""
        return np.fromiter(map(self.__getitem__, words), dtype=np.uint64, count=len(words))


class Shingler:
    """Gives texts their shingles of `n` words."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._factors = multipliers(n, _SEED)
        self._hashes = WordHashes()

    def shingles(self, text: str) -> Iterator[np.ndarray]:
        """Yield the shingles of a text as blocks of uint64 [k], in order, repeated ones repeated."""
        tail = np.empty(0, dtype=np.uint64)
        found = False
        for piece in slices(text):
            values = np.concatenate([tail, self._hashes.of(_words_of_slice(piece))])
            if len(values) >= self._n:
                found = True
                yield mixed(running_sums(values, self._factors))
            tail = values[max(0, len(values) - self._n + 1) :]
        if not found and len(tail):
            # The number of words is mixed in: "a b" is no part of a longer text's shingle
            yield mixed(np.array([(tail * self._factors[: len(tail)]).sum() + np.uint64(len(tail))], dtype=np.uint64))


def _words_of_slice(text: str) -> list[str]:
    return words_of(text if text.isascii() else _NO_SPACES.sub(r" \g<0> ", text))
