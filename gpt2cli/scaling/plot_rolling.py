"""The figure of the rolling-origin error: how far off the fit was about runs of more compute than it had seen."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.drawn_fit import part
from gpt2cli.scaling.plots import INK, MARKERS, figure_for, log_ticks, ramp
from gpt2cli.scaling.sound_fit import check_fit


def rolling_errors(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return of each held-out run: compute over the largest fitted, error in % of the loss, runs fitted, and its name.

    A positive error is a loss predicted too high. Raises BadInput for a fit that has none.
    """
    check_fit(record)
    found = part(record, "diagnosis", "rolling_origin", "predictions")
    if not found:
        raise BadInput("the fit has no rolling-origin predictions: too few runs to hold some out, or an older version")
    rows = [(float(each["reach"]), float(each["log_error"]), float(each["fitted_runs"])) for each in found]
    reach, error, fitted = np.array(rows).T
    return reach, 100 * np.expm1(error), fitted.astype(int), [str(each.get("run", "")) for each in found]


def draw_rolling(record: Record, stream: BinaryIO, kind: str) -> None:
    """Draw the rolling-origin errors of a gpt2.fit/1 record, a mark for each origin."""
    reach, error, fitted, _ = rolling_errors(record)
    origins = sorted(set(fitted.tolist()))
    with figure_for((8.6, 5.0), stream, kind) as figure:
        axes = figure.subplots()
        axes.axhline(0.0, color=INK, linewidth=0.9)
        for i, (origin, colour) in enumerate(zip(origins, ramp(len(origins)), strict=True)):
            chosen = fitted == origin
            axes.plot(reach[chosen], error[chosen], color=colour, marker=MARKERS[i % len(MARKERS)], markersize=7,
                      linewidth=0, markeredgecolor="white", markeredgewidth=0.8, label=str(origin))  # fmt: skip
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
        span = max(0.1, 1.25 * float(np.abs(error).max()))
        axes.set_ylim(-span, span)
        axes.set_xlabel("compute of the held-out run over the largest fitted (times)")
        axes.set_ylabel("predicted above measured loss (%)")
        rms = float(np.sqrt(np.mean(error**2)))
        axes.set_title(f"Predicted before it was seen: {rms:.2g} % rms over {len(error)} runs")
        axes.legend(loc="best", title="runs fitted", title_fontsize=9, alignment="left")
