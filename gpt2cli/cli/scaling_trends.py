"""gpt2 fit-scaling capability and curve: a metric against N, D or C, and a run's loss against its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Amount, Real, Whole, files_argument, force_option, output_option, seed_option
from gpt2cli.cli.scaling_options import ENVIRONMENT, write_records
from gpt2cli.errors import BadInput, UsageFault

_AXES = {"n": "N", "d": "D", "c": "C"}


@click.command("fit-scaling", cls=Gpt2Command, context_settings=ENVIRONMENT)
@files_argument()
@click.option("--against", type=click.Choice(["n", "d", "c"]), default="n", show_default=True,
              help="Parameters, tokens, or FLOP.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric; repeatable.")
@click.option("--form", type=click.Choice(["logistic", "power"]),
              help="Default: logistic for shares of items, power for losses and perplexities.")
@click.option("--floor", type=Real(), default=0.0, show_default=True, metavar="X",
              help="What guessing gives, such as 0.25 of four choices: where a logistic begins.")
@click.option("--ceiling", type=Real(), default=1.0, show_default=True, metavar="X", help="Where a logistic ends.")
@click.option("--at", "wanted", type=Amount(1), multiple=True, metavar="X", help="Answer for this x; repeatable.")
@click.option("--bootstrap", "resamples", type=Whole(0, 100_000), default=200, show_default=True, metavar="N",
              help="Resamples for the 95 % intervals; 0: none.")
@seed_option("Seed of the resamples.")
@output_option()
@force_option()
@click.pass_obj
def capability(
    console: Console, files: tuple[str, ...], against: str, metrics: tuple[str, ...], form: str | None, floor: float,
    ceiling: float, wanted: tuple[int, ...], resamples: int, seed: int, output: str, force: bool,
) -> None:  # fmt: skip
    """Fit what models can do against their size, data or compute, task by task.

    FILE holds gpt2.task and gpt2.eval records of several models (gpt2 eval-tasks, gpt2 eval-ppl), or is a run
    directory; none: standard input.
    """
    from gpt2cli.scaling.capabilities import panels
    from gpt2cli.scaling.capability_fit import fit_series
    from gpt2cli.scaling.curves import read_drawable

    if not floor < ceiling:
        raise UsageFault(f"--floor {floor:g} is not below --ceiling {ceiling:g}")
    found = read_drawable(files or ("-",), console)
    sizes = {curve.run: curve.n_params for curve in found.curves if curve.n_params is not None}
    series = [each for panel in panels(found.final_evaluations(), found.tasks, sizes, metrics) for each in panel.series]
    limits = floor, ceiling
    fits, said = _fit_each(series, lambda each: fit_series(each, against, form, limits, wanted, resamples, seed))
    write_records("gpt2.fit", [_capability_record(fit, seed, resamples) for fit in fits], output, force)
    _show_capability(fits, against)
    for text in said:
        console.warn(text)


def _fit_each(items: Iterable[Any], fit: Callable[[Any], Any]) -> tuple[list[Any], list[str]]:
    """Return the fits of what can be fitted, and once each why the others cannot and what the fits warn of.

    Raises BadInput with the first reason when there is no fit.
    """
    fits, left = [], []
    for item in items:
        try:
            fits.append(fit(item))
        except BadInput as error:
            left.append(str(error))
    if not fits:
        raise BadInput(left[0])
    return fits, list(dict.fromkeys([*left, *(text for found in fits for text in found.warnings)]))


def _capability_record(fit: Any, seed: int, resamples: int) -> dict[str, Any]:
    from gpt2cli.scaling.capability_fit import FORMS
    from gpt2cli.scaling.separable import LEVEL
    from gpt2cli.scaling.study import rounded

    return dict(rounded({
        "law": fit.form, "kind": "capability", "parameters": fit.parameters, "intervals": fit.intervals, "level": LEVEL,
        "form": FORMS[fit.form], "label": fit.label, "metric": fit.metric, "variable": fit.variable,
        "bootstrap": {"drawn": resamples, "used": resamples, "seed": seed, "method": "noise of the standard errors"},
        "n_observations": len(fit.points), "warnings": list(fit.warnings),
        "answers": [{"x": one.x, "value": one.value, "interval": one.interval} for one in fit.answers],
        "points": [{"run": run, "x": x, "value": value, "stderr": error, "fitted": fitted}
                   for (run, x, value, error), fitted in zip(fit.points, fit.fitted, strict=True)],
    }))  # fmt: skip


def _show_capability(fits: list[Any], against: str) -> None:
    from gpt2cli.cli.scaling_tables import interval_text, short, show

    def plain(value: float) -> str:
        return f"{value:.4g}"

    rows = []
    for fit in fits:
        words = ", ".join(f"{name} {short(value) if name == 'x_half' else plain(value)}"
                          for name, value in fit.parameters.items() if name not in ("floor", "ceiling"))
        rows.append((fit.label, fit.metric, fit.form, words, "", "", ""))
        rows += [("", "", "", "", f"{_AXES[against]} = {short(one.x)}", plain(one.value),
                  interval_text(one.interval, plain)) for one in fit.answers]  # fmt: skip
    header = ("", "metric", "form", "parameters", "at", "value", "95 % interval")
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    show(f"Metrics against {_AXES[against]}", tuple(header[i] for i in kept),
         [tuple(row[i] for i in kept) for row in rows])  # fmt: skip


@click.command("fit-scaling", cls=Gpt2Command, context_settings=ENVIRONMENT)
@files_argument()
@click.option("--split", type=click.Choice(["val", "train"]), default="val", show_default=True,
              help="Validation losses, or the training loss of every step.")
@click.option("--x", "axis", type=click.Choice(["steps", "tokens", "flops"]), default="steps", show_default=True,
              help="What the loss is a function of.")
@click.option("--form", type=click.Choice(["power", "exponential"]),
              help="Default: the one that the last fifth of the curve, held out, speaks for.")
@click.option("--at", "wanted", type=Amount(1), multiple=True, metavar="X", help="Answer for this x; repeatable.")
@click.option("--bootstrap", "resamples", type=Whole(0, 100_000), default=200, show_default=True, metavar="N",
              help="Resamples of the residuals, for 95 % intervals; 0: none.")
@seed_option("Seed of the resamples.")
@output_option()
@force_option()
@click.pass_obj
def curve(
    console: Console, files: tuple[str, ...], split: str, axis: str, form: str | None, wanted: tuple[int, ...],
    resamples: int, seed: int, output: str, force: bool,
) -> None:  # fmt: skip
    """Fit the loss of runs against their steps: a power law with an offset, or an exponential.

    FILE is a run directory or metrics.jsonl; none: standard input. Warns of curves
    that rise: over-fitting, double descent.
    """
    from gpt2cli.scaling.curve_fit import fit_curve
    from gpt2cli.scaling.curves import read_drawable

    runs = read_drawable(files or ("-",), console).curves
    if not runs:
        raise BadInput("no run with losses here; give metrics.jsonl files or run directories")
    fits, said = _fit_each(runs, lambda run: fit_curve(run, split, axis, form, wanted, resamples, seed))
    write_records("gpt2.fit", [_curve_record(fit, split, axis, resamples, seed) for fit in fits], output, force)
    _show_curves(fits, axis)
    for text in said:
        console.warn(text)


def _curve_record(fit: Any, split: str, axis: str, resamples: int, seed: int) -> dict[str, Any]:
    from gpt2cli.scaling.curve_fit import FORMS
    from gpt2cli.scaling.separable import LEVEL
    from gpt2cli.scaling.study import rounded

    shape = fit.shape
    return dict(rounded({
        "law": fit.form, "kind": "curve", "parameters": fit.parameters, "form": FORMS[fit.form], "run": fit.run,
        "split": split, "variable": axis, "n_observations": fit.points, "x_range": list(fit.x_range),
        "rms_log_residual": fit.rms, "holdout_errors": fit.holdout, "warnings": list(fit.warnings),
        "intervals": fit.intervals, "level": LEVEL,
        "bootstrap": {"drawn": resamples, "used": resamples, "seed": seed, "method": "residuals in blocks"},
        "answers": [{"x": one.x, "value": one.value, "interval": one.interval} for one in fit.answers],
        "shape": None if shape is None else {
            "x_lowest": shape.x_lowest, "loss_lowest": shape.loss_lowest, "rise": shape.rise,
            "double_descent": shape.double_descent, "overfitting": shape.overfitting},
    }))  # fmt: skip


def _show_curves(fits: list[Any], axis: str) -> None:
    from gpt2cli.cli.scaling_tables import filled, interval_text, loss_text, short, show

    rows = []
    for fit in fits:
        words = ", ".join(f"{name} {value:.4g}" for name, value in fit.parameters.items())
        errors = ", ".join(f"{name} {100 * value:.2g} %" for name, value in fit.holdout.items())
        rows.append((fit.run, fit.form, words, f"{100 * fit.rms:.2g} %", errors, "", "", ""))
        rows += [("", "", "", "", "", short(one.x), loss_text(one.value), interval_text(one.interval, loss_text))
                 for one in fit.answers]  # fmt: skip
    header = ("run", "form", "parameters", "residuals", "error on the last fifth, held out", "at", "loss",
              "95 % interval")  # fmt: skip
    show(f"Loss against {axis}", *filled(header, rows))
