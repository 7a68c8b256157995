"""gpt2 shard: look into token shards, and pass tokens to and from other programs' formats."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.options import (
    AnyPath,
    Count,
    FormFlag,
    NewDirectory,
    Text,
    files_argument,
    force_option,
    output_option,
)
from gpt2cli.cli.verbs import VerbCommand
from gpt2cli.errors import UsageFault, counted

if TYPE_CHECKING:
    from gpt2cli.cli.console import Console

FORMATS = click.Choice(["llm.c", "nanogpt", "megatron", "parquet"])
_ENVIRONMENT = {"auto_envvar_prefix": "GPT2_SHARD"}


class Shard(VerbCommand):
    """A command that is nothing but its verbs."""


def _complete_verb(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in Shard.verbs if name.startswith(incomplete)]


@click.command(
    "shard",
    cls=Shard,
    short_help="Look into token shards; import and export other formats.",
    epilog="Each verb has its own --help: info (counts, vocabulary, digests), head and cat (documents as ids, text or "
    "JSONL), export and import (llm.c, nanoGPT, Megatron-LM, parquet).",
)
@click.argument("words", nargs=-1, metavar="info|head|cat|export|import [ARGS]...", shell_complete=_complete_verb)
def command(words: tuple[str, ...]) -> None:
    """Look into token shards, or pass their tokens to and from the files of other programs."""
    wrong = f"{words[0]!r} is no verb of gpt2 shard" if words else "a verb is needed"
    raise UsageFault(f"{wrong}: choose info, head, cat, export or import")


@click.command("shard", cls=Gpt2Command, context_settings=_ENVIRONMENT)
@files_argument("paths", "[PATH]...")
@click.option("--json", "as_json", is_flag=True, help="Write gpt2.shard-info/1 records instead of a table.")
@output_option()
@force_option()
def info(paths: tuple[str, ...], as_json: bool, output: str, force: bool) -> None:
    """Say what token shards and shard sets hold: tokens, documents, sizes, vocabulary, digests.

    PATH is a shard, or the directory of a set; without one, standard input. Of a file only header, footer and seek
    table are read; gpt2 verify is what reads and checks it all.
    """
    from gpt2cli.cli.shard_table import table_of
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.shard_info import shard_info
    from gpt2cli.records.streams import open_output

    with open_output(output, force=force) as stream:
        writer = RecordWriter(stream)
        for number, path in enumerate(paths or ("-",)):
            fields = shard_info(path)
            if as_json:
                writer.write("gpt2.shard-info", fields)
            else:
                stream.write((("\n" if number else "") + table_of(fields)).encode("utf-8", "surrogateescape"))
        if as_json and output == "-":
            writer.end()


class DocumentRange(click.ParamType):
    """Which documents: `i:j`, `i:`, `:j` or `i`, counted from 0, j not included."""

    name = "range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int | None]:
        """Return (first, stop), stop None for the end; or fail with a usage error."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d{0,18})(?:(:)(\d{0,18}))?", str(value), re.ASCII)
        if not match or not (match[1] or match[2]):
            self.fail(f"{value!r} is no range of documents; write 10:20, 10:, :20 or 10", param, ctx)
        first = int(match[1] or 0)
        if not match[2]:
            return first, first + 1
        stop = int(match[3]) if match[3] else None
        if stop is not None and stop < first:
            self.fail(f"{value!r} ends before it begins", param, ctx)
        return first, stop


def _show_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--text", "form", flag_value="text", cls=FormFlag,
                     help="Decode: the bytes of the documents, <|endoftext|> between two."),
        click.option("--json", "form", flag_value="json", cls=FormFlag,
                     help="Decode: gpt2.document/1 records, one a line."),
        click.option("--split", type=click.Choice(["train", "val"]), help="Of a shard set, only this split."),
        output_option(),
        force_option(),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command("shard", cls=Gpt2Command, context_settings=_ENVIRONMENT)
@files_argument("paths", "[PATH]...")
@click.option("-n", "--number", type=Count(0), default="10", show_default=True, metavar="N", help="How many documents.")
@_show_options
@click.pass_obj
def head(console: Console, paths: tuple[str, ...], number: int, form: str | None, split: str | None, output: str,
         force: bool) -> None:
    """Show the first documents of shards and shard sets: a line of ids for each, or text, or records.

    No more is read than is shown.
    """
    _show(console, paths, (0, number), form, split, output, force)


@click.command("shard", cls=Gpt2Command, context_settings=_ENVIRONMENT)
@files_argument("paths", "[PATH]...")
@click.option("--documents", "chosen", type=DocumentRange(), default="0:", metavar="I:J",
              help="Documents I up to J, counted from 0 over all PATHs; I:, :J and I are taken too. Default: all.")
