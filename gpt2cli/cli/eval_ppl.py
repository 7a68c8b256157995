"""gpt2 eval-ppl: options to one EvalConfig and one call."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli.beside_published import published_table, two_decimals
from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.exclusion import (
    exclude_overlap_option,
    exclusion_choice,
    lines_of_difference,
    lines_of_exclusion,
    max_overlap_option,
)
from gpt2cli.cli.options import (
    AnyPath,
    Count,
    device_option,
    dtype_option,
    files_argument,
    force_option,
    output_option,
    scored_form_option,
    threads_option,
    windows_batch_option,
)
from gpt2cli.errors import counted

PROTOCOLS = ("sliding", "disjoint", "harness", "hf-docs", "paper-wikitext2", "paper-wikitext103", "paper-ptb",
             "paper-enwik8", "paper-text8", "paper-1bw", "paper-lambada")
DETOKENIZERS = ("none", "wikitext", "ptb", "lambada", "cbt", "1bw")


@click.command("eval-ppl", cls=Gpt2Command, short_help="Perplexity and bits per byte by a named protocol.")
@click.argument("model", required=False, envvar="GPT2_MODEL", metavar="[MODEL]", type=AnyPath())
@files_argument()
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="sliding", show_default=True,
              help="Which windows, beginning and units; each is defined in the man page.")
@click.option("--context", type=Count(1), metavar="TOKENS", help="Longest context; default: all the model has.")
@click.option("--stride", type=Count(1), metavar="TOKENS",
              help="How far each window moves on; default: half of the context.")
@click.option("--bos/--no-bos", default=None,
              help="End-of-text before each document, so that its first token is scored; default: the protocol's.")
@click.option("--detokenizer", type=click.Choice(DETOKENIZERS), default=None,
              help="Undo how a corpus was tokenised before it is scored, line by line; default: the protocol's.")
@click.option("--count-from", type=AnyPath(), metavar="FILE",
              help="Count words, bytes and characters in this file instead of in the evaluated text.")
@click.option("--per-doc", is_flag=True, help="A record of each document too, before the record of all.")
@click.option("--per-token", is_flag=True, help="A record of each scored token too: id, nll, rank, entropy.")
@click.option("--bootstrap", type=Count(1, 1_000_000), metavar="N",
              help="95 % intervals from N resamples of the documents.")
@exclude_overlap_option("documents")
@max_overlap_option()
@click.option("--merge", is_flag=True, help="All arguments are records of pieces, to be made one.")
@scored_form_option()
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]), default=None,
              help="Of a shard set val, the default, or train; of paper-enwik8 and -text8 test, the default, or all.")
@windows_batch_option()
@dtype_option("; bf16 is faster and changes the fifth digit")
@device_option()
@threads_option()
@output_option()
@force_option()
@click.pass_context
def command(
    ctx: click.Context, model: str | None, files: tuple[str, ...], merge: bool, output: str, force: bool, dtype: str,
    device: str, threads: int | None, **given: Any,
) -> None:
    """Score text under MODEL: perplexity per token and per word, bits per byte.

    MODEL is a run, a checkpoint or a Hugging Face GPT-2 directory and always comes first; FILEs are text (a document
    each), documents JSONL, token shards, or one directory made by gpt2 pack. No FILE is standard input, no MODEL the
    newest run under runs/.
    """
    from gpt2cli.evaluation.merge import merge_records
    from gpt2cli.evaluation.perplexity import EvalConfig, evaluate
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output
    from gpt2cli.sampling.open_model import ModelChoice

    console: Console = ctx.obj
    if merge:
        pieces = _pieces(ctx, model, files)
    config = EvalConfig(
        ModelChoice(model, device, dtype, threads), files, given["form"], given["split"], given["protocol"],
        given["context"], given["stride"], given["bos"], given["batch"], given["count_from"], given["per_doc"],
        given["per_token"], given["bootstrap"] or 0, given["detokenizer"],
        exclusion_choice(ctx, given["exclude_overlap"], given["max_overlap"]),
    )
    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        records = (merge_records(pieces, config.bootstrap, console) if merge else
                   evaluate(config, console, writer.write))
        for record in records:
            writer.write("gpt2.eval", record)
        if output == "-":
            writer.end()
    for record in records:
        for line in [*lines_of_exclusion(record), *_summary(record), *lines_of_difference(record)]:
            console.note(line)


def _pieces(ctx: click.Context, model: str | None, files: tuple[str, ...]) -> list[str]:
    """Return the records' files; only what a merge can heed may be given with them."""
    chosen = click.core.ParameterSource.COMMANDLINE
    idle = [name for name in ctx.params if ctx.get_parameter_source(name) == chosen
            and name not in ("model", "files", "merge", "bootstrap", "output", "force", "quiet", "verbose", "config")]
    if idle:
        raise click.UsageError(f"--{idle[0].replace('_', '-')} says nothing to --merge: the records decide", ctx)
    named = [model] if model is not None and ctx.get_parameter_source("model") == chosen else []
    return [*named, *files] or ["-"]


def _summary(record: dict[str, Any]) -> list[str]:
    error = "" if record["stderr"] is None else f" (standard error {record['stderr']:.4f})"
    empty = f", {record['n_empty_documents']:,} of them empty" if record["n_empty_documents"] else ""
    protocol = record["protocol"]
    beside = (published_table(protocol["name"].removeprefix("paper-"), record[record["metric"]], record["metric"],
                              record["published"]) if "published" in record else [])
    return [
        f"perplexity {_number(record['ppl'])} a token, {_number(record['word_ppl'])} a word; "
        f"{_number(record['bits_per_byte'])} bits a byte; {record['nll_nats_per_token']:.4f} nats a token{error}",
        f"{counted(record['n_tokens'], 'token')}, {counted(record['n_words'], 'word')}, "
        f"{counted(record['n_bytes'], 'byte')} in {counted(record['n_documents'], 'document')}{empty}; "
        f"{protocol['name']} windows, context {protocol['context']}, stride {protocol['stride']}",
        *beside,
    ]


def _number(value: float | None) -> str:
    return two_decimals(value) if value is None or value >= 10 else f"{value:.4f}"
