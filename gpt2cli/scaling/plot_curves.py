"""The figure of loss curves: training loss smoothed, validation points, learning rate and its phases below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from gpt2cli.scaling.curves import Curve, smooth, thin
from gpt2cli.scaling.diagnosis import short
from gpt2cli.scaling.foreign_names import figure_name
from gpt2cli.scaling.plots import ACCENT, FAINT, GREY, INK, figure_for, loss_axis, ramp, short_ticks

PHASE_COLOURS = {"warmup": "#f2c14e", "stable": "#7fb7be", "decay": "#5b7db1", "done": "#3d405b"}
AXIS_TITLES = {"tokens": "training tokens", "steps": "steps", "flops": "training compute (FLOP)"}
LEGEND_RUNS = 10
LEGEND_SIZES = 20
"""Most entries of a legend; so many fill the height of a figure."""


def draw_curves(
    curves: Sequence[Curve],
    stream: BinaryIO,
    kind: str,
    *,
    axis: str = "tokens",
    references: Mapping[str, float] | None = None,
) -> None:
    """Draw the loss curves of runs with their learning rates below. `references` are horizontal lines by name."""
    with figure_for((9.6, 6.0), stream, kind) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        colours = run_colours(curves)
        for curve, colour in zip(curves, colours, strict=True):
            _draw_curve(upper, curve, colour, axis, alone=len(curves) == 1)
            _draw_rates(lower, curve, colour, axis, alone=len(curves) == 1)
        if len(curves) > 1:
            upper.set_xscale("log")
        loss_axis(upper)
        draw_references(upper, references or {})
        upper.set_ylabel("loss (nats per token)")
        upper.set_title(_curves_title(curves))
        lower.set_xlabel(AXIS_TITLES[axis])
        lower.set_ylabel("learning\nrate", rotation=0, ha="right", va="center")
        lower.set_ylim(bottom=0)
        lower.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
        lower.grid(axis="y", visible=False)
        short_ticks(lower.xaxis)
        if len(curves) > 1:
            legend_of_runs(upper, curves, colours)
        else:
            upper.legend(loc="upper right")


def _draw_curve(axes: Any, curve: Curve, colour: Any, axis: str, *, alone: bool) -> None:
    x, loss = curve.training(axis)
    if len(x):
        thin_x, thin_smooth, thin_loss = thin(x, smooth(loss), loss)
        if alone:
            axes.plot(thin_x, thin_loss, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(
            thin_x,
            thin_smooth,
            color=colour,
            linewidth=1.8 if alone else 1.4,
            label="training, smoothed" if alone else None,
        )
    x, loss = curve.validation(axis)
    if len(x):
        shown = slice(None) if alone else slice(-1, None)
        axes.plot(
            x[shown],
            loss[shown],
            color=ACCENT if alone else colour,
            marker="o",
            markersize=5 if alone else 6,
            markeredgecolor="white",
            markeredgewidth=1.0,
            linewidth=1.2 if alone else 0,
            label=f"validation, {loss[-1]:.3f} at the end" if alone else None,
            zorder=3,
        )


def _draw_rates(axes: Any, curve: Curve, colour: Any, axis: str, *, alone: bool) -> None:
    x, rate = curve.rates(axis)
    if not len(x):
        return
    thin_x, thin_rate = thin(x, rate)
    axes.plot(thin_x, thin_rate, color=INK if alone else colour, linewidth=1.2, alpha=1.0 if alone else 0.7)
    if not alone:
        return
    for phase, start, stop in curve.phases(axis):
        inside = (thin_x >= start) & (thin_x <= stop)
        axes.fill_between(
            thin_x[inside],
            thin_rate[inside],
            color=PHASE_COLOURS.get(phase, FAINT),
            alpha=0.55,
            linewidth=0,
            label=phase,
        )
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0, fontsize=8)


def draw_references(axes: Any, references: Mapping[str, float]) -> None:
    """Draw named horizontal lines."""
    for name, value in references.items():
        axes.axhline(value, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            f"{figure_name(name)} {value:g}",
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=9,
            color=GREY,
            annotation_clip=False,
        )


def _curves_title(curves: Sequence[Curve]) -> str:
    if len(curves) > 1:
        return f"{len(curves)} runs: training loss (lines) and final validation loss (points)"
    size = f", {short(curves[0].n_params)} parameters" if curves[0].n_params else ""
    return f"{figure_name(curves[0].run)}{size}"


def run_colours(curves: Sequence[Curve]) -> list[Any]:
    """Return a colour for each run: by size, or in order where all are of one."""
    if len(curves) == 1:
        return ["#2a6f97"]
    sizes = sorted({curve.n_params or 0.0 for curve in curves})
    if len(sizes) == 1:
        return ramp(len(curves))
    by_size = ramp(len(sizes))
    return [by_size[sizes.index(curve.n_params or 0.0)] for curve in curves]


def legend_of_runs(axes: Any, curves: Sequence[Curve], colours: list[Any]) -> None:
    """Name the runs, or of many their sizes."""
    from matplotlib.lines import Line2D

    entries: dict[str, Any] = {}
    for curve, colour in zip(curves, colours, strict=True):
        size = short(curve.n_params) if curve.n_params else "unknown"
        label = figure_name(curve.run) if len(curves) <= LEGEND_RUNS else size
        entries.setdefault(label, Line2D([], [], color=colour, linewidth=2))
    if len(entries) > LEGEND_SIZES:
        left = len(entries) - LEGEND_SIZES + 1
        entries = dict(list(entries.items())[: LEGEND_SIZES - 1])
        entries[f"and {left:,} more"] = Line2D([], [], linewidth=0)
    axes.legend(
        list(entries.values()),
        list(entries),
        loc="upper right",
        title="run" if len(curves) <= LEGEND_RUNS else "parameters",
        alignment="left",
        title_fontsize=9,
    )
