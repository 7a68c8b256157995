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
    mine = [line for line in ours.split("\n") if line.strip()]
    mine_words, theirs = [_words_of(line) for line in mine], [line for line in other.split("\n") if line.strip()]
    theirs_words = [_words_of(line) for line in theirs]
    places: dict[Gram, int] = {}
    for number, words in enumerate(mine_words):
        for gram in _grams(words):
            places.setdefault(gram, number)
    in_mine, in_theirs = _all_grams(mine_words), _all_grams(theirs_words)
    behind: list[list[Line]] = [[] for _ in range(len(mine) + 1)]
    last = 0
    for line, words in zip(theirs, theirs_words, strict=True):
        if not words:
            continue
        if _share(words, in_mine) < _SHARED:
            behind[last].append(Line(line, len(words), None))
        elif found := Counter(places[gram] for gram in _grams(words) if gram in places):
            last = max(last, found.most_common(1)[0][0] + 1)
    lines = list(behind[0])
    for number, (line, words) in enumerate(zip(mine, mine_words, strict=True), 1):
        lines += [Line(line, len(words), _share(words, in_theirs)), *behind[number]]
    return Merge(tuple(lines))


def _words_of(line: str) -> list[str]:
    return _WORD.findall(line.lower())


def _grams(words: list[str]) -> list[Gram]:
    """Return the runs of 3 words; of a line with fewer, all of them as one."""
    return list(zip(words, words[1:], words[2:], strict=False)) if len(words) > 2 else [tuple(words)] if words else []


def _all_grams(lines: list[list[str]]) -> set[Gram]:
    """Return the runs of 1, 2 and 3 words of a text, lines or not: where one extractor breaks a line, others don't."""
    words = [word for line in lines for word in line]
    return {*zip(words, strict=False), *itertools.pairwise(words),
            *zip(words, words[1:], words[2:], strict=False)}


def _share(words: list[str], grams: set[Gram]) -> float:
    own = _grams(words)
    return sum(gram in grams for gram in own) / len(own) if own else 1.0
