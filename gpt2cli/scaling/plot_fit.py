"""The figure of a fit: loss against compute with curves of equal N and the frontier, residuals, the numbers."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.diagnosis import short
from gpt2cli.scaling.drawn_fit import DrawnFit
from gpt2cli.scaling.laws import FLOPS_PER_ND, ChinchillaLaw, allocate
from gpt2cli.scaling.plots import ACCENT, GREY, INK, MARKERS, figure_for, loss_axis, ramp, size_key

_SYMBOLS = {"alpha": r"$\alpha$", "beta": r"$\beta$", "alpha_N": r"$\alpha_N$", "alpha_D": r"$\alpha_D$"}
_CHINCHILLA = r"$L = E + A\,N^{-\alpha} + B\,D^{-\beta}$"


def draw_fit(record: Record, stream: BinaryIO, kind: str) -> None:
    """Draw a gpt2.fit/1 record: loss against compute with curves of equal N and the frontier, residuals, numbers."""
    fit = DrawnFit.of(record)
    with figure_for((12.0, 6.2), stream, kind) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(1.75, 1), height_ratios=(1, 1))
        left, right = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1])
        table = figure.add_subplot(grid[1, 1])
        colours = ramp(len(fit.sizes))
        for size, colour in enumerate(colours):
            _draw_size(left, fit, size, colour)
        _draw_frontier(left, fit)
        left.set_xscale("log")
        loss_axis(left)
        left.set_xlabel("training compute C = 6 N D (FLOP)")
        left.set_ylabel("final loss (nats per token)")
        left.set_title(f"{len(fit.n)} runs and the law they fit")
        if left.get_legend_handles_labels()[1]:
            left.legend(loc="upper right")
        _draw_residuals(right, fit, colours)
        _write_numbers(table, record, fit)
        size_key(figure, fit.sizes, colours)


def _draw_size(axes: Any, fit: DrawnFit, size: int, colour: Any) -> None:
    chosen, n = fit.size_of == size, float(fit.sizes[size])
    lengths = np.geomspace(fit.d[chosen].min() / 1.5, fit.d[chosen].max() * 1.5, 80)
    axes.plot(FLOPS_PER_ND * n * lengths, fit.known.law.loss(n, lengths), color=colour, linewidth=1.3, alpha=0.85)
    axes.plot(fit.compute[chosen], fit.loss[chosen], color=colour, marker=MARKERS[size % len(MARKERS)], linewidth=0,
              markersize=6, markeredgecolor="white", markeredgewidth=0.9, zorder=3)  # fmt: skip


def _draw_frontier(axes: Any, fit: DrawnFit) -> None:
    reach = np.concatenate([fit.compute, fit.budgets])
    compute = np.geomspace(reach.min(), reach.max() * 1.5, 80)
    _, best = fit.optima(compute)
    if not np.isfinite(best).any():
        return
    boot = fit.known.boot
    if boot is not None and len(boot.parameters) and isinstance(fit.known.law, ChinchillaLaw):
        ends = [boot.interval(_floor_losses(boot.parameters, c)) for c in compute]
        low, high = np.array(ends, dtype=float).T
        axes.fill_between(compute, low, high, color=ACCENT, alpha=0.15, linewidth=0)
    axes.plot(compute, best, color=ACCENT, linewidth=2.0, linestyle=(0, (5, 2)), label="best use of C", zorder=2)
    for flops in fit.budgets:
        n, loss = (float(found[0]) for found in fit.optima(np.array([flops])))
        if not np.isfinite(loss):
            continue
        axes.plot(flops, loss, marker="*", markersize=14, color=ACCENT, markeredgecolor="white", linewidth=0, zorder=4)
        axes.annotate(f"N {short(n)}\nD {short(flops / FLOPS_PER_ND / n)}\nL {loss:.3f}", (flops, loss),
                      xytext=(-6, -10), textcoords="offset points", ha="right", va="top", fontsize=9,
                      color=INK)  # fmt: skip
    axes.margins(y=0.12)


def _floor_losses(parameters: np.ndarray, flops: float) -> np.ndarray:
    n, d, loss = allocate(parameters, flops)
    one_sided = parameters[:, 0]  # with A or B at 0 the best loss is the floor itself
    return np.where(np.isfinite(loss) & np.isfinite(n) & np.isfinite(d), loss, one_sided)


def _draw_residuals(axes: Any, fit: DrawnFit, colours: list[Any]) -> None:
    axes.axhline(0.0, color=INK, linewidth=0.9)
    percent = 100 * np.expm1(-fit.residual)
    for size, colour in enumerate(colours):
        chosen = fit.size_of == size
        axes.vlines(fit.compute[chosen], 0, percent[chosen], color=colour, linewidth=1.0, alpha=0.6)
        axes.plot(fit.compute[chosen], percent[chosen], color=colour, marker=MARKERS[size % len(MARKERS)],
                  markersize=4.5, linewidth=0, markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
    axes.set_xscale("log")
    reach = max(0.05, 1.3 * float(np.abs(percent).max()))
    axes.set_ylim(-reach, reach)
    axes.set_title("Measured against fitted")
    axes.set_ylabel("difference (%)")
    axes.set_xlabel("C (FLOP)")


def _write_numbers(axes: Any, record: Record, fit: DrawnFit) -> None:
    axes.axis("off")
    plain = str(record.get("form", ""))
    axes.set_title(_CHINCHILLA if isinstance(fit.known.law, ChinchillaLaw) else f"L = {plain}", fontweight="normal")
    parameters, intervals = record["parameters"], record.get("intervals", {})
    level = f"{100 * float(record.get('level', 0.95)):.0f} % interval"
    axes.text(0.22, 0.97, "fit", fontsize=9, color=GREY, va="top", transform=axes.transAxes)
    axes.text(0.46, 0.97, level, fontsize=9, color=GREY, va="top", transform=axes.transAxes)
    spacing = min(0.135, 0.72 / len(parameters))
    for i, (name, value) in enumerate(parameters.items()):
        y = 0.83 - spacing * i
        ends = intervals.get(name)
        axes.text(0.02, y, _SYMBOLS.get(name, name), va="top", transform=axes.transAxes)
        axes.text(0.22, y, f"{value:.4g}", va="top", transform=axes.transAxes)
        axes.text(0.46, y, f"{ends[0]:.4g} to {ends[1]:.4g}" if ends else "none", va="top", transform=axes.transAxes)
    found = record.get("diagnosis", {})
    condition = found.get("condition")
    words = [
        f"condition {condition:.0f}" if condition else "singular",
        f"rms residual {100 * found.get('rms_log_residual', 0):.2g} %",
    ]
    warned = len(record.get("warnings", []))
    if warned:
        words.append(f"{warned} warning{'s' if warned > 1 else ''}")
    axes.text(0.02, 0.06, "  ·  ".join(words), fontsize=9, color=ACCENT if warned else GREY, va="top",
              transform=axes.transAxes)  # fmt: skip
