"""The gradient noise scale along runs, as a figure and as text: the batch size up to which a larger one pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.scaling.critical_batch import FIELDS, along, ratios
from gpt2cli.scaling.curves import AXIS_FIELDS, Curve, columns, thin
from gpt2cli.scaling.diagnosis import short
from gpt2cli.scaling.foreign_names import figure_name, short_name
from gpt2cli.scaling.plot_curves import AXIS_TITLES, legend_of_runs, run_colours
from gpt2cli.scaling.plots import GREY, figure_for, log_ticks, short_ticks
from gpt2cli.scaling.terminal_plot import LETTERS, Canvas

TITLE = "Critical batch size by gradient noise (tokens)"


@dataclass(frozen=True)
class NoiseCurve:
    """A run's noise scale in tokens at `x` (M,), nan where the gradient drowned; `single` of each step alone."""

    curve: Curve
    x: np.ndarray
    scale: np.ndarray
    single: np.ndarray
    batch_tokens: float


def noise_curves(curves: Sequence[Curve], axis: str) -> list[NoiseCurve]:
    """Return the noise scale along every run that measured it.

    Raises BadInput when none did, or never saw the gradient above its noise, or for damaged measurements.
    """
    found = []
    for curve in curves:
        steps, means, pairs = along(curve.run, curve.steps)
        if not steps:
            continue
        table, _ = columns(steps, AXIS_FIELDS[axis], "loss_nats")
        if len(table) != len(steps):
            raise BadInput(f"run {curve.run!r}: a measured step has no finite {AXIS_FIELDS[axis]}")
        found.append(NoiseCurve(curve, table, ratios(means), ratios(pairs), float(steps[-1][FIELDS[1]])))
    if not found:
        raise BadInput("no step measures the gradient noise; gpt2 train --noise-every N does")
    if not any(np.isfinite(each.scale).any() for each in found):
        raise BadInput("the gradient drowned in its noise at every measured step: nothing to draw; measure more steps, "
                       "or with larger batches")  # fmt: skip
    return found


def draw_noise(found: Sequence[NoiseCurve], stream: BinaryIO, kind: str, *, axis: str = "tokens") -> None:
    """Draw the averaged noise scale of every run, of one run the single steps too, and the batches they trained on."""
    with figure_for((9.6, 5.4), stream, kind) as figure:
        axes = figure.subplots()
        curves, alone = [each.curve for each in found], len(found) == 1
        colours = run_colours(curves)
        for each, colour in zip(found, colours, strict=True):
            x, scale, single = thin(each.x, each.scale, each.single)
            if alone:
                axes.plot(x, single, ".", color=colour, alpha=0.3, markersize=4, label="single steps")
            axes.plot(x, scale, color=colour, linewidth=1.8, marker="o" if len(x) == 1 else None,
                      label="averages of noise and of signal, divided" if alone else None)  # fmt: skip
        for i, batch in enumerate(sorted({each.batch_tokens for each in found})):
            axes.axhline(batch, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1,
                         label="batch in use" if i == 0 and alone else None)  # fmt: skip
            axes.annotate(f"batch {short(batch)}", (1.0, batch), xycoords=("axes fraction", "data"), xytext=(5, 0),
                          textcoords="offset points", va="center", fontsize=9, color=GREY)  # fmt: skip
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
        short_ticks(axes.xaxis)
        axes.set_xlabel(AXIS_TITLES[axis])
        axes.set_ylabel("tokens")
        axes.set_title(f"{TITLE.removesuffix(' (tokens)')}{f': {figure_name(curves[0].run)}' if alone else ''}")
        if alone:
            axes.legend(loc="best")
        else:
            legend_of_runs(axes, curves, colours)


def noise_text(found: Sequence[NoiseCurve], axis: str, width: int, height: int) -> str:
    """Return the averaged noise scales as a text plot: lines, each ending in its run's letter; dashes are batches."""
    x_all = np.concatenate([each.x for each in found])
    y_all = np.concatenate([*(each.scale for each in found), [each.batch_tokens for each in found]])
    y_all = y_all[np.isfinite(y_all)]
    x_range = (float(x_all.min()), float(x_all.max()))
    canvas = Canvas(width, height, x_range, (float(y_all.min()), float(y_all.max())), y_log=True,
                    x_powers=axis == "flops")  # fmt: skip
    legend = []
    for batch in sorted({each.batch_tokens for each in found}):
        canvas.line(np.array(x_range), np.array([batch, batch]), dashed=True)
    for i, each in enumerate(found):
        known = np.isfinite(each.scale)
        canvas.line(each.x, each.scale)
        letter = LETTERS[i % len(LETTERS)]
        last = "drowned in its noise"
        if known.any():
            canvas.mark(float(each.x[known][-1]), float(each.scale[known][-1]), letter)
            last = f"{short(float(each.scale[known][-1]))} tokens at the last of {len(each.x)} measurements"
        legend.append(f"{letter}  {short_name(each.curve.run)}, {last}; batch {short(each.batch_tokens)}")
    legend.append("- -  batch in use")
    return canvas.text(TITLE, axis, legend)
