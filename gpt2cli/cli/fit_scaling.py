"""gpt2 fit-scaling: fit a law to runs, predict with it, and find the optimum of a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Count, Real, files_argument, force_option, output_option, seed_option
from gpt2cli.cli.verbs import VerbCommand
from gpt2cli.errors import UsageFault

_ENVIRONMENT = {"auto_envvar_prefix": "GPT2_FIT_SCALING"}
_SCHEMA_NOTE = "FLOP are counted as C = 6 N D."


class FitScaling(VerbCommand):
    """The command `fit`, which hands over to another verb when the first argument names one."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the verb that is asked for; `fit` may be named too."""
        return super().make_context(info_name, args[1:] if args[:1] == ["fit"] else args, parent, **extra)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Write the verbs into the usage line."""
        return [f"[fit|{'|'.join(self.verbs)}]", *super().collect_usage_pieces(ctx)]


def _law_options(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option(
        "--fit",
        "fit_file",
        metavar="FILE",
        type=click.Path(),
        help="A law fitted before: the -o FILE of gpt2 fit-scaling, - for stdin.",
    )(function)
    return click.option(
        "--law",
        metavar="NAME",
        help="A published law: hoffmann, hoffmann-unrounded, besiroglu, besiroglu-huber, kaplan-t5, kaplan-t2.",
    )(function)


@click.command(
    "fit-scaling",
    cls=FitScaling,
    short_help="Fit a scaling law to runs and plan by it.",
    epilog="Other verbs, each with its own --help: predict (the loss at N and D), optimal (N and D for a budget).",
)
@files_argument()
@click.option(
    "--map",
    "mapping",
    metavar="n=COL,d=COL,loss=COL",
    help="Read foreign CSV or JSONL by these columns; also run=COL and flops=COL.",
)
@click.option(
    "--count",
    type=click.Choice(["total", "non-embedding"]),
    default="total",
    show_default=True,
    help="Which parameters N counts.",
)
@click.option(
    "--flops",
    type=Count(1),
    multiple=True,
    metavar="C",
    help="Budget to allocate, repeatable; default: 10 times the largest run. " + _SCHEMA_NOTE,
)
@click.option(
    "--bootstrap",
    "resamples",
    type=click.IntRange(0, 1_000_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="Resamples of the runs for the 95 % intervals; 0: none.",
)
@click.option(
    "--delta",
    type=Real(0, 1),
    default=1e-3,
    show_default=True,
    metavar="X",
    help="Huber's threshold on log residuals; 0: least absolute deviations.",
)
@seed_option("Seed of the resamples.")
@click.option("--allow-mixed", is_flag=True, help="Fit runs of different tokenizers or validation sets together.")
@click.option("--allow-unidentified", is_flag=True, help="Show the numbers of a design that cannot carry a fit.")
@click.option("--plot", "plot_file", metavar="FILE", type=click.Path(), help="Also draw the fit: .png or .svg.")
@output_option()
@force_option()
@click.pass_obj
def command(
    console: Console,
    files: tuple[str, ...],
    mapping: str | None,
    count: str,
    flops: tuple[int, ...],
    resamples: int,
    delta: float,
    seed: int,
    allow_mixed: bool,
    allow_unidentified: bool,
    plot_file: str | None,
    output: str,
    force: bool,
) -> None:
    """Fit L = E + A N^-alpha + B D^-beta to the final losses of runs.

    FILE is a run's metrics.jsonl (several runs may share one); no FILE: standard input. One gpt2.fit record goes to
    standard output, a table for people to standard error.
    """
    from gpt2cli.cli import scaling_tables
    from gpt2cli.scaling.study import FitConfig, run_study

    _check_outputs(output, plot_file, force)
    config = FitConfig(
        files or ("-",),
        mapping,
        count,
        tuple(float(budget) for budget in flops),
        resamples,
        seed,
        delta,
        allow_mixed,
        allow_unidentified,
    )
    report = run_study(config, console)
    record = report.record()
    if plot_file is not None:
        _draw(record, plot_file, force, console)
    _write("gpt2.fit", [record], output, force)
    scaling_tables.show_fit(record)
    for text in report.warnings:
        console.warn(text)


@click.command("fit-scaling", cls=Gpt2Command, context_settings=_ENVIRONMENT)
@_law_options
@click.option("--n", "sizes", type=Count(1), multiple=True, metavar="N", help="Parameters; repeatable with --d.")
@click.option("--d", "lengths", type=Count(1), multiple=True, metavar="D", help="Training tokens.")
@output_option()
@force_option()
@click.pass_obj
def predict(
    console: Console,
    law: str | None,
    fit_file: str | None,
    sizes: tuple[int, ...],
    lengths: tuple[int, ...],
    output: str,
    force: bool,
) -> None:
    """Predict the loss at N parameters and D tokens by a published law or a fit.

    Writes a gpt2.plan record for each pair of --n and --d.
    """
    from gpt2cli.cli import scaling_tables
    from gpt2cli.scaling import study

    if not sizes or len(sizes) != len(lengths):
        raise UsageFault("predict needs --n and --d, each as often as the other")
    known = _law(law, fit_file)
    records = [
        study.rounded(
            {
                "law": known.name,
                "flops": 6.0 * n * d,
                "kind": "prediction",
                "count": known.count,
                "source": known.source,
                **study.prediction_record(known.law, known.boot, float(n), float(d)),
            }
        )
        for n, d in zip(sizes, lengths, strict=True)
    ]
    _write("gpt2.plan", records, output, force)
    scaling_tables.show_plans(known.name, known.source, known.count, records)
    _warn_of_reach(console, known, records)


@click.command("fit-scaling", cls=Gpt2Command, context_settings=_ENVIRONMENT)
@_law_options
@click.option(
    "--flops",
    type=Count(1),
    multiple=True,
    required=True,
    metavar="C",
    help="Budget in FLOP, repeatable. " + _SCHEMA_NOTE,
)
@output_option()
@force_option()
@click.pass_obj
def optimal(
    console: Console, law: str | None, fit_file: str | None, flops: tuple[int, ...], output: str, force: bool
) -> None:
    """Find the N and D that make the most of a budget of C FLOP, in closed form.

    Writes a gpt2.plan record for each budget.
    """
    from gpt2cli.cli import scaling_tables
    from gpt2cli.scaling import study
    from gpt2cli.scaling.laws import closed_form

    known = _law(law, fit_file)
    surface = closed_form(known.name, known.law)
    records = [
        study.rounded(
            {
                "law": known.name,
                "kind": "optimal",
                "count": known.count,
                "source": known.source,
                "flops_per_nd": 6.0,
                **study.allocation_record(surface, known.boot, float(budget)),
            }
        )
        for budget in flops
    ]
    _write("gpt2.plan", records, output, force)
    scaling_tables.show_plans(known.name, known.source, known.count, records)
    _warn_of_reach(console, known, records)


FitScaling.verbs = {"predict": predict, "optimal": optimal}


def _law(law: str | None, fit_file: str | None) -> Any:
    from gpt2cli.scaling.saved import law_by_name, read_fit

    if (law is None) == (fit_file is None):
        raise UsageFault("give either --law NAME or --fit FILE")
    return law_by_name(law) if law is not None else read_fit(str(fit_file))


def _warn_of_reach(console: Console, known: Any, records: list[dict[str, Any]]) -> None:
    farthest = max(float(record["flops"]) for record in records)
    if known.largest_flops is not None and farthest > 100 * known.largest_flops:
        console.warn(
            f"{farthest:.3g} FLOP is {farthest / known.largest_flops:.0f} times the largest run of this fit; "
            "the interval knows nothing of what changes on the way"
        )


def _check_outputs(output: str, plot_file: str | None, force: bool) -> None:
    import os

    for path in (output, plot_file):
        if path not in (None, "-") and os.path.exists(str(path)) and not force:
            raise UsageFault(f"{path} exists; give --force to replace it, or another name")
    if plot_file is not None:
        from gpt2cli.scaling.plots import picture_format

        picture_format(plot_file)


def _draw(record: dict[str, Any], path: str, force: bool, console: Console) -> None:
    from gpt2cli.records.streams import open_output
    from gpt2cli.scaling.plot_fit import draw_fit
    from gpt2cli.scaling.plots import picture_format

    with open_output(path, force=force, binary=True) as stream:
        draw_fit(record, stream, picture_format(path))
    console.note(f"drew {path}")


def _write(kind: str, records: list[dict[str, Any]], output: str, force: bool) -> None:
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output

    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        for record in records:
            writer.write(kind, record)
        if output == "-":
            writer.end()
