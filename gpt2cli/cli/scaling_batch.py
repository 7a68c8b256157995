"""gpt2 fit-scaling batch and stop: the critical batch size, and the step before which a run should not stop."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Amount, Real, files_argument, force_option, output_option
from gpt2cli.cli.scaling_options import ENVIRONMENT, law_options, the_law, write_records
from gpt2cli.errors import UsageFault

_BATCH_SOURCE = "Kaplan et al. 2020, eq. 1.4 (arXiv 2001.08361)"
_NOISE_SOURCE = "gradient noise scale, McCandlish et al. 2018 (arXiv 1812.06162)"


@click.command("fit-scaling", cls=Gpt2Command, context_settings=ENVIRONMENT)
@files_argument()
@click.option("--loss", "losses", type=Real(0, 100, min_open=True), multiple=True, metavar="L",
              help="Loss in nats a token at which to ask Kaplan's law; repeatable.")
@click.option("--batch-tokens", "batches", type=Amount(1), multiple=True, metavar="B",
              help="Also what a batch of B tokens costs in steps and in tokens; repeatable.")
@click.option("--half-life", type=Real(0, 1e9, min_open=True), metavar="N",
              help="Of the moving averages, in measurements; default a twentieth of those so far, 1 to 100.")
@output_option()
@force_option()
@click.pass_obj
def batch(
    console: Console, files: tuple[str, ...], losses: tuple[float, ...], batches: tuple[int, ...],
    half_life: float | None, output: str, force: bool,
) -> None:  # fmt: skip
    """Tell the critical batch size, by Kaplan's law at a loss, or from the gradient noise that runs measured.

    With --loss the law answers. Without it FILE (none: standard input) holds gpt2.step records that measured the noise.
    """
    from gpt2cli.scaling import critical_batch, study
    from gpt2cli.scaling.kaplan import CRITICAL_BATCH

    if losses and files:
        raise UsageFault("--loss asks Kaplan's law, FILE a measurement: give one of them")
    found: list[dict[str, Any]] = [
        {"law": "kaplan", "flops": None, "kind": "critical-batch", "source": _BATCH_SOURCE, "loss_nats": loss,
         "critical_batch_tokens": float(CRITICAL_BATCH.at(loss))}
        for loss in losses
    ] or [
        {"law": "noise-scale", "flops": None, "kind": "critical-batch", "source": _NOISE_SOURCE, "run": one.run,
         "step": one.step, "loss_nats": one.loss, "measurements": one.measurements,
         "noise_trace": one.trace, "gradient_squared": one.gradient_squared,
         "critical_batch_tokens": one.noise_scale}
        for one in critical_batch.measured(files or ("-",), half_life, console)
    ]  # fmt: skip
    records = []
    for record in found:
        critical = record["critical_batch_tokens"]
        costs = [critical_batch.cost(float(size), critical) for size in batches] if critical else []
        record["batches"] = [{"batch_tokens": one.batch, "steps_factor": one.steps_factor,
                              "tokens_factor": one.tokens_factor} for one in costs]  # fmt: skip
        records.append(study.rounded(record))
    write_records("gpt2.plan", records, output, force)
    _show_batches(records)
    for record in records:
        if record["critical_batch_tokens"] is None:
            console.warn(f"run {record['run']!r}: the gradient drowned in its noise, so there is no ratio; "
                         "measure more steps, or with larger batches" if "run" in record else
                         f"the law gives no batch for a loss of {record['loss_nats']:g} nats")  # fmt: skip


def _show_batches(records: list[dict[str, Any]]) -> None:
    from gpt2cli.cli.scaling_tables import loss_text, short, show

    rows = []
    for record in records:
        critical = record["critical_batch_tokens"]
        head = (record.get("run", ""), loss_text(record["loss_nats"]), short(critical))
        rows += [(*head, "", "", "")] if not record["batches"] else [
            (*head, short(one["batch_tokens"]), f"{one['steps_factor']:.3g}", f"{one['tokens_factor']:.3g}")
            for one in record["batches"]
        ]  # fmt: skip
    header = ("run", "loss", "B_crit in tokens", "batch", "times the fewest steps", "times the fewest tokens")
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    show(f"Critical batch size: {records[0]['source']}", tuple(header[i] for i in kept),
         [tuple(row[i] for i in kept) for row in rows])  # fmt: skip


@click.command("fit-scaling", cls=Gpt2Command, context_settings=ENVIRONMENT)
@law_options
@click.option("--n", "size", type=Amount(1), required=True, metavar="N", help="Parameters.")
@click.option("--d", "tokens", type=Amount(1), required=True, metavar="D", help="Tokens of the data set.")
@click.option("--batch-tokens", type=Amount(1), metavar="B", help="Tokens of a step; default: the critical batch size.")
@output_option()
@force_option()
@click.pass_obj
def stop(
    console: Console, law: str | None, fit_file: str | None, size: int, tokens: int, batch_tokens: int | None,
    output: str, force: bool,
) -> None:  # fmt: skip
    """Bound the step at which over-fitting asks N parameters on D tokens to stop (Kaplan et al. 2020, eq. 5.7).

    L(N, D) is by kaplan-t2 unless another law is named; the constants of the learning curve are Kaplan's.
    """
    from gpt2cli.scaling import study
    from gpt2cli.scaling.answers import of_n_and_d
    from gpt2cli.scaling.early_stopping import early_stop
    from gpt2cli.scaling.resampled_answers import stop_intervals

    known = the_law(law, fit_file, default="kaplan-t2")
    batch = None if batch_tokens is None else float(batch_tokens)
    found = early_stop(of_n_and_d(known), float(size), float(tokens), batch)
    record = study.rounded({
        "law": known.name, "flops": 6.0 * size * found.tokens, "kind": "early-stop", "count": known.count,
        "source": known.source, "n": float(size), "d": float(tokens), "loss_nats": found.loss,
        "loss_nats_infinite_data": found.loss_infinite, "gap_nats": found.gap, "s_min": found.s_min,
        "batch_tokens": found.batch, "steps": found.steps, "tokens": found.tokens, "epochs": found.epochs,
        "ample_tokens": found.ample_tokens,
        **({} if known.boot is None else stop_intervals(known.boot, float(size), float(tokens), batch)),
    })  # fmt: skip
    write_records("gpt2.plan", [record], output, force)
    _show_stop(known, found, record)


def _show_stop(known: Any, found: Any, record: dict[str, Any]) -> None:
    from gpt2cli.cli.scaling_tables import interval_text, loss_text, short, show

    def whole(value: float) -> str:
        return f"{value:,.0f}"

    rows = [
        ("loss at N and D", loss_text(found.loss), "loss_nats", loss_text),
        ("loss without limit of data", loss_text(found.loss_infinite), "loss_nats_infinite_data", loss_text),
        ("steps of a very large batch", whole(found.s_min), "s_min", whole),
        (f"steps of {short(found.batch)} tokens", whole(found.steps), "steps", whole),
        ("tokens until then", f"{short(found.tokens)}, {found.epochs:.3g} passes over D", "tokens", short),
        ("over-fitting costs little from", f"D = {short(found.ample_tokens)} (5e3 N^.74)", "", short),
    ]  # fmt: skip
    title = f"No earlier stop than this ({known.name}, N: {known.count} parameters; eq. 5.7 of arXiv 2001.08361)"
    width = 2 if known.boot is None else 3
    show(title, ("", "", "95 % interval")[:width],
         [(name, text, interval_text(record.get(f"{field}_interval"), write))[:width]
          for name, text, field, write in rows])  # fmt: skip
