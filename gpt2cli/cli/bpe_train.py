"""gpt2 bpe-train: documents to a vocabulary file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import Count, files_argument, force_option, output_option
from gpt2cli.errors import counted

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console


@click.command("bpe-train", cls=Gpt2Command, short_help="Train a byte-level BPE vocabulary.")
@files_argument()
@click.option("--vocab-size", type=Count(257, 1 << 24), required=True, metavar="N",
              help="Size of the vocabulary: 256 bytes, merges and end-of-text together.")
@click.option("--format", "form", type=click.Choice(["auto", "jsonl", "text"]), default="auto", show_default=True,
              help="What the input is; auto tells by its name (.jsonl, .ndjson) or content.")
@output_option(help="Write the vocabulary here instead of to standard output, best as DIR/tokenizer.json; a name in "
                    ".tiktoken gives that form.")
@force_option()
@click.pass_obj
def command(console: Console, files: tuple[str, ...], vocab_size: int, form: str, output: str, force: bool) -> None:
    """Learn merges from documents (JSONL, zstd or plain) or text files, in GPT-2's way.

    The vocabulary is a tokenizer.json: it serves every --vocab, and transformers and tokenizers read it too.
    """
    from gpt2cli.records.streams import open_output
    from gpt2cli.tokens.export_vocabulary import vocabulary_file
    from gpt2cli.tokens.train_merges import MergeConfig, train_vocabulary

    kind = "tiktoken" if output.removesuffix(".zst").endswith(".tiktoken") else "tokenizer.json"
    with open_output(output, force=force) as stream:
        summary = train_vocabulary(files, MergeConfig(vocab_size, form), console)
        stream.write(vocabulary_file(summary.vocabulary, kind))
    console.note(f"{summary.vocabulary.n_vocab:,} ids learned from {counted(summary.documents, 'document')}, "
                 f"{summary.text_bytes:,} bytes")
