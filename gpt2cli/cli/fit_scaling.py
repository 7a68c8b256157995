"""gpt2 fit-scaling: fit a law to runs, predict with it, and find the optimum of a budget."""

from __future__ import annotations

import math
from typing import Any

import click

from gpt2cli.cli import scaling_batch, scaling_trends
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Amount, OutputPath, Real, files_argument, force_option, output_option, seed_option
from gpt2cli.cli.scaling_compare import compare
from gpt2cli.cli.scaling_inference import inference
from gpt2cli.cli.scaling_optimal import optimal
from gpt2cli.cli.scaling_options import FLOPS_NOTE, write_records
from gpt2cli.cli.scaling_plan import plan
from gpt2cli.cli.scaling_predict import predict
from gpt2cli.cli.verbs import VerbCommand
from gpt2cli.errors import UsageFault

FORM_NAMES = (
    "auto", "chinchilla", "kaplan-n", "kaplan-n-floor", "kaplan-d", "kaplan-d-floor", "kaplan-c", "kaplan-c-floor",
    "kaplan-nd", "kaplan-ns", "skaling", "data-constrained",
)  # fmt: skip
"""Forms that --law knows: those of gpt2cli.scaling.forms, and auto."""


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


@click.command(
    "fit-scaling",
    cls=FitScaling,
    short_help="Fit a scaling law to runs and plan by it.",
    epilog="Other verbs, each with its own --help: predict (the loss at N, D or C), optimal (N and D for a budget), "
    "batch (the critical batch size), stop (when over-fitting asks to), compare (strategies, runs), inference "
    "(training and use together), plan (a ladder for so many minutes, the cost of a run), capability (a metric against "
    "N, D or C), curve (a loss against steps).",
)
@files_argument()
@click.option(
    "--map",
    "mapping",
    metavar="n=COL,d=COL,loss=COL",
    help="Read foreign CSV or JSONL by these columns; also run=, flops=, steps= and unique=COL.",
)
@click.option(
    "--law",
    "form",
    type=click.Choice(FORM_NAMES),
    default="chinchilla",
    show_default=True,
    metavar="FORM",
    help="What to fit: " + ", ".join(FORM_NAMES) + "; auto takes the one that predicts held-out runs best.",
)
@click.option(
    "--unique",
    type=Amount(1),
    metavar="U",
    help="Different tokens that the runs were trained on, for data-constrained.",
)
@click.option(
    "--critical-batch",
    metavar="B_STAR,ALPHA_B",
    help="B_crit = B_STAR/L^(1/ALPHA_B) tokens, by which kaplan-ns counts steps; default 2.1e8,0.21.",
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
    type=Amount(1),
    multiple=True,
    metavar="C",
    help="Budget to allocate, repeatable; default: 10 times the largest run. " + FLOPS_NOTE,
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
@click.option(
    "--allow-undecayed",
    is_flag=True,
    help="Count every evaluation after the warm-up, not only the last of a finished run.",
)
@click.option("--allow-unidentified", is_flag=True, help="Show the numbers of a design that cannot carry a fit.")
@click.option("--plot", "plot_file", metavar="FILE", type=OutputPath(), help="Also draw the fit: .png or .svg.")
@output_option()
@force_option()
@click.pass_obj
def command(
    console: Console,
    files: tuple[str, ...],
    mapping: str | None,
    form: str,
    unique: int | None,
    critical_batch: str | None,
    count: str,
    flops: tuple[int, ...],
    resamples: int,
    delta: float,
    seed: int,
    allow_mixed: bool,
    allow_undecayed: bool,
    allow_unidentified: bool,
    plot_file: str | None,
    output: str,
    force: bool,
) -> None:
    """Fit L = E + A N^-alpha + B D^-beta, or another form of law, to the final losses of runs.

    FILE is a run's metrics.jsonl (several runs may share one); no FILE: standard input. One gpt2.fit record goes to
    standard output, a table for people to standard error.
    """
    from gpt2cli.cli import scaling_tables
    from gpt2cli.scaling.plots import picture_format
    from gpt2cli.scaling.study import FitConfig, run_study

    if plot_file is not None:
        picture_format(plot_file)
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
        allow_undecayed,
        form,
        None if unique is None else float(unique),
        *_critical(critical_batch),
    )
    report = run_study(config, console)
    record = report.record()
    if plot_file is not None:
        _draw(record, plot_file, force, console)
    write_records("gpt2.fit", [record], output, force)
    scaling_tables.show_fit(record)
    for text in report.warnings:
        console.warn(text)


FitScaling.verbs = {
    "predict": predict,
    "optimal": optimal,
    "batch": scaling_batch.batch,
    "stop": scaling_batch.stop,
    "compare": compare,
    "inference": inference,
    "plan": plan,
    "capability": scaling_trends.capability,
    "curve": scaling_trends.curve,
}


def _critical(text: str | None) -> list[Any]:
    from gpt2cli.scaling.kaplan import CriticalBatch

    if text is None:
        return []
    try:
        scale, exponent = (float(part) for part in text.split(","))
    except ValueError:
        scale = exponent = math.nan
    if not (0 < scale < math.inf and 0 < exponent < math.inf):
        raise UsageFault(f"--critical-batch {text!r}: write two positive numbers, B_STAR,ALPHA_B, such as 2.1e8,0.21")
    return [CriticalBatch(scale, exponent)]


def _draw(record: dict[str, Any], path: str, force: bool, console: Console) -> None:
    from gpt2cli.records.streams import open_output
    from gpt2cli.scaling.plot_fit import draw_fit
    from gpt2cli.scaling.plots import picture_format

    with open_output(path, force=force, binary=True) as stream:
        draw_fit(record, stream, picture_format(path))
    console.note(f"drew {path}")
