"""gpt2 bpe-tokenize: documents or text to a token shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import files_argument, force_option, output_option

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console


@click.command("bpe-tokenize", cls=Gpt2Command, short_help="Documents or text to a token shard.")
@files_argument()
@click.option("--vocab", type=click.Path(), default=None, metavar="FILE|DIR", envvar="GPT2_VOCAB",
              help="Vocabulary; default: $GPT2_VOCAB, else GPT-2's own.")
@click.option("--format", "form", type=click.Choice(["auto", "jsonl", "text"]), default="auto", show_default=True,
              help="What the input is; auto tells by its content.")
@click.option("--source", default=None, metavar="NAME", help="A name for the data, kept in the shard.")
@output_option(help="Write the shard here instead of to standard output; call it NAME.tok.zst.")
@force_option()
@click.pass_obj
def command(console: Console, files: tuple[str, ...], vocab: str | None, form: str, source: str | None,
            output: str, force: bool) -> None:
    """Encode documents (JSONL, zstd or plain) or text files, a document each, as one token shard.

    `<|endoftext|>` inside text is ordinary text; the true end-of-text closes every document.
    """
    from gpt2cli.records.streams import open_output
    from gpt2cli.tokens.tokenize import TokenizeConfig, tokenize_documents

    with open_output(output, force=force, binary=True, as_is=True) as stream:
        summary = tokenize_documents(files, stream, TokenizeConfig(vocab, form, source), console)
    ratio = f", {summary.text_bytes / summary.tokens:.2f} bytes a token" if summary.tokens else ""
    console.note(f"{summary.documents:,} documents, {summary.text_bytes:,} bytes, {summary.tokens:,} tokens{ratio}")
