"""The words of many documents streamed past something that looks at their n-grams, by one process or several.

What looks is a Looker: it gives every word a number or two (a row; a gap where no n-gram goes across) and looks at the
windows of n rows. Batches of whole documents are looked at wherever a process is free. A long document comes in parts;
the windows that span two parts are looked at here. The results come in the documents' order, whatever `jobs` is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, Protocol, TypeVar

import numpy as np

from gpt2cli.errors import Interrupted
from gpt2cli.overlap.inputs import Batch, InputForm, documents_in, read_work
from gpt2cli.overlap.long_words import LongWords
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.document_batch import DocumentTally, LongDocument
from gpt2cli.tokens.ordered_pool import Done, OrderedPool
from gpt2cli.tokens.words import DOCUMENT_END, words_of, words_of_lower

Found = TypeVar("Found")


class Looker(Protocol[Found]):
    """Something that looks at the n-grams of words, `n` words each."""

    n: int

    def rows(self, words: list[str]) -> np.ndarray:
        """Return a row for each word [len(words), ...]; DOCUMENT_END and what is no word have a gap's."""

    def look(self, rows: np.ndarray) -> Found:
        """Return what the windows of n rows without a gap hold."""

    def documents(self, found: Found) -> np.ndarray:
        """Return the places in `rows` [k] whose documents should be told by name."""


@dataclass(frozen=True)
class LongPart:
    """The next lower-cased words of the long document found at `where`."""

    text: str
    where: str


@dataclass
class Looked(Generic[Found]):
    """What was found in some documents, or in a part of one.

    found: None for the end of a long document. ends: of each whole document, where its words end in the rows, None for
    a part. where: by number in this batch, the documents that the looker wanted told. words: how many there were.
    head, tail: of a part its first and last n - 1 rows.
    """

    found: Found | None
    words: int = 0
    ends: np.ndarray | None = None
    where: dict[int, str] = field(default_factory=dict)
    head: np.ndarray | None = None
    tail: np.ndarray | None = None
    tally: DocumentTally = field(default_factory=DocumentTally)


@dataclass(frozen=True)
class Seen(Generic[Found]):
    """What was found, in documents `first` and following by number over the whole stream; ends, where: as in Looked."""

    found: Found
    first: int
    ends: np.ndarray
    where: dict[int, str]


@dataclass
class StreamCount:
    """Documents and words that went by."""

    documents: int = 0
    words: int = 0


def look_at_documents(paths: Sequence[str], form: InputForm, looker: Looker[Found], jobs: int, count: StreamCount,
                      reporter: Reporter) -> Iterator[Seen[Found]]:
    """Yield what `looker` finds in the documents of `paths` (none: stdin), in order; `count` grows along.

    What was skipped or replaced goes to the reporter as warnings. Raises what read_work raises, and Interrupted.
    """
    tally = DocumentTally()
    look = _Look(looker)
    for looked in _results(_tasks(read_work(paths, tally, form)), look, jobs):
        tally.add(looked.tally)
        yield from look.joined(looked, count)
        reporter.progress(count.words / 1e6, None, "M words", documents=f"{count.documents:,}")
        if reporter.stopping():
            raise Interrupted
    for line in tally.sentences():
        reporter.warn(line)


def _tasks(work: Iterable[Batch | LongDocument]) -> Iterator[Batch | LongPart | Done[Looked[Found]]]:
    for item in work:
        if not isinstance(item, LongDocument):
            yield item
            continue
        words = LongWords(item)
        for text in words:
            yield LongPart(text, item.where)
        yield Done(Looked(None, where={0: item.where}, tally=DocumentTally(loss=words.loss)))


def _results(tasks: Iterator[Batch | LongPart | Done[Looked[Found]]], look: _Look[Found], jobs: int
             ) -> Iterator[Looked[Found]]:
    """Yield the tasks' results, in order. Processes are started only for a second task."""
    first = next(tasks, None)
    second = next(tasks, None) if jobs > 1 else None
    everything = chain((task for task in (first, second) if task is not None), tasks)
    if second is None:
        for task in everything:
            yield task.result if isinstance(task, Done) else look(task)
        return
    with OrderedPool(jobs, look) as pool:
        yield from pool.map(everything)


class _Look(Generic[Found]):
    """Looks at one task, in any process; and, in the main one, across the parts of long documents."""

    def __init__(self, looker: Looker[Found]) -> None:
        self._looker = looker
        self._state: np.ndarray | None = None

    def __call__(self, task: Batch | LongPart) -> Looked[Found]:
        reach = self._looker.n - 1
        if isinstance(task, LongPart):
            rows = self._looker.rows(words_of_lower(task.text))
            return Looked(self._looker.look(rows), len(rows), None, {0: task.where}, rows[:reach],
                          rows[max(0, len(rows) - reach) :])
        tally = DocumentTally()
        words: list[str] = []
        ends: list[int] = []
        where: list[str] = []
        for document in documents_in(task, tally):
            words += words_of(document.text)
            ends.append(len(words))
            words.append(DOCUMENT_END)
            where.append(document.where)
        found = self._looker.look(self._looker.rows(words))
        places = np.array(ends, dtype=np.int64)
        numbers = np.unique(np.searchsorted(places, self._looker.documents(found)))
        named = {number: where[number] for number in numbers.tolist()}
        return Looked(found, len(words) - len(ends), places, named, tally=tally)

    def joined(self, looked: Looked[Found], count: StreamCount) -> Iterator[Seen[Found]]:
        """Yield what a task's result tells, and what was found across the border before it."""
        first = count.documents
        count.words += looked.words
        if looked.found is None:
            self._state = None
            count.documents += 1
        elif looked.ends is not None:
            count.documents += len(looked.ends)
            yield Seen(looked.found, first, looked.ends, looked.where)
        else:
            assert looked.head is not None and looked.tail is not None
            one = np.array([np.iinfo(np.int64).max])
            if self._state is not None:
                yield Seen(self._looker.look(np.concatenate([self._state, looked.head])), first, one, looked.where)
            yield Seen(looked.found, first, one, looked.where)
            kept = looked.tail if self._state is None else np.concatenate([self._state, looked.tail])
            self._state = kept[max(0, len(kept) - self._looker.n + 1) :]
