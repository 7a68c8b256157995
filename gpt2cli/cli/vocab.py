"""gpt2 vocab: what a vocabulary is, and the files that other tools want of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import AnyPath, OutputPath, force_option, output_option
from gpt2cli.cli.output_checks import check_file_name
from gpt2cli.errors import UsageFault

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console

FILES = ("tokenizer.json", "tiktoken", "vocab.bpe", "encoder.json")
DIRECTORIES = ("hf", "cache-dir")


class IdList(click.ParamType):
    """Ids with commas or spaces between them: 15496,995."""

    name = "ids"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the ids, or fail with a usage error."""
        if isinstance(value, tuple):
            return value
        words = str(value).replace(",", " ").split()
        if not words or not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
            self.fail(f"{value!r} is no list of ids; write 15496,995", param, ctx)
        return tuple(map(int, words))


@click.command("vocab", cls=Gpt2Command, short_help="Describe a vocabulary, or export it for other tools.")
@click.option("--vocab", default=None, type=AnyPath(), metavar="FILE|DIR",
              help="The vocabulary: tokenizer.json, *.tiktoken, vocab.bpe, merges.txt or a directory with one; "
                   "default GPT-2's own.")
@click.option("--export", "kind", type=click.Choice([*FILES, *DIRECTORIES]), default=None,
              help="Write it in this form; hf and cache-dir are directories.")
@click.option("--text", default=None, metavar="TEXT", help="Show the tokens of this text, one a line.")
@click.option("--ids", type=IdList(), default=None, metavar="ID,...", help="Show the tokens of these ids, one a line.")
@output_option(metavar="FILE|DIR", type=OutputPath(directory=True))
@force_option()
@click.pass_obj
def command(console: Console, vocab: str | None, kind: str | None, text: str | None, ids: tuple[int, ...] | None,
            output: str, force: bool) -> None:
    """Tell what a vocabulary is; or its tokens of a text or of ids; or export it.

    Without --vocab: $GPT2_VOCAB, else GPT-2's own, which is built in and needs no network.
    """
    if sum(choice is not None for choice in (kind, text, ids)) > 1:
        raise UsageFault("--export, --text and --ids are different questions; ask one")
    if kind in DIRECTORIES and output == "-":
        raise UsageFault(f"--export {kind} makes a directory; name it with -o DIR")
    if kind not in DIRECTORIES:
        check_file_name(output)
    from gpt2cli.records.streams import open_output
    from gpt2cli.tokens.describe_vocabulary import tokens_of_ids, tokens_of_text, vocabulary_facts
    from gpt2cli.tokens.export_vocabulary import export_directory, vocabulary_file
    from gpt2cli.tokens.vocabulary import load_vocabulary, vocabulary_source

    vocabulary = load_vocabulary(vocab)
    if kind in DIRECTORIES:
        names = export_directory(vocabulary, kind, output, force=force)
        console.note(f"{output}: {', '.join(names)}")
        return
    if kind is not None:
        data = vocabulary_file(vocabulary, kind)
    elif text is not None:
        data = "".join(f"{number}\t{token}\n" for number, token in tokens_of_text(vocabulary, text)).encode()
    elif ids is not None:
        data = "".join(f"{number}\t{token}\n" for number, token in tokens_of_ids(vocabulary, ids)).encode()
    else:
        facts = vocabulary_facts(vocabulary, vocabulary_source(vocab))
        data = "".join(f"{name:<22}{value}\n" for name, value in facts).encode("utf-8", "surrogateescape")
    with open_output(output, force=force) as stream:
        stream.write(data)
