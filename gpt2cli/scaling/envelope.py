"""Approach 1 of Hoffmann et al. (2022, section 3.1): the lower envelope of training curves.

At 1,500 values of C = 6 N D, spaced evenly in logarithm, the size with the lowest loss is found. Where the envelope
passes from one size to the next both do equally well, so the optimum lies between them: these handovers (geometric
mean of the two sizes) are what the power law goes through. Hoffmann's regression on the sizes themselves sees a
staircase, whose slope is too low by 1/K^2 for K steps; handovers have no such bias, and on sizes in equal ratios their
exponent is exact for any surface E + A N^-alpha + B D^-beta.

A handover counts where both sizes have a curve on either side of it: one forced by the end of a curve does not.
Curves are compared like with like: of a run with a stable learning rate (WSD) only the stable part counts, since its
decayed end lies below every undecayed curve; a cosine counts from the warm-up on, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.curves import smooth
from gpt2cli.scaling.diagnosis import levels, short
from gpt2cli.scaling.laws import FLOPS_PER_ND
from gpt2cli.scaling.power_line import PowerLine, line_through

POINTS = 1500
"""Budgets at which the envelope is read, as in the paper."""
MIN_STEPS = 20
"""A training curve with fewer points cannot be smoothed."""
MIN_EVALUATIONS = 4
MIN_HANDOVERS = 3
"""Two would leave nothing to judge the line by."""


@dataclass(frozen=True)
class TrainingCurve:
    """One run's losses (nats per token) at rising numbers of tokens; both (P,). `n` is its parameters."""

    run: str
    n: float
    tokens: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class Handover:
    """Where the envelope passes from one size to the next: `n` is their geometric mean.

    `free`: no curve ends there.
    """

    flops: float
    n: float
    loss_nats: float
    free: bool


@dataclass(frozen=True)
class Envelope:
    """The envelope at `flops` (P,): the lowest `loss`, which of `sizes` has it (`winner`), and the line of handovers.

    Without a line `why` is a sentence. `per_run` (R, P) are the log losses of the curves, nan where one has none;
    `size_of` (R,) gives their sizes. Both are kept for resampling.
    """

    flops: np.ndarray
    loss: np.ndarray
    winner: np.ndarray
    sizes: np.ndarray
    handovers: tuple[Handover, ...]
    line: PowerLine | None
    why: str | None
    per_run: np.ndarray
    size_of: np.ndarray

    @property
    def contested(self) -> np.ndarray:
        """The budgets at which two sizes or more have a curve, (P,) of bool."""
        known = [np.isfinite(self.per_run[self.size_of == size]).any(axis=0) for size in range(len(self.sizes))]
        return np.asarray(np.sum(known, axis=0) >= 2)

    @property
    def free(self) -> list[Handover]:
        """The handovers that count."""
        return [handover for handover in self.handovers if handover.free]


