"""The figure of evaluations: each metric against parameters, a line for each task, the published models beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from gpt2cli.scaling.capabilities import Panel, Series
from gpt2cli.scaling.foreign_names import figure_name
from gpt2cli.scaling.plot_curves import draw_references
from gpt2cli.scaling.plots import GREY, MARKERS, figure_for, log_ticks, loss_axis, ramp

PARAMETERS_TITLE = "parameters N"


def draw_panels(
    panels: Sequence[Panel], stream: BinaryIO, kind: str, references: Mapping[str, float] | None = None
) -> None:
    """Draw one panel a metric, side by side up to three; error bars are one standard error."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with figure_for((max(7.2, 4.8 * columns), 1.2 + 3.8 * rows), stream, kind) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, panel, references or {})
        for axes in list(grid.flat)[len(panels) :]:
            axes.axis("off")


def _draw_panel(axes: Any, panel: Panel, references: Mapping[str, float]) -> None:
    colours = ramp(len(panel.series))
    for i, (series, colour) in enumerate(zip(panel.series, colours, strict=True)):
        _draw_series(axes, series, colour, MARKERS[i % len(MARKERS)])
        if series.published:
            _draw_published(axes, series, colour if len(panel.series) > 1 else GREY)
    axes.set_xscale("log")
    log_ticks(axes.xaxis)
    if panel.logarithmic:
        loss_axis(axes)
    axes.margins(x=0.12, y=0.15)
    draw_references(axes, references)
    axes.set_xlabel(PARAMETERS_TITLE)
    axes.set_ylabel(figure_name(panel.title))
    known = any(point.stderr is not None for series in panel.series for point in series.points)
    axes.set_title(f"{figure_name(panel.metric)} by model size" + (", \u00b1 one standard error" if known else ""))
    axes.legend(loc="best")


def _draw_series(axes: Any, series: Series, colour: Any, marker: str) -> None:
    look = {"color": colour, "marker": marker, "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.9}
    line = series.line()
    axes.errorbar(
        [point.n_params for point in series.points],
        [point.value for point in series.points],
        yerr=[point.stderr or 0.0 for point in series.points],
        ecolor=colour,
        elinewidth=1.3,
        capsize=3,
        linewidth=0,
        zorder=2,
    )
    axes.plot(
        [point.n_params for point in line],
        [point.value for point in line],
        linewidth=1.5,
        label=figure_name(series.label),
        zorder=3,
        **look,
    )
    others = [point for point in series.points if point not in line]
    axes.plot([p.n_params for p in others], [p.value for p in others], linewidth=0, alpha=0.6, zorder=3, **look)


def _draw_published(axes: Any, series: Series, colour: Any) -> None:
    axes.plot(
        [n_params for _, n_params, _ in series.published],
        [value for _, _, value in series.published],
        color=colour,
        marker="o",
        markersize=6,
        markerfacecolor="white",
        linewidth=1.0,
        linestyle=(0, (4, 3)),
        label=f"{figure_name(series.label)}, GPT-2 paper",
        zorder=2,
    )
    for size, n_params, value in series.published:
        axes.annotate(
            size, (n_params, value), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8, color=GREY
        )
