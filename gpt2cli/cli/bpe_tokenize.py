"""gpt2 bpe-tokenize: documents or text to a token shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import AnyPath, Text, Whole, files_argument, force_option, output_option
from gpt2cli.errors import counted

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console


@click.command("bpe-tokenize", cls=Gpt2Command, short_help="Documents or text to a token shard.")
@files_argument()
@click.option("--vocab", type=AnyPath(), default=None, metavar="FILE|DIR", envvar="GPT2_VOCAB",
              help="Vocabulary; default: $GPT2_VOCAB, else GPT-2's own.")
@click.option("--format", "form", type=click.Choice(["auto", "jsonl", "text"]), default="auto", show_default=True,
              help="What the input is; auto tells by its name (.jsonl, .ndjson) or content.")
@click.option("--split-on", type=Text(), default=None, metavar="STRING",
              help="Cut plain text into documents at every STRING, such as '<|endoftext|>'; implies --format text.")
@click.option("-j", "--jobs", type=Whole(1, 4096), default=None, metavar="N",
              help="Processes that encode; default: the cores, at most 4. The bytes are the same.")
@click.option("--strict", is_flag=True, help="Fail when a record would be skipped or text replaced.")
@click.option("--source", type=Text(), default=None, metavar="NAME",
              help="A name for the data, kept in the shard.")
@output_option(help="Write the shard here instead of to standard output; call it NAME.tok.zst.")
@force_option()
@click.pass_obj
def command(console: Console, files: tuple[str, ...], vocab: str | None, form: str, split_on: str | None,
            jobs: int | None, strict: bool, source: str | None, output: str, force: bool) -> None:
    """Encode documents (JSONL, zstd or plain), text files, a document each, or directories of them as one token shard.

    `<|endoftext|>` inside text is ordinary text; the true end-of-text closes every document.
    """
    from gpt2cli.records.streams import open_output
    from gpt2cli.tokens.ordered_pool import usable_cores
    from gpt2cli.tokens.tokenize import DEFAULT_JOBS, TokenizeConfig, tokenize_documents

    config = TokenizeConfig(vocab, form, source, split_on, jobs or min(usable_cores(), DEFAULT_JOBS), strict)
    with open_output(output, force=force, binary=True, as_is=True) as stream:
        summary = tokenize_documents(files, stream, config, console)
    ratio = f", {summary.text_bytes / summary.tokens:.2f} bytes a token" if summary.tokens else ""
    console.note(f"{counted(summary.documents, 'document')}, {counted(summary.text_bytes, 'byte')}, "
                 f"{counted(summary.tokens, 'token')}{ratio}")
