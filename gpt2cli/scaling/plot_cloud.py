"""The figure of the resamples: where each puts the optimum of a budget, and the three approaches beside them.

At one budget all optima lie on the line 6 N D = C, so the cloud is drawn along it, and as a histogram of N_opt.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.drawn_fit import DrawnFit, part
from gpt2cli.scaling.laws import FLOPS_PER_ND
from gpt2cli.scaling.plots import ACCENT, FAINT, GREY, INK, figure_for, flops_text, log_ticks

APPROACHES = {
    "envelope": ("1 envelope", (0, (1.5, 1.5))),
    "isoflop": ("2 IsoFLOP", (0, (5, 2))),
    "surface": ("3 surface", "-"),
}
"""Approach -> its name and its line's dashes."""
_SHOWN = 99.0
"""Per cent of the resamples within the axes."""


def cloud_budgets(fit: DrawnFit) -> list[float]:
    """Return the budgets to draw, rising: those asked for, or with a single one also the runs' largest and middle."""
    asked = sorted(set(fit.budgets))
    if len(asked) > 1:
        return asked
    inside = [float(np.exp(np.median(np.log(fit.compute)))), float(fit.compute.max())]
    return sorted({*asked, *inside})


def clouds(fit: DrawnFit) -> list[tuple[float, np.ndarray]]:
    """Return (budget, N_opt of the resamples) for each budget; raise BadInput when there are no resamples to draw."""
    found = [(flops, fit.resampled_optima(flops)) for flops in cloud_budgets(fit)]
    if not any(len(optima) for _, optima in found):
        raise BadInput("the fit has no resamples with an optimum: fit a law in N and D, with --bootstrap 1000")
    return [entry for entry in found if len(entry[1])]


def draw_cloud(record: Record, stream: BinaryIO, kind: str) -> None:
    """Draw the bootstrap cloud of (N_opt, D_opt) of a gpt2.fit/1 record."""
    fit = DrawnFit.of(record)
    found = clouds(fit)
    with figure_for((12.0, 5.4), stream, kind) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
        for flops, optima in found:
            tail = (100 - _SHOWN) / 2
            low, high = np.percentile(optima, [tail, 100 - tail])
            kept = optima[(optima >= low) & (optima <= high)]
            line = np.geomspace(kept.min() / 1.3, kept.max() * 1.3, 2)
            left.plot(line, flops / FLOPS_PER_ND / line, color=FAINT, linewidth=1.2, zorder=1)
            left.plot(kept, flops / FLOPS_PER_ND / kept, color=INK, marker="o", markersize=5, linewidth=0,
                      alpha=min(0.3, 15 / len(kept)), markeredgewidth=0, zorder=5)  # fmt: skip
            left.annotate(flops_text(flops) + " FLOP", (line[-1], flops / FLOPS_PER_ND / line[-1]), xytext=(4, -3),
                          textcoords="offset points", fontsize=9, color=INK)  # fmt: skip
        left.plot(fit.n, fit.d, color=INK, marker=".", markersize=4, linewidth=0, label="runs", zorder=2)
        for flops, _ in found:
            best = optimum_of(fit, "surface", flops)
            if best is not None:
                left.plot(best, flops / FLOPS_PER_ND / best, marker="*", markersize=15, color=ACCENT, linewidth=0,
                          markeredgecolor="white", zorder=4)  # fmt: skip
        left.set_xscale("log")
        left.set_yscale("log")
        left.margins(x=0.16)
        log_ticks(left.xaxis)
        log_ticks(left.yaxis)
        left.set_xlabel("parameters N")
        left.set_ylabel("training tokens D")
        left.set_title(f"Optima of {len(found[-1][1])} resamples")
        left.legend(loc="upper left")
        _draw_histogram(right, fit, *found[-1])


def optimum_of(fit: DrawnFit, approach: str, flops: float) -> float | None:
    """Return N_opt at a budget by "envelope", "isoflop" or "surface"; None where that approach has no answer."""
    if approach == "surface":
        best = float(fit.optima(np.array([flops]))[0][0])
        return best if np.isfinite(best) else None
    line = part(fit.record, "approaches", approach)
    if not line or line.get("n_exponent") is None:
        return None
    return float(np.exp(line["log_coefficient"] + line["n_exponent"] * np.log(flops)))


def _draw_histogram(axes: Any, fit: DrawnFit, flops: float, optima: np.ndarray) -> None:
    tail = (100 - _SHOWN) / 2
    low, high = np.percentile(optima, [tail, 100 - tail])
    if high <= low * (1 + 1e-9):
        low, high = low / 1.05, high * 1.05
    axes.hist(np.clip(optima, low, high), bins=np.geomspace(low, high, 41), color=GREY, alpha=0.55)
    for approach, (name, style) in APPROACHES.items():
        n = optimum_of(fit, approach, flops)
        if n is not None:
            axes.axvline(n, color=ACCENT if approach == "surface" else INK, linewidth=1.8, linestyle=style, label=name)
    boot = fit.known.boot
    ends = boot.interval(optima) if boot is not None else None
    if ends is not None:
        axes.axvspan(*ends, color=ACCENT, alpha=0.10, linewidth=0, zorder=0, label="95 % interval")
    axes.set_xscale("log")
    log_ticks(axes.xaxis)
    axes.grid(axis="x", visible=False)
    axes.set_xlabel(f"N at {flops_text(flops)} FLOP")
    axes.set_ylabel("resamples")
    axes.set_title("How sure the optimum is, and the three approaches")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4)