@dataclass
class CurveCollector:
    """Gathers the curves of many runs from their records, in one pass over files that others read.

    `count` is the field of gpt2.run/1 that is N.
    """

    count: str = "n_params"
    runs: dict[str, Record] = field(default_factory=dict)
    steps: dict[str, list[tuple[float, float, str]]] = field(default_factory=dict)
    evaluations: dict[str, list[tuple[float, float, str]]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take in a gpt2.run, gpt2.step or gpt2.eval record; others are none of its business.

        Raises BadInput for a loss or number of tokens that is no number.
        """
        kind = record["schema"].rpartition("/")[0]
        if kind == "gpt2.run":
            self.runs[str(record["run"])] = record
        elif kind == "gpt2.step":
            self.steps.setdefault(str(record["run"]), []).append(_point(record, "loss_nats"))
        elif kind == "gpt2.eval" and record["split"] == "val" and record["tokens"] is not None:
            self.evaluations.setdefault(str(record["run"]), []).append(_point(record, "nll_nats_per_token"))

    def curves(self) -> tuple[list[TrainingCurve], str]:
        """Return the curves of the runs whose size is known, and of what: "training" (smoothed) or "validation".

        Training losses are used when every run has them, validation losses otherwise: never both together.
        """
        known = sorted(name for name in self.runs if name in self.steps or name in self.evaluations)
        made = [self._curve(name, self.steps, MIN_STEPS) for name in known]
        training = [curve for curve in made if curve is not None]
        if training and all(name in self.steps for name in known):
            return [_smoothed(curve) for curve in training], "training"
        evaluated = [self._curve(name, self.evaluations, MIN_EVALUATIONS) for name in known]
        return [curve for curve in evaluated if curve is not None], "validation"

    def _curve(self, name: str, source: dict[str, list[tuple[float, float, str]]], least: int) -> TrainingCurve | None:
        run, points = self.runs[name], source.get(name, [])
        stable = run.get("parent_run") or any(phase == "stable" for _, _, phase in points)
        phases = ("stable",) if stable else ("decay", "done")
        by_tokens = {tokens: loss for tokens, loss, phase in points if phase in phases and tokens > 0 and loss > 0}
        if len(by_tokens) < least or not isinstance(run.get(self.count), (int, float)) or run[self.count] <= 0:
            return None
        tokens = np.array(sorted(by_tokens))
        return TrainingCurve(name, float(run[self.count]), tokens, np.array([by_tokens[at] for at in tokens]))


def fit_envelope(curves: Sequence[TrainingCurve]) -> Envelope:
    """Fit approach 1 to the curves of many runs; several of one size compete as one."""
    if len(curves) < 2 or len({curve.n for curve in curves}) < 2:
        return _without(_too_few(curves))
    spans = [FLOPS_PER_ND * curve.n * curve.tokens[[0, -1]] for curve in curves]
    flops = np.geomspace(min(span[0] for span in spans), max(span[1] for span in spans), POINTS)
    per_run = np.array([
        np.interp(np.log(flops), np.log(FLOPS_PER_ND * curve.n * curve.tokens), np.log(curve.loss), np.nan, np.nan)
        for curve in curves
    ])
    n = np.array([curve.n for curve in curves])
    size_of = levels(n)
    sizes = np.array([float(np.exp(np.log(n[size_of == size]).mean())) for size in range(size_of.max() + 1)])
    log_loss, winner, handovers = _envelope(flops, per_run, size_of, sizes)
    free = [handover for handover in handovers if handover.free]
    line = None
    if len(free) >= MIN_HANDOVERS:
        line = line_through(np.array([each.flops for each in free]), np.array([each.n for each in free]))
    why = None if line is not None else _too_few(curves, handovers)
    return Envelope(flops, np.exp(log_loss), winner, sizes, tuple(handovers), line, why, per_run, size_of)


def resampled_lines(found: Envelope, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log coefficients and exponents, (B,), of refits to some of the runs: `present` (B, R) says which.

    A resample with fewer than two free handovers gives nan.
    """
    lines = np.full((2, len(present)), np.nan)
    for i, kept in enumerate(present):
        if not kept.any():
            continue
        handovers = _envelope(found.flops, found.per_run[kept], found.size_of[kept], found.sizes)[2]
        free = [(handover.flops, handover.n) for handover in handovers if handover.free]
        if len(free) >= 2:
            line = line_through(*np.array(free).T)
            lines[:, i] = line.log_coefficient, line.exponent
    return lines[0], lines[1]


def _envelope(
    flops: np.ndarray, per_run: np.ndarray, size_of: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[Handover]]:
    """Return the lowest log loss and the size that has it at each budget, (P,), and the handovers."""
    by_size = np.full((len(sizes), flops.size), np.inf)
    for row, size in zip(per_run, size_of, strict=True):
        by_size[size] = np.fmin(by_size[size], row)
    winner = by_size.argmin(axis=0)
    lowest = by_size.min(axis=0)
    contested = np.flatnonzero(np.isfinite(by_size).sum(axis=0) >= 2)
    return np.where(np.isfinite(lowest), lowest, np.nan), winner, _handovers(flops, by_size, winner, contested, sizes)


def _handovers(
    flops: np.ndarray, by_size: np.ndarray, winner: np.ndarray, contested: np.ndarray, sizes: np.ndarray
) -> list[Handover]:
    """Return the steps of the winners put in order: noise makes the sizes change places near a handover."""
    staircase = np.sort(winner[contested])
    found = []
    for step in np.flatnonzero(np.diff(staircase)):
        before, after = contested[step], contested[step + 1]
        low, high = staircase[step], staircase[step + 1]
        free = np.isfinite(by_size[[low, high]][:, [before, after]]).all() and not _at_an_end(by_size, low, high, after)
        found.append(
            Handover(
                float(np.sqrt(flops[before] * flops[after])),
                float(np.sqrt(sizes[low] * sizes[high])),
                float(np.exp(by_size[:, [before, after]].min())),
                bool(free),
            )
        )
    return found


def _at_an_end(by_size: np.ndarray, low: int, high: int, at: int) -> bool:
    """Whether the smaller size's last point or the larger one's first lies within two places of `at`."""
    last = int(np.flatnonzero(np.isfinite(by_size[low]))[-1])
    first = int(np.flatnonzero(np.isfinite(by_size[high]))[0])
    return last - at <= 2 or at - first <= 2


def _point(record: Record, name: str) -> tuple[float, float, str]:
    try:
        return float(record["tokens"]), float(record[name]), str(record.get("lr_phase", "done"))
    except (TypeError, ValueError):
        raise BadInput(f"a record of run {str(record['run'])!r} has no number in tokens or {name}") from None


def _smoothed(curve: TrainingCurve) -> TrainingCurve:
    return TrainingCurve(curve.run, curve.n, curve.tokens, smooth(curve.loss))


def _too_few(curves: Sequence[TrainingCurve], handovers: Sequence[Handover] = ()) -> str:
    if not curves:
        return (
            f"no training curves: it needs the gpt2.step records ({MIN_STEPS} or more a run) or gpt2.eval records "
            f"({MIN_EVALUATIONS} or more) of runs of four sizes or more"
        )
    sizes = sorted({curve.n for curve in curves})
    if len(sizes) <= MIN_HANDOVERS:
        have = "only one size" if len(sizes) == 1 else f"only {len(sizes)} sizes"
        return f"training curves of {have}; {MIN_HANDOVERS} handovers need four sizes or more, such as N = " + short(
            sizes[-1] * 2
        )
    forced = sum(not handover.free for handover in handovers)
    return (
        f"the envelope of {len(sizes)} sizes passes from one to the next only {len(handovers) - forced} times"
        + (f", and {forced} more where a curve ends" if forced else "")
        + f", and {MIN_HANDOVERS} are needed; train the smaller models longer or add sizes between"
    )


def _without(why: str) -> Envelope:
    empty = np.empty(0)
    return Envelope(empty, empty, empty.astype(int), empty, (), None, why, np.empty((0, 0)), empty.astype(int))
