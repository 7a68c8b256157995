"""gpt2 webtext-scrape: the whole crawl, or the verb of one of its steps."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import click

from gpt2cli.cli import signals, webtext_options
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import files_argument, force_option, output_option
from gpt2cli.cli.verbs import VerbCommand
from gpt2cli.cli.webtext_dedup import dedup
from gpt2cli.cli.webtext_extract import extract
from gpt2cli.cli.webtext_fetch import fetch
from gpt2cli.cli.webtext_filter import filter_verb
from gpt2cli.cli.webtext_links import links
from gpt2cli.cli.webtext_merge import merge
from gpt2cli.cli.webtext_outputs import outputs


class WebtextScrape(VerbCommand):
    """All steps, unless the first argument names one."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Write the steps into the usage line."""
        return [f"[{'|'.join(self.verbs)}]", *super().collect_usage_pieces(ctx)]


WebtextScrape.verbs = {"links": links, "fetch": fetch, "extract": extract, "filter": filter_verb, "dedup": dedup,
                       "merge": merge}


@click.command("webtext-scrape", cls=WebtextScrape, short_help="Reddit links to clean, de-duplicated documents.",
               epilog="The steps, each with its own --help: links, fetch, extract, filter, dedup; merge, for shares.")
@files_argument()
@output_option()
@force_option()
@webtext_options.work_option
@webtext_options.rejects_option
@webtext_options.link_options
@webtext_options.hosts_option
@webtext_options.fetch_options
@webtext_options.extract_options
@webtext_options.filter_options
@webtext_options.dedup_profile_option("--dedup")
@webtext_options.engine_options
@click.pass_obj
def command(console: Console, files: tuple[str, ...], output: str, force: bool, rejects: str | None, engine: str,
            ray_address: str | None, jobs: int | None, **options: Any) -> None:
    """Turn Reddit submissions and URL lists into documents: links, fetch, extract, filter, dedup.

    Without a step all of them run, and a run that was stopped or killed goes on where it was. A FILE is a Reddit dump
    (RS_2017-10.zst) or a list of URLs; a step reads what the step before it wrote. No FILE or - is standard input.
    """
    from gpt2cli.webtext.whole_crawl import scrape

    if ray_address is not None and engine != "ray":
        raise click.UsageError("--ray-address is for --engine ray")
    config = _config(jobs=jobs, **options)
    with outputs(output, rejects, force, console) as (sink, steps), _engine(engine, ray_address, jobs) as workers:
        scrape(files or ("-",), sink, steps.rejects, config, workers, console, shield=signals.polled)


def _engine(name: str, ray_address: str | None, jobs: int | None) -> AbstractContextManager[Any]:
    from gpt2cli.tokens.ordered_pool import usable_cores

    if name == "ray":
        from gpt2cli.webtext.ray_engine import RayEngine

        return RayEngine(ray_address, jobs or usable_cores())
    from gpt2cli.webtext.engines import LocalEngine

    return contextlib.nullcontext(LocalEngine(jobs or usable_cores()))


def _config(*, work: str, host_profile: str, dedup_profile: str, shares: int, **options: Any) -> Any:
    from pathlib import Path

    from gpt2cli.webtext.dedup import DedupConfig
    from gpt2cli.webtext.dedup_profiles import DEDUP_PROFILES
    from gpt2cli.webtext.whole_crawl import CrawlConfig

    linking = {name: options.pop(name) for name in webtext_options.LINK_OPTIONS if name in options}
    extracting = {name: options.pop(name) for name in webtext_options.EXTRACT_OPTIONS}
    filtering = {name: options.pop(name) for name in webtext_options.FILTER_OPTIONS}
    return CrawlConfig(
        work=Path(work),
        links=webtext_options.link_config(host_profile=host_profile, **linking),
        fetch=webtext_options.fetch_config(work=work, host_profile=host_profile, **options),
        extract=webtext_options.extract_config(work=work, **extracting),
        rules=webtext_options.filter_rules(**filtering),
        dedup=DedupConfig(DEDUP_PROFILES[dedup_profile]),
        shares=shares,
    )
