"""gpt2 webtext-scrape merge: the outputs of several shares in the order that one run has."""

from __future__ import annotations

import click

from gpt2cli.cli import signals, webtext_options
from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import AnyPath, files_argument, force_option, output_option
from gpt2cli.cli.webtext_outputs import outputs


@click.command("webtext-scrape", cls=Gpt2Command, context_settings=webtext_options.ENVIRONMENT)
@files_argument()
@output_option()
@force_option()
@click.option("--order", type=AnyPath(), metavar="LINKS",
              help="The links in whose order pages or documents are to be; links themselves need none.")
@click.pass_obj
def merge(console: Console, files: tuple[str, ...], output: str, force: bool, order: str | None) -> None:
    """Merge what the shares of a crawl came to, links, pages or documents, into the bytes of one run."""
    from gpt2cli.webtext.scrape import write_lines

    paths = list(files) or ["-"]
    if order == "-" in paths:
        raise click.UsageError("--order and FILE can't both be standard input")
    with outputs(output, None, force, console) as (sink, steps), signals.polled():
        write_lines(sink, steps.merged(paths, order))
