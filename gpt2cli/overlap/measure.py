"""The overlap command's work: test documents against the train side, or against a Bloom filter made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.errors import UsageFault
from gpt2cli.overlap.bloom import BloomFilter
from gpt2cli.overlap.inputs import TRAIN_FORM, InputForm
from gpt2cli.overlap.ngram_hashes import NgramHashes
from gpt2cli.overlap.ngram_index import NgramIndex
from gpt2cli.overlap.passages import LongestPassages, TrainPlaces, passage_record, passages_of
from gpt2cli.overlap.test_side import ItemTexts, TestFile, TestSide
from gpt2cli.overlap.word_stream import StreamCount, look_at_documents
from gpt2cli.reporter import Reporter

Kind = str
Fields = dict[str, Any]
Preset = tuple[str, Iterable[tuple[str, int, str]]]
"""Its name, and its items: the task's name, the item's number, its text."""


@dataclass(frozen=True)
class OverlapConfig:
    """What is looked for where.

    train: inputs (none: stdin), read as `form` says; bloom: a filter instead of them; tests: files of documents or
    tasks; n: words of an n-gram, None for the filter's, or 8; by_line: each line of a plain test text is a document;
    show: how many of the longest shared passages of each test file are told; jobs: processes; summary: no record of
    each document.
    """

    train: Sequence[str]
    tests: Sequence[str]
    bloom: str | None = None
    n: int | None = None
    form: InputForm = TRAIN_FORM
    by_line: bool = False
    show: int = 0
    jobs: int = 1
    summary: bool = False


DEFAULT_N = 8


@dataclass(frozen=True)
class TrainFound:
    """Which n-grams of the index stand in the train side, bool [size], first where, and what the train side was."""

    found: np.ndarray
    places: TrainPlaces
    train: dict[str, int]
    method: str
    false_positive_rate: float


def measure_overlap(config: OverlapConfig, item_texts: ItemTexts, reporter: Reporter, preset: Preset | None = None
                    ) -> Iterator[tuple[Kind, Fields]]:
    """Yield for each test file a gpt2.overlap of every document, and gpt2.overlap-passage if asked; at last the set.

    preset: a name and the items that it makes of all test files, which are then looked for. Raises what reading raises,
    UsageFault for a filter of other n-grams than asked for, and Interrupted.
    """
    if not config.tests and preset is None:
        raise UsageFault("there is no test file to look for; name it with --test FILE")
    trains = (config.train or ("-",)) if config.bloom is None else ()
    if (*trains, *config.tests).count("-") > 1:
        raise UsageFault("standard input can't be read twice; name a file for TRAIN or for --test")
    bloom = BloomFilter.open(config.bloom, reporter) if config.bloom is not None else None
    n = config.n or (bloom.header.n if bloom else DEFAULT_N)
    if bloom and n != bloom.header.n:
        raise UsageFault(f"{config.bloom} is of {bloom.header.n}-grams, not of {n}-grams; leave --ngram out")
    side = TestSide(InputForm(split="val"), item_texts, by_line=config.by_line, keep_texts=config.show > 0)
    if preset is not None:
        side.read_items(*preset)
    for path in config.tests if preset is None else ():
        side.read(path, reporter)
    index = NgramIndex(side.vocabulary, side.numbers, n)
    if not index.size:
        reporter.warn(f"no test document has {n} words, so none can overlap")
    found = _look_up(bloom, side, index) if bloom else _stream(config, index, reporter)
    report, number = _Report(config, index, found), 0
    for file in side.files:
        yield from report.of_documents(file, number)
        number += len(file.documents)
    yield "gpt2.overlap-set", {
        "n": n, **report.of_files(side.files), "train": found.train, "method": found.method,
        "false_positive_rate": found.false_positive_rate,
        "tests": [{"test": file.name, "text_sha256": file.text_sha256(), **report.of_files([file])}
                  for file in side.files],
    }


def _stream(config: OverlapConfig, index: NgramIndex, reporter: Reporter) -> TrainFound:
    count = StreamCount()
    first = np.full(index.size, -1, dtype=np.int64)
    where: dict[int, str] = {}
    for seen in look_at_documents(config.train, config.form, index, config.jobs, count, reporter):
        matches = seen.found
        new = np.flatnonzero(first[matches.grams] < 0)
        local = np.searchsorted(seen.ends, matches.places[new])
        first[matches.grams[new]] = seen.first + local
        if config.show:
            where.update((seen.first + number, seen.where[number]) for number in np.unique(local).tolist())
    if not count.documents:
        reporter.warn("the train side holds no document with text")
    train = {"documents": count.documents, "words": count.words}
    return TrainFound(first >= 0, TrainPlaces(first, where), train, "exact", 0.0)


def _look_up(bloom: BloomFilter, side: TestSide, index: NgramIndex) -> TrainFound:
    hashes = NgramHashes(index.n).of_grams(list(side.vocabulary), index.rows_of_grams())
    found = bloom.holds(hashes)
    nowhere = TrainPlaces(np.full(index.size, -1, dtype=np.int64), {})
    train = {"documents": bloom.header.documents, "words": bloom.header.words}
    return TrainFound(found, nowhere, train, "bloom", bloom.header.false_positive_rate)


class _Report:
    """The records of all test files: documents and passages as they come, and what they add up to."""

    def __init__(self, config: OverlapConfig, index: NgramIndex, train: TrainFound) -> None:
        self._config = config
        self._index = index
        self._train = train
        self._hits = np.zeros(len(index.gram_at), dtype=bool)
        windows = index.gram_at >= 0
        self._hits[windows] = train.found[index.gram_at[windows]]
        self._totals = [np.concatenate([[0], np.cumsum(which)]) for which in (windows, self._hits)]

    def of_documents(self, file: TestFile, first: int) -> Iterator[tuple[Kind, Fields]]:
        """Yield the records of a file's documents, of which the first has this number, and of its passages."""
        passages = LongestPassages(self._config.show)
        for number, document in enumerate(file.documents, first):
            task = {} if document.task is None else {"task": document.task, "item": document.item}
            counts = self._counts(document.start, document.stop)
            if not self._config.summary:
                yield "gpt2.overlap", {"document": number, "id": document.id, "test": file.name, **task, **counts}
            if self._config.show and counts["n_overlap"]:
                starts = np.flatnonzero(self._hits[document.start : document.stop]) + document.start
                for passage in passages_of(number, document, starts, self._index.n):
                    passages.add(passage)
        for passage in passages.longest_first():
            yield "gpt2.overlap-passage", passage_record(passage, file.name, self._index.gram_at, self._index.n,
                                                         self._train.places)

    def of_files(self, files: Sequence[TestFile]) -> Fields:
        """Return the counts of files that were read one after the other."""
        documents = [document for file in files for document in file.documents]
        start, stop = documents[0].start, documents[-1].stop
        grams = self._index.gram_at[start:stop]
        own = np.zeros(self._index.size, dtype=bool)
        own[grams[grams >= 0]] = True
        overlapping = sum(self._counts(document.start, document.stop)["n_overlap"] > 0 for document in documents)
        return {"n_documents": len(documents), **self._counts(start, stop), "n_distinct": int(own.sum()),
                "n_distinct_overlap": int((own & self._train.found).sum()), "n_documents_with_overlap": overlapping}

    def _counts(self, start: int, stop: int) -> Fields:
        n_grams, n_overlap = (int(total[stop] - total[start]) for total in self._totals)
        return {"n_grams": n_grams, "n_overlap": n_overlap, "overlap": n_overlap / n_grams if n_grams else 0.0}
