"""gpt2 webtext-scrape dedup: documents without their duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpt2cli.cli import signals, webtext_options
from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Count, Real, files_argument, force_option, output_option
from gpt2cli.cli.webtext_outputs import outputs

if TYPE_CHECKING:
    from gpt2cli.webtext.dedup import DedupConfig

LEAST_MEMORY = 1 << 20


@click.command("webtext-scrape", cls=Gpt2Command, context_settings=webtext_options.ENVIRONMENT)
@files_argument()
@output_option()
@force_option()
@webtext_options.rejects_option
@webtext_options.dedup_profile_option("--profile")
@click.option("--similarity", type=Real(0, 1), metavar="J",
              help="Jaccard similarity above which two documents are duplicates; default: the profile's.")
@click.option("--memory", type=Count(LEAST_MEMORY), default="256Mi", show_default=True, metavar="BYTES",
              help="Memory to sort in; the rest is sorted on disk.")
@webtext_options.jobs_option()
@click.option("--work", type=click.Path(file_okay=False), metavar="DIR",
              help="Keep what is finished there until the end, so that a stopped run goes on.")
@click.pass_obj
def dedup(console: Console, files: tuple[str, ...], output: str, force: bool, rejects: str | None, dedup_profile: str,
          similarity: float | None, memory: int, jobs: int, work: str | None) -> None:
    """Remove exact and near duplicates; of each set the document with the earliest created_utc, then id, stays."""
    config = _config(dedup_profile, similarity, memory, jobs, work)
    with outputs(output, rejects, force, console) as (sink, steps), signals.polled():
        steps.dedup(files or ("-",), sink, config)


def _config(profile: str, similarity: float | None, memory: int, jobs: int, work: str | None) -> DedupConfig:
    import dataclasses
    from pathlib import Path

    from gpt2cli.webtext.dedup import DedupConfig
    from gpt2cli.webtext.dedup_profiles import DEDUP_PROFILES

    chosen = DEDUP_PROFILES[profile]
    if similarity is not None:
        if not chosen.bands:
            raise click.UsageError("--similarity is for near duplicates, which --profile exact doesn't look for")
        chosen = dataclasses.replace(chosen, similarity=similarity)
    return DedupConfig(chosen, memory, jobs, Path(work) if work is not None else None)
