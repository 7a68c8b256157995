"""The figure of the surface: contours of L(N, D) with the runs, the line of the best use of compute, and budgets."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.diagnosis import short
from gpt2cli.scaling.drawn_fit import DrawnFit
from gpt2cli.scaling.laws import FLOPS_PER_ND
from gpt2cli.scaling.plots import ACCENT, FAINT, GREY, INK, figure_for, flops_text, log_ticks

GRID = 160
LEVELS = 9


def surface_range(fit: DrawnFit) -> tuple[np.ndarray, np.ndarray]:
    """Return axes of N and D, (GRID,) each, that hold the runs and the optima of the budgets, with a margin."""
    n_best, _ = fit.optima(np.array(fit.budgets))
    kept = np.isfinite(n_best)
    d_best = np.array(fit.budgets)[kept] / FLOPS_PER_ND / n_best[kept]
    n, d = np.concatenate([fit.n, n_best[kept]]), np.concatenate([fit.d, d_best])
    return np.geomspace(n.min() / 1.6, n.max() * 1.6, GRID), np.geomspace(d.min() / 1.6, d.max() * 1.6, GRID)


def contour_levels(losses: np.ndarray) -> np.ndarray:
    """Return round losses within `losses`, evenly spaced in rank, so that the flat part has its contours too.

    Raises BadInput for a surface that is flat or infinite.
    """
    low, high = float(losses.min()), float(losses.max())
    if not 0 < low < high < 1e30:
        raise BadInput("the law of this fit is flat or without end over its runs: there are no contours to draw")
    raw = np.quantile(losses, np.linspace(0.04, 0.96, LEVELS))
    digits = max(0, 1 - int(np.floor(np.log10(max((high - low) / LEVELS, 1e-9)))))
    found = np.unique(np.round(raw, digits))
    return found[(found > low) & (found < high)]


def draw_contours(record: Record, stream: BinaryIO, kind: str) -> None:
    """Draw the contours of a gpt2.fit/1 record's law in nats per token."""
    fit = DrawnFit.of(record)
    n, d = surface_range(fit)
    losses = np.asarray(fit.known.law.loss(n[None, :], d[:, None]), dtype=float)
    with figure_for((8.6, 6.4), stream, kind) as figure:
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(n[0], n[-1])
        axes.set_ylim(d[0], d[-1])
        lines = axes.contour(n, d, losses, levels=contour_levels(losses), colors=GREY, linewidths=0.9)
        axes.clabel(lines, fmt=lambda level: f"{level:g}", fontsize=8)
        axes.plot([], [], color=GREY, linewidth=0.9, label="loss (nats per token)")
        _draw_optimum(axes, fit, n, d)
        axes.plot(fit.n, fit.d, color=INK, marker="o", markersize=5.5, linewidth=0, markeredgecolor="white",
                  markeredgewidth=0.8, label=f"{len(fit.n)} runs", zorder=3)  # fmt: skip
        log_ticks(axes.xaxis)
        log_ticks(axes.yaxis)
        axes.set_xlabel(f"parameters N ({record.get('count', 'total')})")
        axes.set_ylabel("training tokens D")
        axes.set_title("Loss by the fitted law, and the best use of compute")
        figure.legend(loc="outside lower center", ncols=4)


def _draw_optimum(axes: Any, fit: DrawnFit, n: np.ndarray, d: np.ndarray) -> None:
    compute = np.geomspace(FLOPS_PER_ND * n[0] * d[0], FLOPS_PER_ND * n[-1] * d[-1], 120)
    n_best, _ = fit.optima(compute)
    axes.plot(n_best, compute / FLOPS_PER_ND / n_best, color=ACCENT, linewidth=2.2, linestyle=(0, (5, 2)),
              label="best use of C", zorder=2)  # fmt: skip
    for flops in fit.budgets:
        axes.plot(n, flops / FLOPS_PER_ND / n, color=FAINT, linewidth=1.4, zorder=1)
        best, _ = fit.optima(np.array([flops]))
        if not np.isfinite(best[0]):
            continue
        at = (float(best[0]), flops / FLOPS_PER_ND / float(best[0]))
        axes.plot(*at, marker="*", markersize=15, color=ACCENT, markeredgecolor="white", linewidth=0, zorder=4)
        axes.annotate(f"{flops_text(flops)} FLOP\nN {short(at[0])}, D {short(at[1])}", at, xytext=(-9, -4),
                      textcoords="offset points", ha="right", va="top", fontsize=9, color=INK,
                      bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5})  # fmt: skip
