"""gpt2 plot: metrics, fits and evaluations as a figure, or as text in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console, harmless
from gpt2cli.cli.options import AnyPath, OutputPath, force_option
from gpt2cli.errors import BadInput, UsageFault

RUN_VIEWS = ("curves", "gradients", "envelope", "noise")
FIT_VIEWS = ("frontier", "isoflop", "contours", "residuals", "cloud", "rolling")


@click.command("plot", cls=Gpt2Command, short_help="Draw metrics, fits and evaluations, as a file or in the terminal.")
@click.argument("paths", nargs=-1, metavar="[RUN_DIR|FILE]...", type=AnyPath())
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=OutputPath(),
    help="Draw into FILE, .png or .svg; without it, text on standard output.",
)
@click.option(
    "--x",
    "axis",
    type=click.Choice(["tokens", "steps", "flops", "params"]),
    default=None,
    help="What the horizontal axis counts; default tokens for runs, params for evaluations without one.",
)
@click.option(
    "--view",
    type=click.Choice(list(RUN_VIEWS + FIT_VIEWS)),
    default=None,
    help=f"What to show: of runs {', '.join(RUN_VIEWS)}, of a fit {', '.join(FIT_VIEWS)}; default the first.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Draw this measure of the evaluations, such as acc or word_ppl; repeatable.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="NAME=VALUE",
    help="A named horizontal line, such as unigram=5.9 or chance=0.25; repeatable.",
)
@force_option()
@click.pass_obj
def command(
    console: Console,
    paths: tuple[str, ...],
    output: str | None,
    axis: str | None,
    view: str | None,
    metrics: tuple[str, ...],
    references: tuple[str, ...],
    force: bool,
) -> None:
    """Draw what the records hold: loss curves of runs (metrics.jsonl), a fitted law (gpt2 fit-scaling), or evaluations
    of several models (gpt2 eval-ppl, eval-tasks) against their parameters.

    A directory is a run or holds runs; no argument: standard input.
    """
    from gpt2cli.scaling.curves import read_drawable
    from gpt2cli.scaling.envelope import CurveCollector
    from gpt2cli.scaling.plots import picture_format

    lines = dict(_reference(text) for text in references)
    kind = picture_format(output) if output is not None else None
    collector = CurveCollector()
    drawable = read_drawable(paths or ("-",), console, watch=collector.add if view == "envelope" else None)
    if view == "envelope":
        picture = _envelope(drawable, collector, axis, metrics, lines)
    else:
        picture = _choose(drawable, view, axis, metrics, lines)
    if kind is None:
        _to_terminal(picture)
    else:
        from gpt2cli.records.streams import open_output

        with open_output(str(output), force=force, binary=True) as stream:
            picture.draw(stream, kind)
        console.note(f"drew {output}")


@dataclass(frozen=True)
class _Picture:
    """One of the three pictures: how it goes into a file, and how it goes into text of a width and height."""

    draw: Callable[[BinaryIO, str], None]
    text: Callable[[int, int], str]


def _choose(
    drawable: Any, view: str | None, axis: str | None, metrics: tuple[str, ...], lines: dict[str, float]
) -> _Picture:
    """Return the picture that the records and options ask for."""
    if drawable.fits:
        if drawable.curves or drawable.tasks or drawable.evaluations:
            raise UsageFault("the input holds both metrics and fits; plot them one by one")
        if lines or metrics or axis:
            raise UsageFault("--x, --reference and --metric belong to curves and evaluations; the input is a fit")
        if view in RUN_VIEWS:
            raise UsageFault(f"--view {view} shows runs; the input is a fit, which has {', '.join(FIT_VIEWS)}")
        return _fit(drawable.fits[-1], view or FIT_VIEWS[0])
    if view in FIT_VIEWS:
        raise UsageFault(f"--view {view} shows a fit (gpt2 fit-scaling); the input is none")
    if view == "noise" and (metrics or axis == "params"):
        raise UsageFault("--view noise is of batch sizes along runs: no --metric or --x params with it")
    if view == "gradients" and (metrics or axis == "params" or lines):
        raise UsageFault("--view gradients is of norms along runs: no --metric, --reference or --x params with it")
    by_size = axis == "params" or (axis is None and view is None and not drawable.has_training and _has_sizes(drawable))
    if by_size or metrics:
        if axis not in (None, "params"):
            raise UsageFault(f"--metric draws evaluations against parameters, not {axis}")
        return _evaluations(drawable, metrics, lines)
    if drawable.tasks:
        raise UsageFault("the input holds task results, which are drawn against parameters alone: say --x params")
    if not drawable.curves:
        raise BadInput("the evaluations are neither a run's nor of models whose size is known; nothing can be drawn")
    if view == "noise":
        return _noise(drawable.curves, axis or "tokens", lines)
    if view == "gradients":
        return _gradients(drawable.curves, axis or "tokens")
    return _curves(drawable.curves, axis or "tokens", lines)


def _has_sizes(drawable: Any) -> bool:
    return bool(drawable.tasks) or any("n_params" in record for record in drawable.evaluations)


def _fit(record: dict[str, Any], view: str) -> _Picture:
    from gpt2cli.scaling import plot_views

    draw, text = plot_views.FIT_VIEWS[view]
    return _Picture(lambda stream, kind: draw(record, stream, kind), lambda w, h: text(record, w, h))


def _envelope(
    drawable: Any, collector: Any, axis: str | None, metrics: tuple[str, ...], lines: dict[str, float]
) -> _Picture:
    from gpt2cli.scaling.plot_envelope import draw_envelope, read_envelope
    from gpt2cli.scaling.terminal_fit import envelope_text

    if metrics or lines or axis not in (None, "flops"):
        raise UsageFault("--view envelope is of losses against compute: no --metric, --reference or other --x with it")
    if drawable.fits:
        raise UsageFault("--view envelope shows runs; the input holds a fit, whose handovers are in its record")
    curves, losses, found = read_envelope(collector)
    return _Picture(
        lambda stream, kind: draw_envelope(curves, losses, found, stream, kind),
        lambda width, height: envelope_text(curves, losses, found, width, height),
    )


def _curves(curves: Any, axis: str, lines: dict[str, float]) -> _Picture:
    from gpt2cli.scaling.plot_curves import draw_curves
    from gpt2cli.scaling.terminal_plot import curves_text

    return _Picture(lambda stream, kind: draw_curves(curves, stream, kind, axis=axis, references=lines),
                    lambda width, height: curves_text(curves, axis, lines, width, height))


def _gradients(curves: Any, axis: str) -> _Picture:
    from gpt2cli.scaling.plot_gradients import draw_gradients, gradient_curves, gradients_text

    found = gradient_curves(curves, axis)
    return _Picture(lambda stream, kind: draw_gradients(found, stream, kind, axis=axis),
                    lambda width, height: gradients_text(found, axis, width, height))


def _noise(curves: Any, axis: str, lines: dict[str, float]) -> _Picture:
    from gpt2cli.scaling.plot_noise import draw_noise, noise_curves, noise_text

    if lines:
        raise UsageFault("--reference is a loss or a measure; --view noise shows batch sizes")
    found = noise_curves(curves, axis)
    return _Picture(lambda stream, kind: draw_noise(found, stream, kind, axis=axis),
                    lambda width, height: noise_text(found, axis, width, height))


def _evaluations(drawable: Any, metrics: tuple[str, ...], lines: dict[str, float]) -> _Picture:
    from gpt2cli.scaling.capabilities import panels
    from gpt2cli.scaling.plot_capabilities import draw_panels
    from gpt2cli.scaling.terminal_plot import panel_text

    sizes = {curve.run: curve.n_params for curve in drawable.curves if curve.n_params}
    found = panels(drawable.final_evaluations(), drawable.tasks, sizes, metrics)
    if lines and len(found) > 1:
        raise UsageFault("--reference needs one metric's axis; choose one by --metric")
    return _Picture(lambda stream, kind: draw_panels(found, stream, kind, lines),
                    lambda width, height: "\n".join(panel_text(panel, lines, width, height) for panel in found))


def _to_terminal(picture: _Picture) -> None:
    import shutil

    size = shutil.get_terminal_size((80, 24))
    click.echo(harmless(picture.text(min(size.columns, 160), min(size.lines, 40))), nl=False)


def _reference(text: str) -> tuple[str, float]:
    import math

    name, equals, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not name or not math.isfinite(number) or number <= 0:
        raise UsageFault(f"--reference {text!r}: write NAME=VALUE with a positive value, such as unigram=5.9")
    return name, number
