"""The main text of a page by two extractors of different kinds that check each other, line by line.

trafilatura's fast mode and resiliparse agree on most pages. Where they don't, trafilatura's default mode, with its
fallbacks, is asked too, and of its two texts the one that is nearer to resiliparse's is taken. Then short lines that
resiliparse took for furniture are left out, and long passages of prose that only resiliparse saw are put in. The
constants were chosen on public labelled pages; tests/bench/webtext_extract measures what they come to.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from gpt2cli.webtext.resiliparse_text import resiliparse_text
from gpt2cli.webtext.trafilatura_text import trafilatura_text

AGREEMENT = 0.8
"""Agreement of the two below which the default mode is asked."""
_SHARED = 0.5
"""Share of a line's 3-grams of words in the other text from which on the other has the line."""
_TRUSTED_TO_DROP, _TRUSTED_TO_ADD = 0.5, 0.8
"""Share of our text that the other has, from which on its word counts."""
_SHORT_LINE = 30
"""Words below which a line can be furniture."""
_PROSE_LINE = 15
"""Words of a line, ended as a sentence is, from which on it is prose."""
_MUCH_PROSE = 0.3
"""Prose that only the other has, in words of ours, from which on it is no accident."""
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"""[.!?:"”'’)…。]$""")

Gram = tuple[str, ...]


def merged_text(html: str) -> str:
    """Return the text, a paragraph a line, or "" when there is none."""
    other = resiliparse_text(html)
    merge = merge_of(trafilatura_text(html, fast=True), other)
    if merge.agreement() < AGREEMENT:
        thorough = merge_of(trafilatura_text(html), other)
        if thorough.agreement() >= merge.agreement():
            merge = thorough
    return merge.text()


@dataclass(frozen=True)
class Line:
    """A line of a merge. shared: how much of it the other text has; for a line that only the other has, None."""

    text: str
    words: int
    shared: float | None

    @property
    def is_prose(self) -> bool:
        """Whether it is long and ends as a sentence."""
        return self.words >= _PROSE_LINE and _SENTENCE_END.search(self.text) is not None


@dataclass(frozen=True)
class Merge:
    """The lines of one text, and between them those that only the other text has, in the order of the page."""

    lines: tuple[Line, ...]

    def agreement(self) -> float:
        """Return how near the texts are to each other: the harmonic mean of the shares of words that each shares."""
        ours, shared, theirs = self._words()
        total = ours + shared + theirs
        return 2 * shared / total if total else 1.0

    def text(self) -> str:
        """Return what both texts together say is the page's."""
        ours, shared, _ = self._words()
        trust = shared / ours if ours else 0.0
        prose = sum(line.words for line in self.lines if line.shared is None and line.is_prose)
        add = trust >= _TRUSTED_TO_ADD and prose >= _MUCH_PROSE * ours
        drop = trust >= _TRUSTED_TO_DROP
        kept = [line.text for line in self.lines if (
            add and line.is_prose if line.shared is None
            else not (drop and line.shared < _SHARED and line.words < _SHORT_LINE))]
        return "\n".join(kept)

    def _words(self) -> tuple[int, float, int]:
        """Return the words of our text, how many of them the other has, and those of lines that only the other has."""
        ours = sum(line.words for line in self.lines if line.shared is not None)
        shared = sum(line.words * line.shared for line in self.lines if line.shared is not None)
        return ours, shared, sum(line.words for line in self.lines if line.shared is None)


def merge_of(ours: str, other: str) -> Merge:
    """Return our text's lines with the lines that only the other has, each behind the last of ours that it follows."""
    mine, theirs = _Words(ours), _Words(other)
    shares = [mine.share(grams) if grams else 1.0 for grams in theirs.grams]
    behind: list[list[Line]] = [[] for _ in range(len(mine.lines) + 1)]
    last = 0
    for number in range(1 + max((at for at, share in enumerate(shares) if share < _SHARED), default=-1)):
        if shares[number] < _SHARED:
            behind[last].append(Line(theirs.lines[number], len(theirs.words[number]), None))
        elif found := [place for gram in theirs.grams[number] if (place := mine.places.get(gram)) is not None]:
            most = found[0] if len(set(found)) == 1 else Counter(found).most_common(1)[0][0]
            last = max(last, most + 1)
    lines = list(behind[0])
    for line, words, grams, after in zip(mine.lines, mine.words, mine.grams, behind[1:], strict=True):
        lines += [Line(line, len(words), theirs.share(grams)), *after]
    return Merge(tuple(lines))


class _Words:
    """A text's lines, the words of each, and their runs of 3 words; of a line with fewer, all of them as one."""

    def __init__(self, text: str) -> None:
        self.lines = [line for line in text.split("\n") if line.strip()]
        self.words = [_WORD.findall(line.lower()) for line in self.lines]
        self.grams: list[list[Gram]] = [list(zip(words, words[1:], words[2:], strict=False)) if len(words) > 2
                      else [tuple(words)] if words else [] for words in self.words]

    @cached_property
    def places(self) -> dict[Gram, int]:
        """The first line of each run."""
        places: dict[Gram, int] = {}
        for number, grams in enumerate(self.grams):
            for gram in grams:
                places.setdefault(gram, number)
        return places

    @cached_property
    def _all(self) -> list[str]:
        return [word for line in self.words for word in line]

    @cached_property
    def _triples(self) -> set[Gram]:
        """All runs of 3, lines or not: where one extractor breaks a line, others don't."""
        return set(zip(self._all, self._all[1:], self._all[2:], strict=False))

    @cached_property
    def _shorter(self) -> set[Gram]:
        return {*zip(self._all, strict=False), *itertools.pairwise(self._all)}

    def share(self, grams: list[Gram]) -> float:
        """Return how many of the runs of a line, which are of one length, this text has; 1 for a line of no words."""
        if not grams:
            return 1.0
        return sum(map((self._triples if len(grams[0]) > 2 else self._shorter).__contains__, grams)) / len(grams)
