"""Builds a Bloom filter of a train side's n-grams."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from gpt2cli.errors import UsageFault
from gpt2cli.overlap.bloom import RATE, BloomFilter, BloomHeader
from gpt2cli.overlap.inputs import TRAIN_FORM, InputForm
from gpt2cli.overlap.ngram_hashes import NgramHashes, WindowCount
from gpt2cli.overlap.word_stream import StreamCount, look_at_documents
from gpt2cli.reporter import Reporter, Silent


@dataclass(frozen=True)
class BloomConfig:
    """train, form, jobs: as in measure.OverlapConfig; n: words of an n-gram; rate: of false positives, at most.

    capacity: n-grams that the filter is made for; None: as many as there are, for which the input is read twice.
    """

    train: Sequence[str]
    n: int
    form: InputForm = TRAIN_FORM
    rate: float = RATE
    capacity: int | None = None
    jobs: int = 1


def build_bloom(config: BloomConfig, stream: BinaryIO, reporter: Reporter) -> BloomHeader:
    """Write the filter of the train side to `stream`; return its header.

    Raises UsageFault for a pipe without a capacity, and when the capacity was too small for the promised rate.
    """
    capacity = config.capacity or max(1, _count(config, reporter))
    bloom = BloomFilter.empty(config.n, capacity, config.rate)
    count, n_grams = StreamCount(), 0
    for seen in look_at_documents(config.train, config.form, NgramHashes(config.n), config.jobs, count, reporter):
        n_grams += len(seen.found)
        bloom.put(seen.found)
    if not count.documents:
        reporter.warn("the train side holds no document with text: the filter is empty")
    bloom.tally(n_grams, count.documents, count.words)
    if n_grams > capacity and bloom.header.false_positive_rate > config.rate:
        raise UsageFault(f"{n_grams:,} n-grams are more than --capacity {capacity:,}: the false-positive rate would be "
                         f"{bloom.header.false_positive_rate:.2g}, above {config.rate:g}; give a capacity of {n_grams}")
    bloom.write(stream)
    return bloom.header


def _count(config: BloomConfig, reporter: Reporter) -> int:
    """Return how many n-grams the train side holds, each as often as it occurs: the first reading."""
    for path in config.train or ("-",):
        if path == "-" or not (os.path.isfile(path) or os.path.isdir(path)):
            raise UsageFault(f"{'standard input' if path == '-' else path} can be read only once, and the size of the "
                             "filter must be known before: give --capacity N, the n-grams (about the words) to come")
    reporter.note("counting the n-grams first, for the filter's size")
    silent = _Counting(reporter)
    seen = look_at_documents(config.train, config.form, WindowCount(config.n), config.jobs, StreamCount(), silent)
    return sum(each.found for each in seen)


class _Counting(Silent):
    """Passes on progress and the wish to stop; warnings come with the second reading."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def progress(self, done: float, total: float | None, unit: str, **fields: str) -> None:
        """Report progress."""
        self._reporter.progress(done, total, f"{unit} counted", **fields)

    def stopping(self) -> bool:
        """Whether a signal asks to stop."""
        return self._reporter.stopping()
