"""Figures by matplotlib (Agg, no display): the style, the file, the axes. Equal input gives equal bytes.

matplotlib is imported only when a figure is made; without it there is a sentence, and the terminal plot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from gpt2cli.errors import Gpt2Error, UsageFault
from gpt2cli.scaling.diagnosis import short

MARKERS = "osD^vPX"
"""Marks of sizes, budgets and tasks, beside their colours: a figure is readable in grey."""
INK, GREY, FAINT, ACCENT = "#1c2733", "#6b7785", "#d9dee3", "#d1495b"
_NAMED_SIZES = 10
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "svg.hashsalt": "gpt2cli",
    "svg.fonttype": "path",
    "path.simplify": True,
}


def picture_format(path: str) -> str:
    """Return "png" or "svg" by the suffix of `path`; raise UsageFault for another one."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in ("png", "svg"):
        raise UsageFault(f"{path}: a figure is .png or .svg")
    return suffix


@contextlib.contextmanager
def figure_for(size: tuple[float, float], stream: BinaryIO, kind: str) -> Iterator[Any]:
    """Yield a matplotlib Figure of `size` inches in our style; it is written to `stream` as `kind` when the block ends.

    The user's matplotlibrc is left out of it, and dates and versions out of the file.
    Raises Gpt2Error without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise Gpt2Error(
            "figures need matplotlib: pip install 'gpt2cli[plot]' (gpt2 plot without -o draws in the terminal)"
        ) from None
    with matplotlib.rc_context(rc={**matplotlib.rcParamsDefault, "backend": "agg", **_STYLE}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata)


def loss_axis(axes: Any) -> None:
    """Make the vertical axis logarithmic with plain round numbers: a loss spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def short_ticks(axis: Any) -> None:
    """Write the ticks of an axis as 20K, 1.5M."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value) if value else "0"))


def log_ticks(axis: Any) -> None:
    """Write the ticks of a logarithmic axis as 10M, 124M: at the decades, or closer where there are few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1000 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())


def size_key(figure: Any, sizes: Any, colours: Sequence[Any]) -> None:
    """Explain the colours and marks of `sizes` (parameters, rising) below the figure; of many, only some."""
    from matplotlib.lines import Line2D

    step = -(-len(sizes) // _NAMED_SIZES)
    chosen = range(0, len(sizes), step)
    handles = [
        Line2D([], [], color=colours[i], marker=MARKERS[i % len(MARKERS)], linewidth=0, markersize=6) for i in chosen
    ]
    names = [short(float(sizes[i])) for i in chosen]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), title="parameters N", title_fontsize=9)


def flops_text(flops: float) -> str:
    """Write a budget as 5.8e23."""
    return f"{flops:.2g}".replace("e+", "e")


def ramp(number: int) -> list[Any]:
    """Return `number` colours from dark to light, readable in grey and by the colour-blind."""
    import matplotlib

    if number == 1:
        return ["#2a6f97"]
    return [matplotlib.colormaps["viridis"](0.02 + 0.84 * i / max(1, number - 1)) for i in range(number)]
