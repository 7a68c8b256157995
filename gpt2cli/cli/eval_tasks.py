"""gpt2 eval-tasks: options to one TasksConfig and one call."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.exclusion import exclude_overlap_option, exclusion_choice, max_overlap_option
from gpt2cli.cli.options import (
    AnyPath,
    Count,
    device_option,
    dtype_option,
    files_argument,
    force_option,
    output_option,
    threads_option,
)
from gpt2cli.cli.task_table import lines_of_task


@click.command("eval-tasks", cls=Gpt2Command, short_help="Accuracy and more on tasks, few-shot or not.")
@click.argument("model", required=False, envvar="GPT2_MODEL", metavar="[MODEL]", type=AnyPath())
@files_argument("tasks", metavar="[TASK]...")
@click.option("--preset", metavar="NAME",
              help="A task of the GPT-2 paper on data FILEs instead of TASKs, or one made from --seed: see the page.")
@click.option("--num-fewshot", type=Count(0), metavar="N",
              help="Solved examples before each item; default: what the task says.")
@click.option("--limit", type=Count(1), metavar="N", help="Only the first N items of each task.")
@click.option("--summary", is_flag=True, help="Write one record a task, and none an item.")
@click.option("--text", is_flag=True, help="Put what was asked, word for word, into the item records.")
@click.option("--bootstrap", type=Count(0), default=1000, show_default=True, metavar="N",
              help="Resamples for standard errors that have no formula; 0: none.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=1234, show_default=True,
              help="Seed of drawn examples and of the bootstrap.")
@click.option("--batch", type=Count(1), metavar="TOKENS",
              help="Positions computed together, default 8,192: speed and memory, not the result.")
@exclude_overlap_option("items")
@max_overlap_option()
@dtype_option("; bf16 is faster and may change a close choice")
@device_option()
@threads_option()
@output_option()
@force_option()
@click.pass_context
def command(
    ctx: click.Context, model: str | None, tasks: tuple[str, ...], preset: str | None, num_fewshot: int | None,
    limit: int | None, summary: bool, text: bool, bootstrap: int, seed: int, batch: int | None,
    exclude_overlap: str | None, max_overlap: float | None, dtype: str, device: str, threads: int | None, output: str,
    force: bool,
) -> None:
    """Score MODEL on tasks: multiple choice, likelihood, last words, blanks.

    MODEL is a run, a checkpoint or a Hugging Face GPT-2 directory and always comes first; a TASK is a YAML file in
    lm-evaluation-harness's form with local data, or JSONL. No TASK is JSONL from standard input.
    """
    from gpt2cli.evaluation.tasks import BATCH_POSITIONS, TasksConfig, evaluate_tasks
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output
    from gpt2cli.sampling.open_model import ModelChoice

    console: Console = ctx.obj
    config = TasksConfig(
        ModelChoice(model, device, dtype, threads), tasks, limit, num_fewshot, seed, bootstrap,
        batch or BATCH_POSITIONS, text, preset, exclusion_choice(ctx, exclude_overlap, max_overlap),
    )
    done: list[dict[str, Any]] = []
    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        for kind, fields in evaluate_tasks(config, console):
            if kind == "gpt2.task":
                done.append(fields)
            if kind == "gpt2.task" or not summary:
                writer.write(kind, fields)
        if output == "-":
            writer.end()
    for record in done:
        for line in lines_of_task(record):
            console.note(line)
