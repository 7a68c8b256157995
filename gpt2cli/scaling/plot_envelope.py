"""The figure of approach 1: training curves against compute with their lower envelope, and the size that is on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.scaling.curves import thin
from gpt2cli.scaling.diagnosis import levels
from gpt2cli.scaling.envelope import CurveCollector, Envelope, TrainingCurve, fit_envelope
from gpt2cli.scaling.laws import FLOPS_PER_ND
from gpt2cli.scaling.plots import ACCENT, FAINT, GREY, INK, MARKERS, figure_for, log_ticks, loss_axis, ramp, size_key


def read_envelope(collector: CurveCollector) -> tuple[list[TrainingCurve], str, Envelope]:
    """Return the curves, what their losses are ("training" or "validation"), and their envelope.

    Raises BadInput when there are fewer than two sizes, so that nothing competes.
    """
    curves, losses = collector.curves()
    found = fit_envelope(curves)
    if not found.flops.size:
        raise BadInput(f"no envelope can be drawn: {found.why}")
    return curves, losses, found


def draw_envelope(
    curves: Sequence[TrainingCurve], losses: str, found: Envelope, stream: BinaryIO, kind: str
) -> None:
    """Draw approach 1: losses and envelope on the left, the winning size and the handovers' line on the right."""
    with figure_for((12.0, 6.0), stream, kind) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        colours = ramp(len(found.sizes))
        size_of = levels(np.array([curve.n for curve in curves]))
        for curve, size in zip(curves, size_of, strict=True):
            compute, loss = thin(FLOPS_PER_ND * curve.n * curve.tokens, curve.loss)
            left.plot(compute, loss, color=colours[size], linewidth=0.9, alpha=0.8)
        for size, colour in enumerate(colours):
            best = np.flatnonzero(found.contested & (found.winner == size))
            if len(best):
                at = best[len(best) // 2]
                left.plot(found.flops[at], found.loss[at], color=colour, marker=MARKERS[size % len(MARKERS)],
                          markersize=7, markeredgecolor="white", zorder=5)  # fmt: skip
        contested = found.contested
        left.plot(found.flops[contested], found.loss[contested], color=INK, linewidth=2.0, zorder=3,
                  label="lower envelope")  # fmt: skip
        _mark(left, found, [handover.loss_nats for handover in found.handovers])
        left.set_xscale("log")
        loss_axis(left)
        kept = found.loss[contested]
        left.set_ylim(kept.min() * 0.97, np.quantile(np.concatenate([curve.loss for curve in curves]), 0.995))
        left.set_xlabel("training compute C = 6 N D (FLOP)")
        left.set_ylabel(f"{losses} loss (nats per token)")
        left.set_title(f"{len(curves)} {losses} curves of {len(found.sizes)} sizes")
        left.legend(loc="upper right")
        _draw_sizes(right, found)
        size_key(figure, found.sizes, colours)


def _draw_sizes(axes: Any, found: Envelope) -> None:
    known = found.contested
    staircase = found.sizes[found.winner[known]]
    axes.plot(found.flops[known], staircase, color=FAINT, linewidth=2.5, label="size on the envelope", zorder=1)
    _mark(axes, found, [handover.n for handover in found.handovers])
    if found.line is not None:
        axes.plot(found.flops[known], found.line.at(found.flops[known]), color=INK, linewidth=1.6, zorder=2,
                  label=f"approach 1: C^{found.line.exponent:.3f}")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(found.sizes[0] / 1.5, found.sizes[-1] * 1.5)
    log_ticks(axes.yaxis)
    axes.set_xlabel("training compute C = 6 N D (FLOP)")
    axes.set_ylabel("parameters N")
    axes.set_title("Best size for the compute")
    axes.legend(loc="upper left")


def _mark(axes: Any, found: Envelope, y: Sequence[float]) -> None:
    for free, label in ((True, "handover"), (False, "forced by a curve's end, left out")):
        points = [(each.flops, at) for each, at in zip(found.handovers, y, strict=True) if each.free is free]
        if points:
            axes.plot(*np.array(points).T, marker="*", markersize=13, linewidth=0, zorder=6, label=label,
                      color=ACCENT if free else "white", markeredgecolor="white" if free else GREY)  # fmt: skip
