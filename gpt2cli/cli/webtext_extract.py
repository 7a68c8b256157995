"""gpt2 webtext-scrape extract: pages to the text in them."""

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
@webtext_options.share_option("of the files")
@click.pass_obj
def extract(console: Console, files: tuple[str, ...], output: str, force: bool, rejects: str | None,
            share: tuple[int, int], **options: Any) -> None:
    """Extract the main text of pages as documents, in the order of their links; of one HTML page, as text.

    Pages come as gpt2.page records of a crawl, whose WARC files lie under --work; as WARC files, Common Crawl's for
    one; as JSON lines with html and url; or as one HTML page. No FILE or - is standard input.
    """
    from gpt2cli.records.streams import display_name, open_output
    from gpt2cli.webtext.extract import MAX_PAGE, extract_page, extract_pages
    from gpt2cli.webtext.page import PageBody
    from gpt2cli.webtext.page_inputs import open_pages
    from gpt2cli.webtext.scrape import write_all
    from gpt2cli.webtext.shards import Share

    paths = list(files) or ["-"]
    if share != (1, 1) and "-" in paths:
        raise click.UsageError("--shard shares out files; standard input is one stream")
    config = webtext_options.extract_config(**options)
    with open_pages(Share(*share).of(paths), config.work, MAX_PAGE, console) as pages:
        if isinstance(pages, PageBody):
            if rejects is not None:
                raise click.UsageError("--rejects is for many pages; a single one without text is an error")
            text = extract_page(pages, config, display_name(paths[0]))
            with open_output(output, force=force) as stream:
                stream.write(text.encode() + b"\n")
            return
        with outputs(output, rejects, force, console) as (sink, steps):
            tally = steps.new_tally("extract")
            write_all(sink, "gpt2.document", extract_pages(pages, config, tally, console))
            console.note(tally.line())
