"""gpt2 webtext-scrape dedup: documents without their duplicates."""

from __future__ import annotations

import click

from gpt2cli.cli import webtext_options
from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import files_argument, force_option, output_option
from gpt2cli.cli.webtext_outputs import outputs


@click.command("webtext-scrape", cls=Gpt2Command, context_settings=webtext_options.ENVIRONMENT)
@files_argument()
@output_option()
@force_option()
@webtext_options.rejects_option
@click.pass_obj
def dedup(console: Console, files: tuple[str, ...], output: str, force: bool, rejects: str | None) -> None:
    """Remove documents that are the same as an earlier one."""
    from gpt2cli.webtext.scrape import write_all

    with outputs(output, rejects, force, console) as (sink, steps):
        documents = steps.records(files or ("-",), "gpt2.document")
        write_all(sink, "gpt2.document", steps.dedup(documents))
