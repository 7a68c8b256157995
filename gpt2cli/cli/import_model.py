"""gpt2 import: other programs' models to a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import AnyPath, NewDirectory, force_option

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console

KINDS = ("openai", "huggingface", "llm.c", "nanogpt")


@click.command("import", cls=Gpt2Command, short_help="Another program's model to a checkpoint.")
@click.argument("path", type=AnyPath())
@click.option("--from", "kind", type=click.Choice(KINDS), default=None,
              help="What PATH holds; told by its content when not given.")
@click.option("--vocab", default=None, type=AnyPath(), metavar="FILE|DIR",
              help="The vocabulary it was trained with; default the one beside it, or GPT-2's where the ids are its.")
@click.option("--allow-pickle", is_flag=True,
              help="Read a pickle of PyTorch's, by its restricted loader; nanoGPT's files are pickles.")
@click.option("-o", "--output", required=True, type=NewDirectory(), metavar="DIR", help="The checkpoint to make.")
@force_option()
@click.pass_obj
def command(console: Console, path: str, kind: str | None, vocab: str | None, allow_pickle: bool, output: str,
            force: bool) -> None:
    """Make a checkpoint of OpenAI's TensorFlow files, a Hugging Face directory, or a model of llm.c or nanoGPT.

    All of it is checked before anything appears under DIR: names, shapes, checksums, and that every number is finite.
    """
    from gpt2cli.interchange.import_model import ImportConfig, import_model

    summary = import_model(ImportConfig(path, output, kind, vocab, allow_pickle, force), console)
    shape = summary.shape
    console.note(f"{summary.directory}: {shape.n_params:,} parameters, {shape.n_layer} layers, {shape.n_head} heads, "
                 f"width {shape.n_embd}, context {shape.n_ctx}, {shape.n_vocab:,} ids")
