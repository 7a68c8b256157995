"""gpt2 webtext-scrape fetch: links to pages in WARC files."""

from __future__ import annotations

from typing import Any

import click

from gpt2cli.cli import signals, webtext_options
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
@webtext_options.hosts_option
@webtext_options.fetch_options
@webtext_options.share_option("of the hosts")
@click.pass_obj
def fetch(console: Console, files: tuple[str, ...], output: str, force: bool, rejects: str | None,
          share: tuple[int, int], **options: Any) -> None:
    """Fetch links (gpt2.link) into WARC files, and say of each what became of it (gpt2.page)."""
    from gpt2cli.webtext.scrape import write_all
    from gpt2cli.webtext.shards import Share

    config = webtext_options.fetch_config(**options)
    with outputs(output, rejects, force, console) as (sink, steps):
        links = steps.read_links(files or ("-",), Share(*share))
        with signals.polled():
            write_all(sink, "gpt2.page", steps.fetch(links, config))
