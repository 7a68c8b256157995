"""gpt2 fit-scaling predict: the loss of a model, of a data set or of a budget by a law."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Amount, files_argument, force_option, output_option
from gpt2cli.cli.scaling_foretold import beside_runs
from gpt2cli.cli.scaling_options import ENVIRONMENT, law_options, the_law, warn_of_reach, write_records
from gpt2cli.errors import UsageFault


@click.command("fit-scaling", cls=Gpt2Command, context_settings=ENVIRONMENT)
@files_argument()
@law_options
@click.option("--n", "sizes", type=Amount(1), multiple=True, metavar="N", help="Parameters; repeatable, as --d is.")
@click.option("--d", "lengths", type=Amount(1), multiple=True, metavar="D", help="Training tokens.")
@click.option("--flops", type=Amount(1), multiple=True, metavar="C", help="Budget in FLOP, C = 6 N D; repeatable.")
@click.option("--steps", type=Amount(1), multiple=True, metavar="S", help="Steps, for kaplan-ns, with --batch-tokens.")
@click.option("--batch-tokens", type=Amount(1), metavar="B", help="Tokens of a step, with --steps.")
@click.option("--unique-tokens", type=Amount(1), metavar="U", help="How many of the D tokens differ, for muennighoff.")
@output_option()
@force_option()
@click.pass_obj
def predict(
    console: Console, files: tuple[str, ...], law: str | None, fit_file: str | None, sizes: tuple[int, ...],
    lengths: tuple[int, ...], flops: tuple[int, ...], steps: tuple[int, ...], batch_tokens: int | None,
    unique_tokens: int | None, output: str, force: bool,
) -> None:  # fmt: skip
    """Predict the loss at N parameters and D tokens, at one of them alone, or at C FLOP.

    N or D alone: the other without limit. C alone: spent in the best way. N and C: on D = C / (6 N) tokens.
    With FILE (metrics.jsonl, - for stdin) its finished runs are set beside what the law foretells of them.
    """
    from gpt2cli.scaling import answers, study

    if files:
        if sizes or lengths or flops or steps or batch_tokens or unique_tokens:
            raise UsageFault("runs in FILE tell their own N and D: give FILE or numbers, not both")
        beside_runs(console, files, law, fit_file, output, force)
        return
    questions = _questions(sizes, lengths, flops, steps, batch_tokens)
    known = answers.with_unique_tokens(the_law(law, fit_file), unique_tokens)
    records = []
    for n, d, c, s in questions:
        if s is not None and n is not None:
            fields = answers.at_steps(known, n, s, float(batch_tokens or 0))
        elif c is not None and n is None:
            fields = answers.at_compute(known, c)
        else:
            fields = answers.at_size_and_tokens(known, n, c / (6 * n) if c is not None and n is not None else d)
        if unique_tokens is not None:
            fields["unique_tokens"] = float(unique_tokens)
        records.append(study.rounded({"law": known.name, "kind": "prediction", "count": known.count,
                                      "source": known.source, **fields}))  # fmt: skip
    write_records("gpt2.plan", records, output, force)
    _show(known, records)
    warn_of_reach(console, known, records)


_Question = tuple[float | None, float | None, float | None, float | None]


def _questions(
    sizes: tuple[int, ...], lengths: tuple[int, ...], flops: tuple[int, ...], steps: tuple[int, ...], batch: int | None
) -> list[_Question]:
    """Return (n, d, c, s) of each question; raise UsageFault for a combination that asks nothing."""
    given = {"--n": sizes, "--d": lengths, "--flops": flops, "--steps": steps}
    named = {name: values for name, values in given.items() if values}
    asked = tuple(named)
    if asked not in {("--n", "--d"), ("--n",), ("--d",), ("--flops",), ("--n", "--flops"), ("--n", "--steps")}:
        raise UsageFault("predict takes one of --n, --d and --flops, or --n together with --d, --flops or --steps")
    if len({len(values) for values in named.values()}) > 1:
        raise UsageFault(f"{' and '.join(asked)} must be given equally often: they are taken in pairs")
    if bool(steps) != (batch is not None):
        raise UsageFault("--steps and --batch-tokens go together: what a step is worth depends on its batch")
    count = len(next(iter(named.values())))
    columns = [[float(value) for value in values] if values else [None] * count for values in given.values()]
    return [(n, d, c, s) for n, d, c, s in zip(*columns, strict=True)]


def _show(known: Any, records: list[dict[str, Any]]) -> None:
    from gpt2cli.cli.scaling_tables import interval_text, loss_text, short, show

    header = ("", "C in FLOP", "N", "D", "loss", "95 % interval")
    rows = [
        (record["of"], "" if record["flops"] is None else f"{record['flops']:.3g}", _count(record["n"], short),
         _count(record["d"], short), loss_text(record["loss_nats"]),
         interval_text(record.get("loss_nats_interval"), loss_text))
        for record in records
    ]  # fmt: skip
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    show(f"{known.name}: {known.source} (C = 6 N D, N: {known.count} parameters)",
         tuple(header[i] for i in kept), [tuple(row[i] for i in kept) for row in rows])  # fmt: skip


def _count(value: float | None, write: Any) -> str:
    return "" if value is None else str(write(value))
