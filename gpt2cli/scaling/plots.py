"""Figures by matplotlib (Agg, no display): loss curves and fits. Equal input gives equal bytes, SVG and PNG alike."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gpt2cli.errors import Gpt2Error, UsageFault
from gpt2cli.records.jsonl import Record
from gpt2cli.scaling.curves import Curve, smooth, thin
from gpt2cli.scaling.diagnosis import levels, short
from gpt2cli.scaling.laws import FLOPS_PER_ND, allocate, chinchilla_loss
from gpt2cli.scaling.saved import KnownLaw, known_law

INK, GREY, FAINT, ACCENT = "#1c2733", "#6b7785", "#d9dee3", "#d1495b"
PHASE_COLOURS = {"warmup": "#f2c14e", "stable": "#7fb7be", "decay": "#5b7db1", "done": "#3d405b"}
AXIS_TITLES = {"tokens": "training tokens", "steps": "steps", "flops": "training compute (FLOP)"}
LEGEND_RUNS = 10
_STYLE = {
    "font.family": "DejaVu Sans", "font.size": 10, "axes.edgecolor": GREY, "axes.labelcolor": INK,
    "axes.titlecolor": INK, "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titlesize": 11,
    "axes.titlepad": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": FAINT, "grid.linewidth": 0.6, "text.color": INK,
    "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "legend.frameon": False, "legend.fontsize": 9, "lines.solid_capstyle": "round",
    "figure.facecolor": "white", "svg.hashsalt": "gpt2cli", "svg.fonttype": "path", "path.simplify": True,
}


def picture_format(path: str) -> str:
    """Return "png" or "svg" by the suffix of `path`; raise UsageFault for another one."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in ("png", "svg"):
        raise UsageFault(f"{path}: a figure is .png or .svg")
    return suffix


def draw_curves(curves: Sequence[Curve], stream: BinaryIO, kind: str, *, axis: str = "tokens",
                references: Mapping[str, float] | None = None) -> None:
    """Draw the loss curves of runs with their learning rates below. `references` are horizontal lines by name."""
    with _figure((9.6, 6.0), stream, kind) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        colours = _run_colours(curves)
        for curve, colour in zip(curves, colours, strict=True):
            _draw_curve(upper, curve, colour, axis, alone=len(curves) == 1)
            _draw_rates(lower, curve, colour, axis, alone=len(curves) == 1)
        if len(curves) > 1:
            upper.set_xscale("log")
        _loss_axis(upper)
        _draw_references(upper, references or {})
        upper.set_ylabel("loss (nats per token)")
        upper.set_title(_curves_title(curves))
        lower.set_xlabel(AXIS_TITLES[axis])
        lower.set_ylabel("learning\nrate", rotation=0, ha="right", va="center")
        lower.set_ylim(bottom=0)
        lower.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
        lower.grid(axis="y", visible=False)
        _short_ticks(lower.xaxis)
        if len(curves) > 1:
            _legend_of_runs(upper, curves, colours)
        else:
            upper.legend(loc="upper right")


def draw_fit(record: Record, stream: BinaryIO, kind: str) -> None:
    """Draw a gpt2.fit/1 record: loss against compute with curves of equal N and the frontier, residuals, numbers."""
    known = known_law(record, "the fit")
    rows = record.get("observations") or []
    n, d, loss, residual = (np.array([float(row[key]) for row in rows])
                            for key in ("n", "d", "loss_nats", "log_residual"))
    with _figure((12.0, 5.8), stream, kind) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(1.75, 1), height_ratios=(1, 1))
        left, right = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1])
        table = figure.add_subplot(grid[1, 1])
        size_of = levels(n) if len(n) else np.empty(0, dtype=int)
        colours = _ramp(int(size_of.max()) + 1 if len(n) else 0)
        _draw_surface(left, known, n, d, loss, size_of, colours)
        _draw_frontier(left, known, record, n, d)
        left.set_xscale("log")
        _loss_axis(left)
        left.set_xlabel("training compute C = 6 N D (FLOP)")
        left.set_ylabel("final loss (nats per token)")
        left.set_title(f"{len(n)} runs and the law they fit")
        left.legend(loc="upper right", title="parameters N", ncols=1 if len(colours) < 7 else 2,
                    title_fontsize=9, alignment="left")
        _draw_residuals(right, n, d, residual, size_of, colours)
        _write_numbers(table, record)


@contextlib.contextmanager
def _figure(size: tuple[float, float], stream: BinaryIO, kind: str) -> Iterator[Any]:
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise Gpt2Error("figures need matplotlib: pip install 'gpt2cli[plot]' "
                        "(gpt2 plot without -o draws in the terminal)") from None
    with matplotlib.rc_context(rc={**matplotlib.rcParamsDefault, "backend": "agg", **_STYLE}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata)


