"""gpt2 webtext-scrape filter: documents that pass the rules of WebText, and of Gopher and C4 where they are wanted."""

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
@webtext_options.filter_options
@click.option("--show-rules", is_flag=True, help="Write the thresholds of all rules, as --thresholds takes them.")
@webtext_options.share_option("of the files")
@webtext_options.jobs_option()
@click.pass_obj
def filter_verb(console: Console, files: tuple[str, ...], output: str, force: bool, rejects: str | None,
                show_rules: bool, share: tuple[int, int], jobs: int, **options: Any) -> None:
    """Keep the documents that pass every rule: no Wikipedia, English, 128 tokens; on demand Gopher's and C4's rules.

    Documents come as gpt2.document records, or as other people's JSONL with a text field, and keep their order. Each
    is dropped by the first rule it fails.
    """
    from gpt2cli.records.streams import open_output
    from gpt2cli.webtext.rule_set import packaged_rules
    from gpt2cli.webtext.scrape import write_lines
    from gpt2cli.webtext.shards import Share

    if show_rules:
        if files:
            raise click.UsageError("--show-rules reads nothing; leave the files out")
        with open_output(output, force=force) as stream:
            stream.write(packaged_rules().encode())
        return
    paths = list(files) or ["-"]
    if share != (1, 1) and "-" in paths:
        raise click.UsageError("--shard shares out files; standard input is one stream")
    rules = webtext_options.filter_rules(**options)
    with outputs(output, rejects, force, console) as (sink, steps):
        write_lines(sink, steps.filter_lines(Share(*share).of(paths), rules, jobs))
