"""Runs against a reference, a run or a law: how much compute the reference would have needed for the same loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.reporter import Reporter
from gpt2cli.scaling.curves import Curve, read_drawable
from gpt2cli.scaling.laws import Surface
from gpt2cli.scaling.optimum import least_compute


@dataclass(frozen=True)
class Compared:
    """One run: its last validation loss and compute, and the reference's compute for that loss.

    `reference` None: the reference never reached it, or (`before`) its first evaluation was lower already. Then it
    needs more than `more_than`, or less than `less_than`: all that a reference with one evaluation can say.
    `own_for_reference` is the compute this run took to the reference's last loss (None: it did not get there, its first
    evaluation was lower, or the reference is a law). `decayed`: whether the loss was measured after the decay.
    """

    run: str
    n: float | None
    tokens: float | None
    flops: float
    loss: float
    decayed: bool
    reference: float | None
    own_for_reference: float | None
    before: bool = False
    more_than: float | None = None
    less_than: float | None = None

    @property
    def multiplier(self) -> float | None:
        """How many times its own compute the reference needs for the same loss: above 1 this run is the better one."""
        return None if self.reference is None else self.reference / self.flops


def read_runs(files: Sequence[str], reporter: Reporter) -> list[Curve]:
    """Return the runs with evaluations on their validation split that know their FLOP; raise BadInput when none is."""
    found = [curve for curve in read_drawable(files, reporter).curves if len(_path(curve)[0])]
    if not found:
        raise BadInput("no run here has a validation loss and its FLOP; give metrics.jsonl files or run directories")
    return found


def against_run(runs: Sequence[Curve], reference: str) -> list[Compared]:
    """Compare every other run with the one named `reference`, or whose name starts so.

    The reference's path is its lowest validation loss so far against FLOP, interpolated between evaluations in
    logarithms; one evaluation is a path of one point. Raises UsageFault when no run or several are so named, or it is
    the only one.
    """
    named = [curve for curve in runs if curve.run == reference] or [
        curve for curve in runs if curve.run.startswith(reference)
    ]
    if len(named) != 1 or len(runs) == 1:
        there = ", ".join(curve.run for curve in runs[:12])
        how = "the only run" if len(named) == 1 else f"the name of {'more than one' if named else 'no'} run"
        raise UsageFault(f"--reference {reference!r} is {how}; there are {there}")
    base = named[0]
    return [_beside(curve, *_path(base)) for curve in runs if curve is not base]


def evaluations_of(runs: Sequence[Curve], reference: str) -> int:
    """Return how many evaluations the path of the run named `reference` has; against_run() knows it."""
    return next(len(_path(curve)[0]) for curve in sorted(runs, key=lambda curve: curve.run != reference)
                if curve.run.startswith(reference))  # fmt: skip


def _beside(curve: Curve, flops: np.ndarray, losses: np.ndarray) -> Compared:
    last = _last_loss(curve)
    found, own = reached(flops, losses, last), reached(*_path(curve), float(losses.min()))
    if found is not None:
        return _compared(curve, found, own)
    if last > losses[0]:
        return replace(_compared(curve, None, own), before=True, less_than=float(flops[0]))
    return replace(_compared(curve, None, own), more_than=float(flops[-1]))


def against_law(runs: Sequence[Curve], law: Surface) -> list[Compared]:
    """Compare every run with the best use of a budget under `law`."""
    return [_compared(curve, least_compute(law, _last_loss(curve)), None) for curve in runs]


def reached(flops: np.ndarray, loss: np.ndarray, target: float) -> float | None:
    """Return the FLOP at which the running minimum of `loss` (M,) comes to `target`, interpolated in logarithms.

    None when it never does, and when the first loss is lower already: it came there before anything was measured.
    """
    lowest = np.minimum.accumulate(loss)
    if not lowest[-1] <= target <= lowest[0]:
        return None
    after = int(np.argmax(lowest <= target))
    if after == 0:
        return float(flops[0])
    steps = np.log([lowest[after - 1] / target, lowest[after - 1] / lowest[after]])
    share = float(steps[0] / steps[1])
    return float(flops[after - 1] * (flops[after] / flops[after - 1]) ** share)


def _compared(curve: Curve, reference: float | None, own: float | None) -> Compared:
    last = curve.evaluations[-1]
    tokens = last["tokens"]
    known = isinstance(tokens, int | float) and not isinstance(tokens, bool)
    return Compared(
        curve.run, curve.n_params, float(tokens) if known else None, float(_path(curve)[0][-1]), _last_loss(curve),
        last.get("lr_phase") == "done", reference, own,
    )  # fmt: skip


def _last_loss(curve: Curve) -> float:
    return float(_path(curve)[1][-1])


def _path(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Return (FLOP, loss) of the evaluations, in order of FLOP; those before the first step have none and are left."""
    flops, loss = curve.validation("flops") if curve.evaluations else (np.empty(0), np.empty(0))
    order = np.argsort(flops, kind="stable")
    flops, loss = flops[order], loss[order]
    known = (flops > 0) & (loss > 0)
    return flops[known], loss[known]