@_show_options
@click.pass_obj
def cat(console: Console, paths: tuple[str, ...], chosen: tuple[int, int | None], form: str | None, split: str | None,
        output: str, force: bool) -> None:
    """Write the documents of shards and shard sets: a line of ids for each, or text, or records.

    The text of a single document is its bytes, exactly; of several, --json keeps them apart without loss.
    """
    _show(console, paths, chosen, form, split, output, force)


def _show(console: Console, paths: tuple[str, ...], chosen: tuple[int, int | None], form: str | None,
          split: str | None, output: str, force: bool) -> None:
    from typing import BinaryIO, cast

    from gpt2cli.cli.terminal_text import TerminalText
    from gpt2cli.records.streams import open_output
    from gpt2cli.tokens.show import ShowConfig, show_documents

    config = ShowConfig(form or "ids", *chosen, split)
    watched = output == "-" and sys.stdout.isatty()
    with open_output(output, force=force) as stream:
        shown = TerminalText(stream) if watched and form == "text" else None
        summary = show_documents(paths, cast(BinaryIO, shown) if shown else stream, config, end_record=output == "-")
        if shown is not None:
            shown.finish()
    if not summary.documents and chosen[0]:
        console.warn(f"there is no document {chosen[0]}: they are counted from 0")
    if summary.not_utf8:
        console.warn(f"{summary.not_utf8:,} documents are not UTF-8 (a cut character): their exact bytes are in "
                     "text_base64, their text has U+FFFD")


@click.command("shard", cls=Gpt2Command, context_settings=_ENVIRONMENT)
@files_argument("paths", "[PATH]...")
@click.option("--to", "form", type=FORMATS, required=True, help="Whose files to write.")
@click.option("--name", default="train", show_default=True, metavar="NAME",
              help="What to call the files of shards that are no set; a set's are called by their split.")
@click.option("--shard-tokens", type=Count(1), default=None, metavar="N",
              help="llm.c, parquet: begin a new file after this many tokens; default 100M.")
@click.option("-o", "--output", required=True, type=NewDirectory(), metavar="DIR", help="The directory to make.")
@force_option()
@click.pass_obj
def export(console: Console, paths: tuple[str, ...], form: str, name: str, shard_tokens: int | None, output: str,
           force: bool) -> None:
    """Write shards, or a shard set with both its splits, as the token files of another program.

    The directory appears whole or not at all.
    """
    from gpt2cli.tokens.export_tokens import ExportConfig, export_tokens

    summary = export_tokens(paths, output, ExportConfig(form, name, shard_tokens, force), console)
    more = f" and {len(summary.files) - 4:,} more" if len(summary.files) > 4 else ""
    console.note(f"{counted(summary.documents, 'document')}, {counted(summary.tokens, 'token')} in {output}: "
                 f"{', '.join(summary.files[:4])}{more}")


@click.command("shard", cls=Gpt2Command, context_settings=_ENVIRONMENT)
@files_argument("paths", "[PATH]...")
@click.option("--from", "form", type=FORMATS, required=True, help="Whose files they are.")
@click.option("--vocab", type=AnyPath(), default=None, metavar="FILE|DIR",
              help="The vocabulary of the ids; default: vocabulary.tiktoken beside them, $GPT2_VOCAB, GPT-2's own.")
@click.option("--column", default=None, metavar="NAME",
              help="parquet: the column of ids or text; default: input_ids, tokens or text.")
@click.option("--source", type=Text(), default=None, metavar="NAME",
              help="A name for the data, kept in the shard.")
@output_option(help="Write the shard here instead of to standard output; call it NAME.tok.zst.")
@force_option()
@click.pass_obj
def import_(console: Console, paths: tuple[str, ...], form: str, vocab: str | None, column: str | None,
            source: str | None, output: str, force: bool) -> None:
    """Make a token shard of the token files of another program, or of parquet with text.

    Sizes, pointers and ids are checked; whatever could not be taken as it was is counted and said.
    """
    from gpt2cli.records.streams import open_output
    from gpt2cli.tokens.import_tokens import ImportConfig, import_tokens

    with open_output(output, force=force, binary=True, as_is=True) as stream:
        summary = import_tokens(paths, stream, ImportConfig(form, vocab, source, column), console)
    ratio = f", {summary.text_bytes / summary.tokens:.2f} bytes a token" if summary.tokens else ""
    console.note(f"{counted(summary.documents, 'document')}, {counted(summary.text_bytes, 'byte')}, "
                 f"{counted(summary.tokens, 'token')}{ratio}")


Shard.verbs = {"info": info, "head": head, "cat": cat, "export": export, "import": import_}
