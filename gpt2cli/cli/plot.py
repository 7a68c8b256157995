"""gpt2 plot: metrics and fits as a figure, or as text in the terminal."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console, harmless
from gpt2cli.cli.options import force_option
from gpt2cli.errors import UsageFault


@click.command("plot", cls=Gpt2Command, short_help="Draw metrics, fits and evaluations, as a file or in the terminal.")
@click.argument("paths", nargs=-1, metavar="[RUN_DIR|FILE]...", type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Draw into FILE, .png or .svg; without it, text on standard output.",
)
@click.option(
    "--x",
    "axis",
    type=click.Choice(["tokens", "steps", "flops"]),
    default="tokens",
    show_default=True,
    help="What the horizontal axis of loss curves counts.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="NAME=VALUE",
    help="A named horizontal line across loss curves, such as unigram=5.9; repeatable.",
)
@force_option()
@click.pass_obj
def command(
    console: Console, paths: tuple[str, ...], output: str | None, axis: str, references: tuple[str, ...], force: bool
) -> None:
    """Draw what the records hold: loss curves of runs (metrics.jsonl), or a fitted law (gpt2 fit-scaling).

    A directory is a run or holds runs; no argument: standard input.
    """
    from gpt2cli.scaling.curves import read_drawable
    from gpt2cli.scaling.plots import picture_format

    lines = dict(_reference(text) for text in references)
    kind = picture_format(output) if output is not None else None
    drawable = read_drawable(paths or ("-",), console)
    if drawable.fits and drawable.curves:
        raise UsageFault("the input holds both metrics and fits; plot them one by one")
    if drawable.fits and lines:
        raise UsageFault("--reference belongs to loss curves; the input is a fit")
    if kind is None:
        _to_terminal(drawable, axis, lines)
    else:
        _to_file(drawable, str(output), kind, axis, lines, force)
        console.note(f"drew {output}")


def _to_terminal(drawable: Any, axis: str, lines: dict[str, float]) -> None:
    import shutil

    from gpt2cli.scaling.terminal_plot import curves_text, fit_text

    size = shutil.get_terminal_size((80, 24))
    width, height = min(size.columns, 160), min(size.lines, 40)
    if drawable.fits:
        text = fit_text(drawable.fits[-1], width, height)
    else:
        text = curves_text(drawable.curves, axis, lines, width, height)
    click.echo(harmless(text), nl=False)


def _to_file(
    drawable: Any,
    output: str,
    kind: str,
    axis: str,
    lines: dict[str, float],
    force: bool,
) -> None:
    from gpt2cli.records.streams import open_output
    from gpt2cli.scaling.plot_curves import draw_curves
    from gpt2cli.scaling.plot_fit import draw_fit

    with open_output(output, force=force, binary=True) as stream:
        if drawable.fits:
            draw_fit(drawable.fits[-1], stream, kind)
        else:
            draw_curves(drawable.curves, stream, kind, axis=axis, references=lines)


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
