"""The views of a fit, and the envelope of training curves, as plain text; see terminal_plot for the canvas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.diagnosis import short
from gpt2cli.scaling.drawn_fit import DrawnFit
from gpt2cli.scaling.envelope import Envelope, TrainingCurve
from gpt2cli.scaling.laws import FLOPS_PER_ND
from gpt2cli.scaling.plot_cloud import APPROACHES, clouds, optimum_of
from gpt2cli.scaling.plot_contours import contour_levels, surface_range
from gpt2cli.scaling.plot_isoflop import profiles, runs_of
from gpt2cli.scaling.plot_rolling import rolling_errors
from gpt2cli.scaling.plots import flops_text
from gpt2cli.scaling.terminal_plot import LETTERS, Canvas

_BINS = 40


def fit_text(record: Record, width: int, height: int) -> str:
    """Return loss against compute: letters by size, dots the frontier, * the budgets that were asked for."""
    fit = DrawnFit.of(record)
    reach = _ends(np.concatenate([fit.compute, fit.budgets]))
    compute = np.geomspace(*reach, 200)
    _, best = fit.optima(compute)
    known = np.isfinite(best)
    canvas = Canvas(width, height, reach, _ends(np.concatenate([fit.loss, best[known]])), x_log=True, y_log=True,
                    x_powers=True)  # fmt: skip
    canvas.line(compute[known], best[known])
    for size, c, value in zip(fit.size_of, fit.compute, fit.loss, strict=True):
        canvas.mark(float(c), float(value), LETTERS[size % len(LETTERS)])
    legend = [f"{LETTERS[i % len(LETTERS)]}  N = {short(float(size))}" for i, size in enumerate(fit.sizes)]
    for flops in fit.budgets:
        n, loss = (float(found[0]) for found in fit.optima(np.array([flops])))
        if np.isfinite(loss):
            canvas.mark(flops, loss, "*")
            length = short(flops / FLOPS_PER_ND / n)
            legend.append(f"*  best at {flops:.3g} FLOP: N {short(n)}, D {length}, loss {loss:.4f}")
    dots = "; dots: best use of the compute" if known.any() else ""
    return canvas.text(f"final loss (nats per token){dots}", "C = 6 N D (FLOP)", legend)


def isoflop_text(record: Record, width: int, height: int) -> str:
    """Return the IsoFLOP profiles: a letter for each budget, * a minimum inside, ? one at the edge."""
    found = profiles(record)
    every = np.concatenate([runs_of(each) for each in found], axis=1)
    canvas = Canvas(width, height, _ends(every[0]), _ends(every[1]), x_log=True, y_log=True)
    legend = []
    for i, each in enumerate(found):
        (n_of, loss_of), letter = runs_of(each), LETTERS[i % len(LETTERS)]
        said = "no minimum"
        if each["n_opt"] is not None:
            n = np.geomspace(n_of.min(), n_of.max(), 200)
            canvas.line(n, each["loss_nats"] + each["curvature"] * (np.log(n) - np.log(float(each["n_opt"]))) ** 2)
        for x, y in zip(n_of, loss_of, strict=True):
            canvas.mark(float(x), float(y), letter)
        if each["n_opt"] is not None:
            inside = each["minimum"] == "inside"
            canvas.mark(each["n_opt"], each["loss_nats"], "*" if inside else "?")
            said = f"minimum at N {short(each['n_opt'])}" + ("" if inside else ", at the edge (?): left out")
        legend.append(f"{letter}  C = {flops_text(each['flops'])} FLOP: {said}")
    line = record["approaches"]["isoflop"]
    legend.append(f"*  N_opt = C^{line['n_exponent']:.3f}" if line["n_exponent"] is not None else f"*  {line['why']}")
    return canvas.text("final loss (nats per token)", "parameters N", legend)


def contours_text(record: Record, width: int, height: int) -> str:
    """Return lines of equal loss over N and D: o the runs, dashed the best use of compute, * the budgets."""
    fit = DrawnFit.of(record)
    n, d = surface_range(fit)
    canvas = Canvas(width, height, _ends(n), _ends(d), x_log=True, y_log=True)
    losses = np.asarray(fit.known.law.loss(n[None, :], d[:, None]), dtype=float)
    chosen = contour_levels(losses)[:: 2 if height < 30 else 1]
    for level in chosen:
        at = np.array([np.interp(-level, -losses[:, i], np.log(d), np.nan, np.nan) for i in range(len(n))])
        canvas.line(n, np.exp(at))
        inside = np.flatnonzero(np.isfinite(at))
        if len(inside):
            for k, character in enumerate(f"{level:g}"):
                step = (np.log(n[-1]) - np.log(n[0])) / canvas.columns
                last = inside[-1] if inside[-1] < len(n) - 1 else inside[int(len(inside) * 0.9)]
                canvas.mark(float(np.exp(np.log(n[last]) - (6 - k) * step)), float(np.exp(at[last])), character)
    compute = np.geomspace(FLOPS_PER_ND * n[0] * d[0], FLOPS_PER_ND * n[-1] * d[-1], 200)
    best, _ = fit.optima(compute)
    canvas.line(best, compute / FLOPS_PER_ND / best, dashed=True)
    for x, y in zip(fit.n, fit.d, strict=True):
        canvas.mark(float(x), float(y), "o")
    legend = [f"o  {len(fit.n)} runs", "- -  best use of the compute", "numbers: loss (nats per token)"]
    for flops in fit.budgets:
        at_budget, loss = fit.optima(np.array([flops]))
        if np.isfinite(at_budget[0]):
            size, length = float(at_budget[0]), flops / FLOPS_PER_ND / float(at_budget[0])
            canvas.mark(size, length, "*")
            legend.append(f"*  {flops_text(flops)} FLOP: N {short(size)}, D {short(length)}, loss {loss[0]:.4f}")
    return canvas.text("training tokens D", "parameters N", legend)


def residuals_text(record: Record, width: int, height: int) -> str:
    """Return measured over fitted loss against compute: a letter for each size, the worst runs by name."""
    fit = DrawnFit.of(record)
    percent = 100 * np.expm1(-fit.residual)
    reach = max(0.05, 1.1 * float(np.abs(percent).max()))
    canvas = Canvas(width, height, _ends(fit.compute), (-reach, reach), x_log=True, x_powers=True)
    canvas.line(np.array(_ends(fit.compute)), np.zeros(2), dashed=True)
    for x, y, size in zip(fit.compute, percent, fit.size_of, strict=True):
        canvas.mark(float(x), float(y), LETTERS[size % len(LETTERS)])
    legend = [f"{LETTERS[i % len(LETTERS)]}  N = {short(float(size))}" for i, size in enumerate(fit.sizes)]
    for at in np.argsort(-np.abs(percent), kind="stable")[:3]:
        legend.append(f"{percent[at]:+.2f} %  {str(record['observations'][at].get('run', ''))[:40]}")
    return canvas.text("measured above fitted loss (%)", "C = 6 N D (FLOP)", legend)


def cloud_text(record: Record, width: int, height: int) -> str:
    """Return the histogram of N_opt over the resamples at the largest budget, and where each approach puts it."""
    fit = DrawnFit.of(record)
    flops, optima = clouds(fit)[-1]
    marks = {name: optimum_of(fit, name, flops) for name in APPROACHES}
    low, high = np.percentile(optima, [0.5, 99.5])
    low, high = min([low, *(n for n in marks.values() if n)]) / 1.02, max([high, *(n for n in marks.values() if n)])
    edges = np.geomspace(low, high * 1.02, _BINS + 1)
    counts, _ = np.histogram(optima, edges)
    canvas = Canvas(width, height, (edges[0], edges[-1]), (0.0, float(counts.max()) * 1.1 + 1), x_log=True)
    canvas.line(np.repeat(edges, 2)[1:-1], np.repeat(counts, 2).astype(float))
    legend = []
    for approach, n in marks.items():
        name = APPROACHES[approach][0]
        if n is None:
            legend.append(f"{name}: no answer")
            continue
        for share in np.linspace(0.04, 0.96, 8):
            canvas.mark(n, share * float(counts.max()), name[0])
        legend.append(f"{name}: N {short(n)}, D {short(flops / FLOPS_PER_ND / n)}")
    ends = fit.known.boot.interval(optima) if fit.known.boot is not None else None
    if ends is not None:
        legend.append(f"95 % of the resamples: {short(ends[0])} to {short(ends[1])}")
    return canvas.text(f"resamples of {len(optima)}", f"N at {flops_text(flops)} FLOP", legend)


def rolling_text(record: Record, width: int, height: int) -> str:
    """Return the errors of runs predicted before they were seen: a letter for each origin."""
    reach, error, fitted, _ = rolling_errors(record)
    span = max(0.1, 1.1 * float(np.abs(error).max()))
    canvas = Canvas(width, height, _ends(reach), (-span, span), x_log=True)
    canvas.line(np.array(_ends(reach)), np.zeros(2), dashed=True)
    origins = sorted(set(fitted.tolist()))
    for x, y, origin in zip(reach, error, fitted, strict=True):
        canvas.mark(float(x), float(y), LETTERS[origins.index(int(origin)) % len(LETTERS)])
    legend = [f"{LETTERS[i % len(LETTERS)]}  {origin} runs fitted" for i, origin in enumerate(origins)]
    legend.append(f"{float(np.sqrt(np.mean(error**2))):.2g} % rms over {len(error)} runs")
    return canvas.text("predicted above measured loss (%)", "compute over the largest fitted (times)", legend)


def envelope_text(
    curves: Sequence[TrainingCurve], losses: str, found: Envelope, width: int, height: int
) -> str:
    """Return the lower envelope of training curves against compute: letters the size on it, * the handovers."""
    known = found.contested
    canvas = Canvas(width, height, _ends(found.flops[known]), _ends(found.loss[known]), x_log=True, y_log=True,
                    x_powers=True)  # fmt: skip
    for curve in curves:
        canvas.line(FLOPS_PER_ND * curve.n * curve.tokens, curve.loss, dashed=True)
    canvas.line(found.flops[known], found.loss[known])
    legend = []
    for size, n in enumerate(found.sizes):
        best = np.flatnonzero(known & (found.winner == size))
        if len(best):
            at = best[len(best) // 2]
            canvas.mark(float(found.flops[at]), float(found.loss[at]), LETTERS[size % len(LETTERS)])
            legend.append(f"{LETTERS[size % len(LETTERS)]}  N = {short(float(n))}")
    for handover in found.free:
        canvas.mark(handover.flops, handover.loss_nats, "*")
    said = found.why if found.line is None else f"{len(found.free)} handovers: N_opt = C^{found.line.exponent:.3f}"
    return canvas.text(f"{losses} loss (nats per token)", "C = 6 N D (FLOP)", [*legend, f"*  {said}"])


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))
