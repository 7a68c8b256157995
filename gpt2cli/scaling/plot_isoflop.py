"""The figure of approach 2: the loss of each budget against N with its parabola, and the minima against compute."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.drawn_fit import DrawnFit, part
from gpt2cli.scaling.plots import ACCENT, GREY, INK, MARKERS, figure_for, flops_text, log_ticks, loss_axis, ramp
from gpt2cli.scaling.sound_fit import check_fit

LABELLED = 12
"""More budgets than this are not named one by one."""


def profiles(record: Record) -> list[Record]:
    """Return the IsoFLOP profiles of a fit; raise BadInput with the reason when there are none."""
    check_fit(record)
    found = part(record, "approaches", "isoflop", "profiles")
    if not found:
        why = part(record, "approaches", "isoflop", "why")
        raise BadInput("the fit has no IsoFLOP profiles to draw" + (f": {why}" if why else ""))
    return list(found)


def runs_of(profile: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return N and loss of a profile's runs, both (m,)."""
    n, loss = np.array([(float(run["n"]), float(run["loss_nats"])) for run in profile["runs"]]).T
    return n, loss


def draw_isoflop(record: Record, stream: BinaryIO, kind: str) -> None:
    """Draw the IsoFLOP profiles of a gpt2.fit/1 record: minima inside are filled, those at an edge open."""
    fit, found = DrawnFit.of(record), profiles(record)
    with figure_for((11.5, 5.2), stream, kind) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        colours = ramp(len(found))
        for i, (profile, colour) in enumerate(zip(found, colours, strict=True)):
            _draw_profile(left, profile, colour, MARKERS[i % len(MARKERS)], named=len(found) <= LABELLED)
        left.set_xscale("log")
        log_ticks(left.xaxis)
        loss_axis(left)
        left.set_xlabel("parameters N")
        left.set_ylabel("final loss (nats per token)")
        left.set_title("Runs of one budget and their parabola in log N")
        left.legend(loc="best", title="C = 6 N D (FLOP)", title_fontsize=9, alignment="left")
        _draw_minima(right, fit, found, colours)


def _draw_profile(axes: Any, profile: Record, colour: Any, marker: str, *, named: bool) -> None:
    n_of, loss_of = runs_of(profile)
    label = flops_text(profile["flops"]) if named else None
    axes.plot(n_of, loss_of, color=colour, marker=marker, markersize=6, linewidth=0,
              markeredgecolor="white", markeredgewidth=0.8, label=label, zorder=3)  # fmt: skip
    if profile["n_opt"] is None:
        return
    ends = float(n_of.min()), float(n_of.max())
    inside = profile["minimum"] == "inside"
    n = np.geomspace(ends[0], ends[1], 120)
    curve = profile["loss_nats"] + profile["curvature"] * (np.log(n) - np.log(float(profile["n_opt"]))) ** 2
    axes.plot(n, curve, color=colour, linewidth=1.4, linestyle="-" if inside else (0, (3, 2)))
    if ends[0] <= profile["n_opt"] <= ends[1]:
        axes.plot(profile["n_opt"], profile["loss_nats"], marker="*", markersize=13, zorder=4, linewidth=0,
                  color=ACCENT if inside else "white", markeredgecolor="white" if inside else ACCENT)  # fmt: skip


def _draw_minima(axes: Any, fit: DrawnFit, found: list[Record], colours: list[Any]) -> None:
    every = np.concatenate([runs_of(profile)[0] for profile in found])
    smallest, largest = float(every.min()), float(every.max())
    shown: set[bool] = set()
    for profile in found:
        if profile["n_opt"] is None or not smallest / 10 < profile["n_opt"] < largest * 10:
            continue
        inside = profile["minimum"] == "inside"
        label = None if inside in shown else "minimum" if inside else "at the edge, left out"
        shown.add(inside)
        axes.plot(profile["flops"], profile["n_opt"], marker="*", markersize=13, linewidth=0, zorder=4, label=label,
                  color=ACCENT if inside else "white", markeredgecolor="white" if inside else ACCENT)  # fmt: skip
    compute = np.geomspace(min(p["flops"] for p in found) / 2, max(p["flops"] for p in found) * 2, 60)
    line = fit.record["approaches"]["isoflop"]
    if line["n_exponent"] is not None:
        n = np.exp(line["log_coefficient"]) * compute ** line["n_exponent"]
        axes.plot(compute, n, color=INK, linewidth=1.6, label=f"approach 2: C^{line['n_exponent']:.3f}")
    n_law, _ = fit.optima(compute)
    if np.isfinite(n_law).any():
        slope = np.log(n_law[-1] / n_law[0]) / np.log(compute[-1] / compute[0])
        axes.plot(compute, n_law, color=GREY, linewidth=1.6, linestyle=(0, (5, 2)), label=f"fitted law: C^{slope:.3f}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    log_ticks(axes.yaxis)
    axes.set_xlabel("C = 6 N D (FLOP)")
    axes.set_ylabel("parameters N at the minimum")
    axes.set_title("Minima")
    axes.legend(loc="upper left")
