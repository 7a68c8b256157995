"""gpt2 detect show: the ranks of a text's tokens under a model, in the terminal, as a page, as records."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import (
    AnyPath,
    Count,
    OutputPath,
    device_option,
    dtype_option,
    files_argument,
    force_option,
    output_option,
    scored_form_option,
    threads_option,
    windows_batch_option,
)
from gpt2cli.errors import UsageFault


@click.command("detect", cls=Gpt2Command, context_settings={"auto_envvar_prefix": "GPT2_DETECT"})
@click.argument("model", required=False, envvar="GPT2_MODEL", metavar="[MODEL]", type=AnyPath())
@files_argument()
@click.option("--html", type=OutputPath(), default=None, metavar="FILE",
              help="Write a page for a browser, which needs no other file and no network.")
@click.option("--json", "as_json", is_flag=True, help="Write gpt2.gltr/1 records instead of the table.")
@click.option("--top", type=Count(1, 20), default=5, show_default=True, metavar="N",
              help="Likeliest tokens to name at each position.")
@click.option("--max-tokens", type=Count(1), default=20_000, show_default=True, metavar="N",
              help="Most tokens shown of a document, and on a page in all; every token is counted.")
@click.option("--context", type=Count(1), metavar="TOKENS", help="Longest context; default: all the model has.")
@click.option("--stride", type=Count(1), metavar="TOKENS",
              help="How far each window moves on; default: half of the context.")
@scored_form_option()
@click.option("--split", type=click.Choice(["train", "val"]), default=None,
              help="Of a shard set val, the default, or train.")
@windows_batch_option()
@dtype_option("; bf16 is faster and changes the fifth digit")
@device_option()
@threads_option()
@output_option()
@force_option()
@click.pass_obj
def show(
    console: Console, model: str | None, files: tuple[str, ...], html: str | None, as_json: bool, max_tokens: int,
    dtype: str, device: str, threads: int | None, output: str, force: bool, **given: Any,
) -> None:
    """Show how expected each token of a text was to MODEL: its rank, its probability, and the entropy (GLTR).

    On a terminal the text is coloured by rank; elsewhere it is a table, a token a line. MODEL is a run, a checkpoint or
    a Hugging Face GPT-2 directory and always comes first; FILEs are text, documents JSONL or token shards. No FILE is
    standard input, no MODEL the newest run under runs/.
    """
    from gpt2cli.detection.rank_page import PageSink
    from gpt2cli.detection.rank_records import RecordSink
    from gpt2cli.detection.ranks import RankConfig, Sink, rank_texts
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output
    from gpt2cli.sampling.open_model import ModelChoice

    if html == "-":
        raise UsageFault("--html writes a file; name it")
    config = RankConfig(ModelChoice(model, device, dtype, threads), files, given["form"], given["split"],
                        given["context"], given["stride"], given["batch"], given["top"], max_tokens)
    to_stream = as_json or output != "-" or html is None
    with contextlib.ExitStack() as outputs:
        sinks: list[Sink] = []
        writer = None
        if html is not None:
            sinks.append(PageSink(outputs.enter_context(open_output(html, force=force)), max_tokens))
        if to_stream:
            stream = outputs.enter_context(open_output(output, force=force))
            if as_json:
                writer = RecordWriter(stream)
                sinks.append(RecordSink(writer.write))
            else:
                sinks.append(_view(stream, console, on_stdout=output == "-"))
        rank_texts(config, sinks, console)
        if writer is not None and output == "-":
            writer.end()
    if html is not None:
        console.note(f"wrote {html}")


def _view(stream: Any, console: Console, *, on_stdout: bool) -> Any:
    from gpt2cli.cli.rank_table import RankTable
    from gpt2cli.cli.rank_terminal import RankTerminal, has_colours

    return RankTerminal(console) if on_stdout and has_colours() else RankTable(stream)
