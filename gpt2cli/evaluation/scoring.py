"""Nll of documents under a model, window by window: batches of a token budget, the head on scored positions alone.

Windows are laid end to end, not padded, and none sees another, so the batch size changes rounding and nothing else.
Those of a stretch of documents are sorted by length, so that equals attend together, and given back in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np
import torch

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.evaluation.head import Head, Scores
from gpt2cli.evaluation.predictions import Predictions, Wanted
from gpt2cli.evaluation.protocols import Protocol
from gpt2cli.evaluation.token_feed import TokenFeed
from gpt2cli.evaluation.windows import LAST_WORD_WINDOW, WINDOWS, Window
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.packed import hidden_states
from gpt2cli.reporter import Reporter

LOOKAHEAD = 16
"""Batches' worth of windows that are sorted by length together."""


@dataclass(frozen=True)
class WindowScores:
    """The scored targets of one window of document `document`, in order: arrays of the same length.

    `first` is the place of the first in the document's sequence. ranks, entropies and predictions are None unless
    asked for.
    """

    document: int
    first: int
    window: Window
    ids: np.ndarray
    nll_nats: np.ndarray
    ranks: np.ndarray | None
    entropies: np.ndarray | None
    predictions: Predictions | None = None

    @property
    def nll(self) -> float:
        """What the window adds to the document's nll, in nats: the sum in fp64, weighted as the protocol says."""
        total = float(self.nll_nats.sum(dtype=np.float64))
        return total if self.window.counted == self.window.scored else total / self.window.scored * self.window.counted


@dataclass(frozen=True)
class _Job:
    document: int
    window: Window
    inputs: np.ndarray
    targets: np.ndarray


class Scorer:
    """A model that scores documents by one protocol. budget: positions computed together.

    details, wanted: see Head.score.
    """

    def __init__(self, model: GPT2, bos: int, protocol: Protocol, budget: int, *, details: bool = False,
                 wanted: Wanted | None = None) -> None:
        self._model = model
        self._bos = bos if protocol.has_bos else None
        self._protocol = protocol
        self._budget = budget
        self._details = details
        self._wanted = wanted
        self._head = Head(model.wte.weight)
        self._device = model.wte.weight.device

    def score(self, documents: Iterable[Iterable[np.ndarray]], reporter: Reporter, total: int | None = None
              ) -> Iterator[WindowScores]:
        """Yield every window's scores, by document (counted from 0) and place. A document is its ids in chunks.

        total: tokens to come, if known, for the progress. Raises BadInput when the model gives no finite probability,
        and Interrupted when asked to stop.
        """
        done = 0
        for jobs in _stretches(self._jobs(documents), self._budget * LOOKAHEAD):
            order = sorted(range(len(jobs)), key=lambda number: -len(jobs[number].inputs))
            found: dict[int, WindowScores] = {}
            for group in _batches(order, jobs, self._budget):
                if reporter.stopping():
                    raise Interrupted
                found.update(zip(group, self._batch([jobs[number] for number in group]), strict=True))
                done += sum(jobs[number].window.counted for number in group)
                reporter.progress(done, total, "tokens")
            yield from (found[number] for number in range(len(jobs)))

    def _jobs(self, documents: Iterable[Iterable[np.ndarray]]) -> Iterator[_Job]:
        protocol = self._protocol
        for number, chunks in enumerate(documents):
            if protocol.windows == LAST_WORD_WINDOW:
                yield from self._last_chunk(number, list(chunks))
                continue
            feed = TokenFeed(chunks, self._bos)
            for window in WINDOWS[protocol.windows](feed.reach, protocol.context, protocol.stride):
                yield _Job(number, window, feed.take(window.start, window.stop),
                           feed.take(window.stop + 1 - window.scored, window.stop + 1))
                feed.forget(window.stop - protocol.context)

    def _last_chunk(self, number: int, chunks: list[np.ndarray]) -> Iterator[_Job]:
        if not chunks:
            return
        begin = [] if self._bos is None else [self._bos]
        ids = np.concatenate([np.array(begin, dtype=np.int64), *(chunk.astype(np.int64) for chunk in chunks)])
        scored, stop = len(chunks[-1]), len(ids) - 1
        start = max(0, stop - self._protocol.context)
        if not 0 < scored <= stop - start:
            raise BadInput(f"passage {number + 1} ends with a word of {scored} tokens, which do not fit the context of "
                           f"{self._protocol.context} with one before them")
        yield _Job(number, Window(start, stop, scored, scored), ids[start:stop], ids[stop + 1 - scored :])

    def _batch(self, jobs: list[_Job]) -> Iterator[WindowScores]:
        """Score windows together; those of one length are neighbours."""
        runs = [(len(list(equals)), length) for length, equals in groupby(len(job.inputs) for job in jobs)]
        ends = accumulate(len(job.inputs) for job in jobs)
        wanted = np.concatenate([np.arange(end - len(job.targets), end)
                                 for end, job in zip(ends, jobs, strict=True)])
        ids_N = self._tensor(np.concatenate([job.inputs for job in jobs]))
        x_MC = hidden_states(self._model, ids_N, runs, None if len(wanted) == len(ids_N) else self._tensor(wanted))
        targets_M = self._tensor(np.concatenate([job.targets for job in jobs]))
        return _split(jobs, self._head.score(x_MC, targets_M, details=self._details, wanted=self._wanted))

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)


def _split(jobs: list[_Job], scores: Scores) -> Iterator[WindowScores]:
    nll, ranks, entropies = (None if column is None else column.cpu().numpy()
                             for column in (scores.nll_N, scores.rank_N, scores.entropy_N))
    assert nll is not None
    if not np.isfinite(nll).all():
        raise BadInput("the model gives a token no finite probability; its weights are not sound")
    at = 0
    for job in jobs:
        rows = slice(at, at := at + len(job.targets))
        yield WindowScores(job.document, job.window.stop + 1 - job.window.scored, job.window, job.targets, nll[rows],
                           None if ranks is None else ranks[rows], None if entropies is None else entropies[rows],
                           None if scores.predictions is None else scores.predictions.rows(rows))


def _stretches(jobs: Iterator[_Job], size: int) -> Iterator[list[_Job]]:
    """Cut the jobs into stretches of about `size` positions."""
    stretch: list[_Job] = []
    held = 0
    for job in jobs:
        stretch.append(job)
        held += len(job.inputs)
        if held >= size:
            yield stretch
            stretch, held = [], 0
    if stretch:
        yield stretch


def _batches(order: list[int], jobs: list[_Job], budget: int) -> Iterator[list[int]]:
    """Cut `order` into batches of at most `budget` positions (one job at least)."""
    batch: list[int] = []
    held = 0
    for number in order:
        size = len(jobs[number].inputs)
        if batch and held + size > budget:
            yield batch
            batch, held = [], 0
        batch.append(number)
        held += size
    if batch:
        yield batch
