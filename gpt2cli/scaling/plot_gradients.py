"""Gradient norms along runs, as a figure and as text; of one run that measured its layers those of every layer too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.curves import AXIS_FIELDS, Curve, columns, smooth, thin
from gpt2cli.scaling.foreign_names import figure_name, short_name
from gpt2cli.scaling.plot_curves import AXIS_TITLES, legend_of_runs, run_colours
from gpt2cli.scaling.plots import figure_for, ramp, short_ticks
from gpt2cli.scaling.terminal_plot import LETTERS, Canvas

TITLE = "Gradient norm before clipping"
_PANELS = (("grad_norm", "gradient norm\nof a layer"), ("update_ratio", "update over\nweights"))


@dataclass(frozen=True)
class GradientCurve:
    """A run's gradient norms (M,) at `x` (M,), and the gpt2.layers records that it has."""

    curve: Curve
    x: np.ndarray
    norms: np.ndarray
    layers: list[Record]


def gradient_curves(curves: Sequence[Curve], axis: str) -> list[GradientCurve]:
    """Return the gradient norms along every run; BadInput when no run has one above 0, or for damaged records."""
    found = []
    for curve in curves:
        if not curve.steps:
            continue
        x, norms = columns(curve.steps, AXIS_FIELDS[axis], "grad_norm")
        if (norms > 0).any():
            found.append(GradientCurve(curve, x[norms > 0], norms[norms > 0], curve.layers))
    if not found:
        raise BadInput("no step says the norm of its gradient; gpt2 train's do")
    return found


def draw_gradients(found: Sequence[GradientCurve], stream: BinaryIO, kind: str, *, axis: str = "tokens") -> None:
    """Draw the smoothed norms of every run; of a single run the steps too, and below them its layers if measured."""
    alone = len(found) == 1
    layers = found[0].layers if alone else []
    with figure_for((9.6, 8.4 if layers else 5.4), stream, kind) as figure:
        panels = np.atleast_1d(figure.subplots(1 + len(_PANELS) if layers else 1, 1, sharex=True))
        curves = [each.curve for each in found]
        colours = run_colours(curves)
        for each, colour in zip(found, colours, strict=True):
            x, norms, smoothed = thin(each.x, each.norms, smooth(each.norms))
            if alone:
                panels[0].plot(x, norms, color=colour, alpha=0.25, linewidth=0.8)
            panels[0].plot(x, smoothed, color=colour, linewidth=1.8, label="smoothed" if alone else None)
        for axes, (name, title) in zip(panels[1:], _PANELS, strict=False):
            _draw_layers(axes, layers, name, axis)
            axes.set_ylabel(title)
        for axes in panels:
            axes.set_yscale("log")
        short_ticks(panels[-1].xaxis)
        panels[-1].set_xlabel(AXIS_TITLES[axis])
        panels[0].set_ylabel("norm")
        panels[0].set_title(f"{TITLE}{f': {figure_name(curves[0].run)}' if alone else ''}")
        if alone:
            panels[0].legend(loc="best")
        else:
            legend_of_runs(panels[0], curves, colours)


def gradients_text(found: Sequence[GradientCurve], axis: str, width: int, height: int) -> str:
    """Return the smoothed norms as a text plot, each ending in its run's letter; of one run the layers' last too."""
    x_all = np.concatenate([each.x for each in found])
    y_all = np.concatenate([smooth(each.norms) for each in found])
    canvas = Canvas(width, height, (float(x_all.min()), float(x_all.max())), (float(y_all.min()), float(y_all.max())),
                    y_log=True, x_powers=axis == "flops")  # fmt: skip
    legend = []
    for number, each in enumerate(found):
        smoothed = smooth(each.norms)
        canvas.line(each.x, smoothed)
        letter = LETTERS[number % len(LETTERS)]
        canvas.mark(float(each.x[-1]), float(smoothed[-1]), letter)
        legend.append(f"{letter}  {short_name(each.curve.run)}, {smoothed[-1]:.3g} at the end, "
                      f"at most {each.norms.max():.3g}")
    if len(found) == 1 and found[0].layers:
        last = found[0].layers[-1]
        legend.append(f"layers at step {last['step']}: gradient norm, update over weights")
        legend += [f"{layer:>6}  {values['grad_norm']:.3g}, {values['update_ratio']:.2e}"
                   for layer, values in _layers_of(last).items()]  # fmt: skip
    return canvas.text(TITLE, axis, legend)


def _draw_layers(axes: Any, records: list[Record], name: str, axis: str) -> None:
    names = list(_layers_of(records[-1]))
    x = np.array([float(record[AXIS_FIELDS[axis]]) for record in records])
    for layer, colour in zip(names, ramp(len(names)), strict=True):
        values = [_layers_of(record).get(layer, {}).get(name) for record in records]
        shown = np.array([float(value) if value else np.nan for value in values])
        axes.plot(*thin(x, shown), color=colour, linewidth=1.2, marker="o" if len(x) == 1 else None, label=layer)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, ncols=1 + len(names) // 14)


def _layers_of(record: Record) -> dict[str, dict[str, float]]:
    layers = record["layers"]
    if not isinstance(layers, dict) or not all(
        isinstance(values, dict) and all(isinstance(value, int | float) for value in values.values())
        and {"grad_norm", "update_ratio"} <= values.keys() for values in layers.values()
    ):  # fmt: skip
        raise BadInput(f"a gpt2.layers record of run {record['run']!r} has no norms by layer")
    return layers
