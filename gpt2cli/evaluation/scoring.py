"""Summed nll of documents under a model: windows are batched by length, the head runs on scored positions alone.

Padding goes to the right, where causal attention keeps it from every position that counts, so the batch size changes
rounding and nothing else. Sums are fp64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.sliding import Protocol, Window, sliding_windows
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.nll import token_nll
from gpt2cli.reporter import Reporter

LOOKAHEAD = 32
"""Batches' worth of windows that are sorted by length together, so that little is padded."""


@dataclass(frozen=True)
class _Job:
    """One window of one document; `sequence` is bos and the document's ids."""

    document: int
    window: Window
    sequence: np.ndarray

    @property
    def length(self) -> int:
        return self.window.stop - self.window.start


def score_documents(
    model: GPT2, documents: Iterable[np.ndarray], bos: int, protocol: Protocol, batch: int, reporter: Reporter,
    total: int | None = None,
) -> Iterator[tuple[int, float]]:
    """Yield (document number, nll in nats) of pieces of documents, one for every window; they add up to the documents'.

    documents: ids of each without end-of-text; an empty one yields nothing. bos: the id that stands before each.
    total: tokens to come, if known, for the progress. Raises BadInput when the model gives no finite probability.
    """
    done = 0
    for jobs in _blocks(_jobs(documents, bos, protocol), batch * LOOKAHEAD):
        jobs.sort(key=lambda job: job.length, reverse=True)
        for start in range(0, len(jobs), batch):
            group = jobs[start : start + batch]
            for job, nll in zip(group, _score(model, group), strict=True):
                if not np.isfinite(nll):
                    raise BadInput("the model gives a token no finite probability; its weights are not sound")
                yield job.document, nll
                done += job.window.scored
            reporter.progress(done, total, "tokens")


def _jobs(documents: Iterable[np.ndarray], bos: int, protocol: Protocol) -> Iterator[_Job]:
    for number, ids in enumerate(documents):
        sequence = np.concatenate([[bos], ids.astype(np.int64)])
        for window in sliding_windows(len(ids), protocol.context, protocol.stride):
            yield _Job(number, window, sequence)


def _blocks(jobs: Iterator[_Job], size: int) -> Iterator[list[_Job]]:
    block: list[_Job] = []
    for job in jobs:
        block.append(job)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


@torch.inference_mode()
def _score(model: GPT2, jobs: list[_Job]) -> list[float]:
    """Return the summed nll of each job's scored targets; jobs come longest first."""
    device = model.wte.weight.device
    ids_BT = np.zeros((len(jobs), jobs[0].length), dtype=np.int64)
    for row, job in enumerate(jobs):
        ids_BT[row, : job.length] = job.sequence[job.window.start : job.window.stop]
    hidden_BTC = model(torch.from_numpy(ids_BT).to(device))
    scored = [job.window.scored for job in jobs]
    x_NC = torch.cat([hidden_BTC[row, job.length - job.window.scored : job.length] for row, job in enumerate(jobs)])
    targets = [job.sequence[: job.window.stop + 1][-job.window.scored :] for job in jobs]
    nll_N = token_nll(x_NC, model.wte.weight, torch.from_numpy(np.concatenate(targets)).to(device))
    return [float(part.sum()) for part in nll_N.cpu().double().split(scored)]
