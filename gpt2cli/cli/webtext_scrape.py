"""gpt2 webtext-scrape: options of the crawl, and which of its steps is wanted."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import click

from gpt2cli.cli import signals
from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Count, Real, files_argument, force_option, output_option

STEPS = ("links", "fetch", "extract", "dedup")


class UtcDate(click.ParamType):
    """A day or moment in UTC: 2018-01-01, 2018-01-01T12:00:00."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds since 1970, or fail with a usage error."""
        if isinstance(value, int):
            return value
        if isinstance(value, datetime.date):  # an unquoted date in a TOML file
            value = value.isoformat()
        try:
            moment = datetime.datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no date; write 2018-01-01", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return int(moment.timestamp())


@click.command("webtext-scrape", cls=Gpt2Command, short_help="Reddit links to clean, de-duplicated documents.")
@files_argument(metavar="[links|fetch|extract|dedup] [FILE]...")
@output_option()
@force_option()
@click.option("--work", type=click.Path(file_okay=False), default="webtext", show_default=True, metavar="DIR",
              help="Where the crawl keeps its state and its WARC files.")
@click.option("--rejects", type=click.Path(), metavar="FILE", help="Write every dropped item and why, as JSONL.")
@click.option("--min-karma", type=int, default=3, show_default=True, metavar="N", help="Least karma of a submission.")
@click.option("--before", type=UtcDate(), default="2018-01-01", show_default=True, metavar="DATE",
              help="Take submissions created before this day (UTC).")
@click.option("--hosts", "host_profile", type=click.Choice(["webtext", "none"]), default="webtext", show_default=True,
              help="Media hosts to leave out; Reddit and Wikipedia always are.")
@click.option("--contact", metavar="URL", help="A page about you or your crawl, told to every server.")
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=64, show_default=True, metavar="N",
              help="URLs in flight at once; one per host.")
@click.option("--host-gap", type=Real(0, 3600), default=1.0, show_default=True, metavar="SECONDS",
              help="Pause between two requests to one host.")
@click.option("--timeout", type=Real(0, 3600, min_open=True), default=30.0, show_default=True,
              metavar="SECONDS", help="Longest time for one URL, redirects included.")
@click.option("--max-bytes", type=Count(1), default="5M", show_default=True, metavar="N",
              help="Largest page, counted after decompression.")
@click.option("--allow-net", "allow_nets", multiple=True, metavar="CIDR",
              help="Lift the address and port rules for this network. May be repeated.")
@click.option("--workers", type=click.IntRange(1, 1024), default=None, metavar="N",
              help="Processes that extract text; default: one per CPU.")
@click.option("--page-timeout", type=Real(0, 3600, min_open=True), default=20.0, show_default=True,
              metavar="SECONDS", help="Longest time to extract one page.")
@click.option("--min-chars", type=Count(), default=200, show_default=True, metavar="N",
              help="Shortest text that is a document, in characters.")
@click.pass_obj
def command(console: Console, files: tuple[str, ...], output: str, force: bool, rejects: str | None,
            **options: Any) -> None:
    """Turn Reddit submissions and URL lists into documents: links, fetch, extract, dedup.

    Without a step all of them run, and a run that was stopped or killed goes on where it was. A FILE is a Reddit dump
    (RS_2017-10.zst) or a list of URLs; a step reads what the step before it wrote. No FILE or - is standard input.
    """
    from gpt2cli.records.jsonl import RecordWriter
    from gpt2cli.records.streams import open_output
    from gpt2cli.webtext.scrape import scrape

    step, paths = split_step(files)
    config = _config(**options)
    with contextlib.ExitStack() as stack:
        sink = RecordWriter(stack.enter_context(open_output(output, force=force)))
        dropped = RecordWriter(stack.enter_context(open_output(rejects, force=force))) if rejects else None
        scrape(step, paths, sink, dropped, config, console, shield=signals.polled)
        if output == "-":
            sink.end()


def split_step(files: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Return (step or None, input paths): the first word is a step when it is named like one (./links is a file)."""
    step = files[0] if files and files[0] in STEPS else None
    paths = files[1:] if step else files
    return step, paths or ("-",)


def _config(*, work: str, min_karma: int, before: int, host_profile: str, contact: str | None, concurrency: int,
            host_gap: float, timeout: float, max_bytes: int, allow_nets: tuple[str, ...], workers: int | None,
            page_timeout: float, min_chars: int) -> Any:
    from pathlib import Path

    from gpt2cli.webtext.address_guard import AddressGuard, parse_network
    from gpt2cli.webtext.extract import ExtractConfig
    from gpt2cli.webtext.fetch import FetchConfig
    from gpt2cli.webtext.links import LinkConfig
    from gpt2cli.webtext.scrape import ScrapeConfig

    if contact is not None and (not contact.startswith(("http://", "https://", "mailto:"))
                                or not contact.isascii() or not contact.isprintable() or " " in contact):
        raise click.UsageError(f"--contact {contact!r} is no http, https or mailto URL")
    guard = AddressGuard(allow=tuple(parse_network(text) for text in allow_nets))
    return ScrapeConfig(
        links=LinkConfig(min_karma, before, host_profile),
        fetch=FetchConfig(Path(work), concurrency, host_gap, timeout, max_bytes, contact=contact,
                          host_profile=host_profile, guard=guard),
        extract=ExtractConfig(Path(work), workers, page_timeout, min_chars),
    )
