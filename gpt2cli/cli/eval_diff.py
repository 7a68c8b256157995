"""gpt2 eval-diff: options to one DiffConfig and one call."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import AnyPath, Count, Real, force_option, output_option, seed_option


@click.command("eval-diff", cls=Gpt2Command, short_help="Is one evaluation better than another, item by item.")
@click.argument("a", metavar="A", type=AnyPath())
@click.argument("b", metavar="B", type=AnyPath())
@click.option("--bootstrap", type=Count(0, 1_000_000), default=10_000, show_default=True, metavar="N",
              help="Resamples of the pairs behind each interval; 0: no intervals.")
@click.option("--level", type=Real(0, 1, min_open=True, max_open=True), default=0.95, show_default=True,
              metavar="SHARE", help="The intervals' nominal coverage.")
@seed_option("Seed of the resampling.")
@output_option()
@force_option()
@click.pass_obj
def command(
    console: Console, a: str, b: str, bootstrap: int, level: float, seed: int, output: str, force: bool
) -> None:
    """Compare two evaluations of the same data pair by pair: B less A, with errors.

    A and B are records of gpt2 eval-tasks (items), or of gpt2 eval-ppl --per-doc (documents); one may be -.
    """
    from gpt2cli.cli.diff_table import show_differences
    from gpt2cli.evaluation.comparison import DiffConfig, compare
    from gpt2cli.evaluation.paired import Resampling
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output

    records: list[dict[str, Any]]
    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        records = compare(DiffConfig(a, b, Resampling(bootstrap, seed, level)), console)
        for record in records:
            writer.write("gpt2.eval-diff", record)
        if output == "-":
            writer.end()
    show_differences(records, console)