def _draw_curve(axes: Any, curve: Curve, colour: Any, axis: str, *, alone: bool) -> None:
    x, loss = curve.training(axis)
    if len(x):
        thin_x, thin_smooth, thin_loss = thin(x, smooth(loss), loss)
        if alone:
            axes.plot(thin_x, thin_loss, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(thin_x, thin_smooth, color=colour, linewidth=1.8 if alone else 1.4,
                  label="training, smoothed" if alone else None)
    x, loss = curve.validation(axis)
    if len(x):
        shown = slice(None) if alone else slice(-1, None)
        axes.plot(x[shown], loss[shown], color=ACCENT if alone else colour, marker="o", markersize=5 if alone else 6,
                  markeredgecolor="white", markeredgewidth=1.0, linewidth=1.2 if alone else 0,
                  label=f"validation, {loss[-1]:.3f} at the end" if alone else None, zorder=3)


def _draw_rates(axes: Any, curve: Curve, colour: Any, axis: str, *, alone: bool) -> None:
    x, rate = curve.rates(axis)
    if not len(x):
        return
    thin_x, thin_rate = thin(x, rate)
    axes.plot(thin_x, thin_rate, color=INK if alone else colour, linewidth=1.2)
    if not alone:
        return
    for phase, start, stop in curve.phases(axis):
        inside = (thin_x >= start) & (thin_x <= stop)
        axes.fill_between(thin_x[inside], thin_rate[inside], color=PHASE_COLOURS.get(phase, FAINT), alpha=0.55,
                          linewidth=0, label=phase)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0, fontsize=8)


def _draw_references(axes: Any, references: Mapping[str, float]) -> None:
    for name, value in references.items():
        axes.axhline(value, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(f"{name} {value:g}", (1.0, value), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                      textcoords="offset points", ha="right", va="bottom", fontsize=9, color=GREY)


def _draw_surface(axes: Any, known: KnownLaw, n: np.ndarray, d: np.ndarray, loss: np.ndarray, size_of: np.ndarray,
                  colours: list[Any]) -> None:
    for level, colour in enumerate(colours):
        chosen = size_of == level
        size = float(np.exp(np.log(n[chosen]).mean()))
        lengths = np.geomspace(d[chosen].min() / 1.5, d[chosen].max() * 1.5, 80)
        axes.plot(FLOPS_PER_ND * size * lengths, known.law.loss(size, lengths), color=colour, linewidth=1.3, alpha=0.85)
        axes.plot(FLOPS_PER_ND * n[chosen] * d[chosen], loss[chosen], color=colour, marker="o", linewidth=0,
                  markersize=6, markeredgecolor="white", markeredgewidth=0.9, label=short(size), zorder=3)


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
        axes.annotate(f"N {short(entry['n_opt'])}\nD {short(entry['d_opt'])}\nL {at[1]:.3f}", at, xytext=(-6, -10),
                      textcoords="offset points", ha="right", va="top", fontsize=9, color=INK)
    axes.margins(y=0.12)


def _floor_losses(parameters: np.ndarray, flops: float) -> np.ndarray:
    n, d, loss = allocate(parameters, flops)
    one_sided = parameters[:, 0]  # with A or B at 0 the best loss is the floor itself
    return np.where(np.isfinite(loss) & np.isfinite(n) & np.isfinite(d), loss, one_sided)


def _draw_residuals(axes: Any, n: np.ndarray, d: np.ndarray, residual: np.ndarray, size_of: np.ndarray,
                    colours: list[Any]) -> None:
    axes.axhline(0.0, color=INK, linewidth=0.9)
    for level, colour in enumerate(colours):
        chosen = size_of == level
        x = FLOPS_PER_ND * n[chosen] * d[chosen]
        axes.vlines(x, 0, -100 * residual[chosen], color=colour, linewidth=1.0, alpha=0.6)
        axes.plot(x, -100 * residual[chosen], color=colour, marker="o", markersize=4.5, linewidth=0,
                  markeredgecolor="white", markeredgewidth=0.6)
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
    words = [f"condition {condition:.0f}" if condition else "singular",
             f"rms residual {100 * found.get('rms_log_residual', 0):.2g} %"]
    warned = len(record.get("warnings", []))
    if warned:
        words.append(f"{warned} warning{'s' if warned > 1 else ''}")
    axes.text(0.02, 0.08, "  ·  ".join(words), fontsize=9, color=ACCENT if warned else GREY, va="top",
              transform=axes.transAxes)


def _loss_axis(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _short_ticks(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value) if value else "0"))


def _curves_title(curves: Sequence[Curve]) -> str:
    if len(curves) > 1:
        return f"{len(curves)} runs: training loss (lines) and final validation loss (points)"
    size = f", {short(curves[0].n_params)} parameters" if curves[0].n_params else ""
    return f"{curves[0].run}{size}"


def _run_colours(curves: Sequence[Curve]) -> list[Any]:
    if len(curves) == 1:
        return ["#2a6f97"]
    sizes = sorted({curve.n_params or 0.0 for curve in curves})
    if len(sizes) == 1:
        return _ramp(len(curves))
    ramp = _ramp(len(sizes))
    return [ramp[sizes.index(curve.n_params or 0.0)] for curve in curves]


def _ramp(number: int) -> list[Any]:
    import matplotlib

    if number == 1:
        return ["#2a6f97"]
    return [matplotlib.colormaps["viridis"](0.02 + 0.84 * i / max(1, number - 1)) for i in range(number)]


def _legend_of_runs(axes: Any, curves: Sequence[Curve], colours: list[Any]) -> None:
    from matplotlib.lines import Line2D

    entries: dict[str, Any] = {}
    for curve, colour in zip(curves, colours, strict=True):
        size = short(curve.n_params) if curve.n_params else "unknown"
        label = curve.run if len(curves) <= LEGEND_RUNS else size
        entries.setdefault(label, Line2D([], [], color=colour, linewidth=2))
    axes.legend(list(entries.values()), list(entries), loc="upper right",
                title="run" if len(curves) <= LEGEND_RUNS else "parameters", alignment="left", title_fontsize=9)
