"""gpt2 webtext-scrape extract: fetched pages to the text in them."""

from __future__ import annotations

from typing import Any

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
@webtext_options.work_option
@webtext_options.rejects_option
@webtext_options.extract_options
@click.pass_obj
def extract(console: Console, files: tuple[str, ...], output: str, force: bool, rejects: str | None,
            **options: Any) -> None:
    """Extract the main text of fetched pages (gpt2.page) as documents, in the order of their links."""
    from gpt2cli.webtext.scrape import write_all

    config = webtext_options.extract_config(**options)
    with outputs(output, rejects, force, console) as (sink, steps):
        pages = steps.records(files or ("-",), "gpt2.page")
        write_all(sink, "gpt2.document", steps.extract(pages, config))
