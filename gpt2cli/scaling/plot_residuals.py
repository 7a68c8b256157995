"""The figure of a fit's residuals: measured against fitted loss in per cent, over compute, size and length."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.drawn_fit import DrawnFit
from gpt2cli.scaling.plots import INK, MARKERS, figure_for, log_ticks, ramp, size_key

NAMED = 3
"""The runs furthest off are named."""


def draw_residuals(record: Record, stream: BinaryIO, kind: str) -> None:
    """Draw the residuals of a gpt2.fit/1 record: a trend along any axis is something that the law does not know."""
    fit = DrawnFit.of(record)
    percent = 100 * (np.exp(-fit.residual) - 1)
    panels = ((fit.compute, "C = 6 N D (FLOP)"), (fit.n, "parameters N"), (fit.d, "training tokens D"))
    worst = np.argsort(-np.abs(percent), kind="stable")[:NAMED]
    rows = record["observations"]
    with figure_for((12.0, 4.6), stream, kind) as figure:
        colours = ramp(len(fit.sizes))
        for i, (axes, (x, title)) in enumerate(zip(figure.subplots(1, 3, sharey=True), panels, strict=True)):
            axes.axhline(0.0, color=INK, linewidth=0.9)
            for size, colour in enumerate(colours):
                chosen = fit.size_of == size
                axes.vlines(x[chosen], 0, percent[chosen], color=colour, linewidth=1.0, alpha=0.55)
                axes.plot(x[chosen], percent[chosen], color=colour, marker=MARKERS[size % len(MARKERS)], linewidth=0,
                          markersize=5.5, markeredgecolor="white", markeredgewidth=0.7)  # fmt: skip
            axes.set_xscale("log")
            axes.set_xlabel(title)
            if i == 0:
                axes.set_ylabel("measured above fitted loss (%)")
                rms = 100 * float(np.sqrt(np.mean(fit.residual**2)))
                axes.set_title(f"Residuals of {len(fit.n)} runs, {rms:.2g} % rms")
                for at in worst:
                    axes.annotate(str(rows[at].get("run", ""))[:24], (x[at], percent[at]), xytext=(5, 4), fontsize=7,
                                  textcoords="offset points", color=INK)  # fmt: skip
            else:
                log_ticks(axes.xaxis)
        axes.margins(y=0.12)
        size_key(figure, fit.sizes, colours)
