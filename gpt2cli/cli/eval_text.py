"""gpt2 eval-text: options to one QualityConfig and one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import (
    AnyPath,
    Count,
    Real,
    device_option,
    dtype_option,
    files_argument,
    force_option,
    output_option,
    seed_option,
    threads_option,
)
from gpt2cli.errors import UsageFault

if TYPE_CHECKING:
    from gpt2cli.sampling.open_model import ModelChoice

NEEDS = {"pair": "references", "context": "model", "stride": "model", "dtype": "model", "device": "model",
         "threads": "model"}
"""Options that say nothing without another."""


@click.command("eval-text", cls=Gpt2Command, short_help="Quality of generated text: diversity, repetition, likeness.")
@files_argument()
@click.option("--against", multiple=True, type=AnyPath(), metavar="FILE",
              help="A second set, such as what people wrote: the same measures, and the difference. May be repeated.")
@click.option("--references", multiple=True, type=AnyPath(), metavar="FILE",
              help="What the texts should have been: BLEU and ROUGE against them. May be repeated.")
@click.option("--pair", default="position", show_default=True, metavar="position|FIELD",
              help="What pairs texts and references: their place, or a field that both have, such as id.")
@click.option("--model", type=AnyPath(), metavar="MODEL", help="Perplexity under this model too.")
@click.option("--part", type=click.Choice(["continuation", "whole"]), default="continuation", show_default=True,
              help="What of a gpt2.sample/1 record is measured: its text, or its prompt and its text.")
@click.option("--format", "form", type=click.Choice(["auto", "text", "jsonl"]), default="auto", show_default=True,
              help="What the inputs are; auto tells by name (.jsonl, .ndjson) or content.")
@click.option("--lines", is_flag=True, help="Each line of plain text is a document; default: each file.")
@click.option("--unit", type=click.Choice(["word", "token"]), default="word", show_default=True,
              help="What n-grams are made of.")
@click.option("--vocab", type=AnyPath(), metavar="FILE|DIR", help="Vocabulary of --unit token; default GPT-2's.")
@click.option("--distinct-at", type=Count(1), default=1000, show_default=True, metavar="N",
              help="N-grams at which distinct-n is compared whatever the texts' size.")
@click.option("--zipf-ranks", type=Count(2), default=5000, show_default=True, metavar="N",
              help="Most frequent units that the Zipf coefficient is fitted to.")
@click.option("--self-bleu", type=Count(0), default=100, show_default=True, metavar="N",
              help="References of each document in self-BLEU, drawn by seed; 0 leaves it out.")
@click.option("--per-doc", is_flag=True, help="A record of each document too, before that of its set.")
@click.option("--bootstrap", type=Count(20, 1_000_000), default=1000, show_default=True, metavar="N",
              help="Resamples of the documents behind an interval.")
@click.option("--level", type=Real(0, 1, min_open=True, max_open=True), default=0.95, show_default=True,
              metavar="SHARE", help="The intervals' nominal coverage.")
@click.option("--context", type=Count(1), metavar="TOKENS", help="Longest context of --model; default: all it has.")
@click.option("--stride", type=Count(1), metavar="TOKENS",
              help="How far each of its windows moves on; default: half of the context.")
@seed_option("Seed of resamples and of self-BLEU's references.")
@dtype_option()
@device_option()
@threads_option()
@output_option()
@force_option()
@click.pass_context
def command(ctx: click.Context, output: str, force: bool, **given: Any) -> None:
    """Measure generated text, one set of documents, with standard errors.

    FILEs are records of gpt2 sample --json, documents JSONL or text (a document each); no FILE is standard input.
    """
    _check(ctx, given)
    from gpt2cli.cli.quality_table import show_quality
    from gpt2cli.quality.documents import TextSource
    from gpt2cli.quality.evaluate import WHOLE, QualityConfig, evaluate_texts
    from gpt2cli.quality.measures import Settings
    from gpt2cli.quality.uncertainty import Resampling
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output

    console: Console = ctx.obj
    source = TextSource(given["files"], given["form"], given["lines"], given["part"] == WHOLE)
    settings = Settings(given["distinct_at"], given["zipf_ranks"], given["self_bleu"],
                        Resampling(given["bootstrap"], given["seed"], given["level"]))
    config = QualityConfig(source, given["references"], given["against"], given["pair"], given["unit"], given["vocab"],
                           _model(given), given["context"], given["stride"], settings, given["per_doc"])
    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        summary = evaluate_texts(config, console, writer.write)
        if output == "-":
            writer.end()
    show_quality(summary, console)


def _model(given: dict[str, Any]) -> ModelChoice | None:
    if given["model"] is None:
        return None
    from gpt2cli.sampling.open_model import ModelChoice

    return ModelChoice(given["model"], given["device"], given["dtype"], given["threads"])


def _check(ctx: click.Context, given: dict[str, Any]) -> None:
    chosen = click.core.ParameterSource.COMMANDLINE
    for name, needed in NEEDS.items():
        if ctx.get_parameter_source(name) == chosen and not given[needed]:
            raise UsageFault(f"--{name} says nothing without --{needed}")
    if given["vocab"] is not None and given["unit"] != "token":
        raise UsageFault("--vocab says nothing without --unit token")
    if not given["pair"]:
        raise UsageFault("--pair needs the name of a field, or position")
    if given["lines"] and given["form"] == "jsonl":
        raise UsageFault("--lines is of plain text; each JSONL record is a document anyway")
