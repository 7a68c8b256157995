"""The figure of a fit: loss against compute with curves of equal N and the frontier, residuals, the numbers."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.diagnosis import levels, short
from gpt2cli.scaling.laws import FLOPS_PER_ND, allocate
from gpt2cli.scaling.plots import ACCENT, GREY, INK, figure_for, loss_axis, ramp
from gpt2cli.scaling.saved import KnownLaw, known_law


def draw_fit(record: Record, stream: BinaryIO, kind: str) -> None:
    """Draw a gpt2.fit/1 record: loss against compute with curves of equal N and the frontier, residuals, numbers."""
    known = known_law(record, "the fit")
    rows = record.get("observations") or []
    n, d, loss, residual = (
        np.array([float(row[key]) for row in rows]) for key in ("n", "d", "loss_nats", "log_residual")
    )
    with figure_for((12.0, 5.8), stream, kind) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(1.75, 1), height_ratios=(1, 1))
        left, right = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1])
        table = figure.add_subplot(grid[1, 1])
        size_of = levels(n) if len(n) else np.empty(0, dtype=int)
        colours = ramp(int(size_of.max()) + 1 if len(n) else 0)
        _draw_surface(left, known, n, d, loss, size_of, colours)
        _draw_frontier(left, known, record, n, d)
        left.set_xscale("log")
        loss_axis(left)
        left.set_xlabel("training compute C = 6 N D (FLOP)")
        left.set_ylabel("final loss (nats per token)")
        left.set_title(f"{len(n)} runs and the law they fit")
        left.legend(
            loc="upper right",
            title="parameters N",
            ncols=1 if len(colours) < 7 else 2,
            title_fontsize=9,
            alignment="left",
        )
        _draw_residuals(right, n, d, residual, size_of, colours)
        _write_numbers(table, record)


def _draw_surface(
    axes: Any, known: KnownLaw, n: np.ndarray, d: np.ndarray, loss: np.ndarray, size_of: np.ndarray, colours: list[Any]
) -> None:
    for level, colour in enumerate(colours):
        chosen = size_of == level
        size = float(np.exp(np.log(n[chosen]).mean()))
        lengths = np.geomspace(d[chosen].min() / 1.5, d[chosen].max() * 1.5, 80)
        axes.plot(FLOPS_PER_ND * size * lengths, known.law.loss(size, lengths), color=colour, linewidth=1.3, alpha=0.85)
        axes.plot(
            FLOPS_PER_ND * n[chosen] * d[chosen],
            loss[chosen],
            color=colour,
            marker="o",
            linewidth=0,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.9,
            label=short(size),
            zorder=3,
        )


def _draw_frontier(axes: Any, known: KnownLaw, record: Record, n: np.ndarray, d: np.ndarray) -> None:
    budgets = [float(entry["flops"]) for entry in record.get("allocations", [])]
    reach = np.concatenate([FLOPS_PER_ND * n * d, budgets])
    if not len(reach):
        return
    compute = np.geomspace(reach.min(), reach.max() * 1.5, 80)
    parameters = np.array([record["parameters"][name] for name in ("E", "A", "B", "alpha", "beta")])
    best = np.array([allocate(parameters, c)[2] for c in compute])
    if not np.isfinite(best).all():
        return
    if known.boot is not None and len(known.boot.parameters):
        ends = [known.boot.interval(_floor_losses(known.boot.parameters, c)) for c in compute]
        low, high = np.array(ends, dtype=float).T
        axes.fill_between(compute, low, high, color=ACCENT, alpha=0.15, linewidth=0)
    axes.plot(compute, best, color=ACCENT, linewidth=2.0, linestyle=(0, (5, 2)), label="best use of C", zorder=2)
    for entry in record.get("allocations", []):
        if entry.get("n_opt") is None or entry.get("loss_nats") is None:
            continue
        at = (float(entry["flops"]), float(entry["loss_nats"]))
        axes.plot(*at, marker="*", markersize=14, color=ACCENT, markeredgecolor="white", linewidth=0, zorder=4)
        axes.annotate(
            f"N {short(entry['n_opt'])}\nD {short(entry['d_opt'])}\nL {at[1]:.3f}",
            at,
            xytext=(-6, -10),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=9,
            color=INK,
        )
    axes.margins(y=0.12)


def _floor_losses(parameters: np.ndarray, flops: float) -> np.ndarray:
    n, d, loss = allocate(parameters, flops)
    one_sided = parameters[:, 0]  # with A or B at 0 the best loss is the floor itself
    return np.where(np.isfinite(loss) & np.isfinite(n) & np.isfinite(d), loss, one_sided)


def _draw_residuals(
    axes: Any, n: np.ndarray, d: np.ndarray, residual: np.ndarray, size_of: np.ndarray, colours: list[Any]
) -> None:
    axes.axhline(0.0, color=INK, linewidth=0.9)
    for level, colour in enumerate(colours):
        chosen = size_of == level
        x = FLOPS_PER_ND * n[chosen] * d[chosen]
        axes.vlines(x, 0, -100 * residual[chosen], color=colour, linewidth=1.0, alpha=0.6)
        axes.plot(
            x,
            -100 * residual[chosen],
            color=colour,
            marker="o",
            markersize=4.5,
            linewidth=0,
            markeredgecolor="white",
            markeredgewidth=0.6,
        )
    axes.set_xscale("log")
    reach = max(0.05, 130 * float(np.abs(residual).max())) if len(residual) else 1.0
    axes.set_ylim(-reach, reach)
    axes.set_title("Measured against fitted")
    axes.set_ylabel("difference (%)")
    axes.set_xlabel("C (FLOP)")


def _write_numbers(axes: Any, record: Record) -> None:
    axes.axis("off")
    axes.set_title(r"$L = E + A\,N^{-\alpha} + B\,D^{-\beta}$", fontweight="normal")
    names = {"E": "$E$", "A": "$A$", "B": "$B$", "alpha": r"$\alpha$", "beta": r"$\beta$"}
    intervals = record.get("intervals", {})
    level = f"{100 * float(record.get('level', 0.95)):.0f} % interval"
    axes.text(0.16, 0.97, "fit", fontsize=9, color=GREY, va="top", transform=axes.transAxes)
    axes.text(0.42, 0.97, level, fontsize=9, color=GREY, va="top", transform=axes.transAxes)
    for i, (name, symbol) in enumerate(names.items()):
        y = 0.83 - 0.135 * i
        ends = intervals.get(name)
        axes.text(0.02, y, symbol, va="top", transform=axes.transAxes)
        axes.text(0.16, y, f"{record['parameters'][name]:.4g}", va="top", transform=axes.transAxes)
        axes.text(0.42, y, f"{ends[0]:.4g} to {ends[1]:.4g}" if ends else "none", va="top", transform=axes.transAxes)
    found = record.get("diagnosis", {})
    condition = found.get("condition")
    words = [
        f"condition {condition:.0f}" if condition else "singular",
        f"rms residual {100 * found.get('rms_log_residual', 0):.2g} %",
    ]
    warned = len(record.get("warnings", []))
    if warned:
        words.append(f"{warned} warning{'s' if warned > 1 else ''}")
    axes.text(
        0.02,
        0.08,
        "  ·  ".join(words),
        fontsize=9,
        color=ACCENT if warned else GREY,
        va="top",
        transform=axes.transAxes,
    )
