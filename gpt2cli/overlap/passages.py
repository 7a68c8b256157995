"""The passages that test and train side share: n-grams that overlap each other, merged, as the test document has them.

Only the longest are kept. A train document is named for the n-grams that stood in it first.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.overlap.test_side import TestDocument
from gpt2cli.tokens.words import word_spans

MOST_TEXT = 2000
"""Characters of a passage that a record holds."""
MOST_SOURCES = 3


@dataclass(frozen=True)
class Passage:
    """Words `start` to `stop` (of the whole test side) of the document with this number."""

    number: int
    document: TestDocument
    start: int
    stop: int


class LongestPassages:
    """Keeps the `most` longest passages; of equally long ones the earlier."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, int, Passage]] = []
        self._met = 0

    def add(self, passage: Passage) -> None:
        """Keep a passage, unless there are enough longer ones."""
        self._met += 1
        entry = (passage.stop - passage.start, -self._met, passage)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def longest_first(self) -> list[Passage]:
        """Return what was kept."""
        return [passage for _, _, passage in sorted(self._heap, reverse=True)]


def passages_of(number: int, document: TestDocument, starts: np.ndarray, n: int) -> Iterator[Passage]:
    """Yield the passages of a document whose shared n-grams begin at words `starts` (ascending) of the test side."""
    if not len(starts):
        return
    breaks = np.flatnonzero(np.diff(starts) >= n)
    firsts = starts[np.concatenate([[0], breaks + 1])].tolist()
    lasts = starts[np.concatenate([breaks, [-1]])].tolist()
    for first, last in zip(firsts, lasts, strict=True):
        yield Passage(number, document, first, last + n)


@dataclass(frozen=True)
class TrainPlaces:
    """For each n-gram of the index, the number of the first train document that holds it (-1: none, or not known).

    where: for those documents, by number, file and line.
    """

    document: np.ndarray
    where: dict[int, str]

    def sources(self, grams: np.ndarray) -> tuple[int, list[dict[str, Any]]]:
        """Return how many train documents the n-grams stood in first, and the few that hold most of them."""
        numbers = self.document[grams[grams >= 0]]
        counts = Counter(numbers[numbers >= 0].tolist())
        most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_SOURCES]
        return len(counts), [{"document": number, "where": self.where[number], "n_grams": count}
                             for number, count in most]


def passage_record(passage: Passage, test: str, gram_at: np.ndarray, n: int, places: TrainPlaces) -> dict[str, Any]:
    """Return the fields of a gpt2.overlap-passage/1 record; its document has kept its text."""
    document = passage.document
    assert document.text is not None
    spans = word_spans(document.text)[passage.start - document.start : passage.stop - document.start]
    start, stop = spans[0][0], spans[-1][1]
    total, sources = places.sources(gram_at[passage.start : passage.stop - n + 1])
    return {
        "test": test, "document": passage.number, "id": document.id,
        **({} if document.task is None else {"task": document.task, "item": document.item}),
        "n_words": passage.stop - passage.start, "start": start, "stop": stop,
        "text": document.text[start : min(stop, start + MOST_TEXT)], "n_train_documents": total, "train": sources,
    }
