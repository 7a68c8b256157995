"""gpt2 webtext-scrape links: Reddit dumps and URL lists to the links worth fetching."""

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
@webtext_options.rejects_option
@webtext_options.link_options
@webtext_options.hosts_option
@webtext_options.share_option("of the hosts")
@webtext_options.jobs_option()
@click.pass_obj
def links(console: Console, files: tuple[str, ...], output: str, force: bool, rejects: str | None, jobs: int,
          **options: Any) -> None:
    """Select the links worth fetching from Reddit dumps (RS_2017-10.zst) and URL lists, each once."""
    from gpt2cli.webtext.scrape import write_lines

    config = webtext_options.link_config(**options)
    with outputs(output, rejects, force, console) as (sink, steps):
        write_lines(sink, steps.link_lines(files or ("-",), config, jobs))
