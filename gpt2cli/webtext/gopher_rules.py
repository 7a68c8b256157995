"""The rules of MassiveText (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1) for web pages.

The paper's words leave a choice in places. Here words are what white space parts; a line or paragraph is a duplicate
when an earlier one equals it; the n-grams are of words, and shares of characters are shares of the words' characters,
none counted twice: of all places where the most frequent n-gram stands (0 when none stands twice), or of all places of
all n-grams that stand more than once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from gpt2cli.webtext.rule import Page, Rule, Settings
from gpt2cli.webtext.text_view import repeats

QUALITY = "Rae et al. 2021, A.1.1, Quality filtering"
REPETITION = "Rae et al. 2021, A.1.1, table A1"
_EDGES = ".,;:!?\"'()[]{}\u2018\u2019\u201c\u201d"


def _per_word(page: Page, settings: Settings) -> float:
    count = sum(page.view.text.count(mark) for mark in settings["marks"])
    return count / max(1, len(page.view.words))


def _words(page: Page, settings: Settings) -> float:
    return len(page.view.words)


def _word_length(page: Page, settings: Settings) -> float:
    return float(page.view.word_lengths.sum()) / max(1, len(page.view.words))


def _bullets(page: Page, settings: Settings) -> float:
    lines = page.view.lines
    return sum(line.startswith(tuple(settings["bullets"])) for line in lines) / max(1, len(lines))


def _ellipsis_lines(page: Page, settings: Settings) -> float:
    lines = page.view.lines
    return sum(line.endswith(tuple(settings["marks"])) for line in lines) / max(1, len(lines))


def _alphabetic(page: Page, settings: Settings) -> float:
    words = page.view.words
    return sum(word.isalpha() or any(map(str.isalpha, word)) for word in words) / max(1, len(words))


def _stop_words(page: Page, settings: Settings) -> float:
    wanted = set(settings["words"])
    found: set[str] = set()
    for word in page.view.words:
        bare = word.strip(_EDGES).lower()
        if bare in wanted:
            found.add(bare)
            if len(found) == len(wanted):
                break
    return len(found)


def _repeated_items(items: Sequence[str]) -> float:
    return sum(1 for _ in repeats(items)) / max(1, len(items))


def _repeated_characters(items: Sequence[str]) -> float:
    return sum(len(items[place]) for place in repeats(items)) / max(1, sum(map(len, items)))


def _top_gram(page: Page, settings: Settings, n: int) -> float:
    ids, counts = page.view.grams(n)
    if not len(counts) or counts.max() < 2:
        return 0.0
    most = np.flatnonzero(counts == counts.max())
    if len(most) > 1:  # of equally frequent ones the longest
        ends = np.concatenate([[0], np.cumsum(page.view.word_lengths)])
        lengths = ends[n : n + len(ids)] - ends[: len(ids)]
        places = np.flatnonzero(np.isin(ids, most))
        most = ids[places[np.argmax(lengths[places])]]
    return page.view.share_within(ids == most, n)


def _repeated_grams(page: Page, settings: Settings, n: int) -> float:
    ids, counts = page.view.grams(n)
    return page.view.share_within(counts[ids] > 1, n) if len(ids) else 0.0


GOPHER_QUALITY = (
    Rule("gopher-words", QUALITY, _words),
    Rule("gopher-word-length", QUALITY, _word_length),
    Rule("gopher-hashes", QUALITY, _per_word),
    Rule("gopher-ellipses", QUALITY, _per_word),
    Rule("gopher-bullets", QUALITY, _bullets),
    Rule("gopher-ellipsis-lines", QUALITY, _ellipsis_lines),
    Rule("gopher-alphabetic", QUALITY, _alphabetic),
    Rule("gopher-stop-words", QUALITY, _stop_words),
)
GOPHER_REPETITION = (
    Rule("gopher-duplicate-lines", REPETITION, lambda page, _: _repeated_items(page.view.lines)),
    Rule("gopher-duplicate-paragraphs", REPETITION, lambda page, _: _repeated_items(page.view.paragraphs)),
    Rule("gopher-duplicate-line-characters", REPETITION, lambda page, _: _repeated_characters(page.view.lines)),
    Rule("gopher-duplicate-paragraph-characters", REPETITION,
         lambda page, _: _repeated_characters(page.view.paragraphs)),
    *(Rule(f"gopher-top-{n}-gram", REPETITION, functools.partial(_top_gram, n=n)) for n in (2, 3, 4)),
    *(Rule(f"gopher-duplicate-{n}-grams", REPETITION, functools.partial(_repeated_grams, n=n)) for n in range(5, 11)),
)
