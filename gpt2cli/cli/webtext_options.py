"""Options that the steps of webtext-scrape and the whole of it share."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import click

from gpt2cli.cli.options import Count, Real, Whole

ENVIRONMENT = {"auto_envvar_prefix": "GPT2_WEBTEXT_SCRAPE"}
HOST_PROFILES = ("webtext", "openwebtext", "none")
"""Names of gpt2cli.webtext.hosts.PROFILES."""
Decorator = Callable[[Any], Any]


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


def together(*options: Decorator) -> Decorator:
    """Return one decorator that adds `options`, shown in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


work_option = click.option(
    "--work", type=click.Path(file_okay=False), default="webtext", show_default=True, metavar="DIR",
    help="Where the crawl keeps its state and its WARC files.")
rejects_option = click.option(
    "--rejects", type=click.Path(), metavar="FILE", help="Write every dropped item and why, as JSONL.")
hosts_option = click.option(
    "--hosts", "host_profile", type=click.Choice(HOST_PROFILES), default="webtext", show_default=True,
    help="Hosts and kinds of file to leave out; Reddit and Wikipedia always are.")
link_options = together(
    click.option("--min-karma", type=int, default=3, show_default=True, metavar="N",
                 help="Least karma of a submission."),
    click.option("--before", type=UtcDate(), default="2018-01-01", show_default=True, metavar="DATE",
                 help="Take submissions created before this day (UTC)."),
)
fetch_options = together(
    click.option("--contact", metavar="URL", help="A page about you or your crawl, told to every server."),
    click.option("--concurrency", type=click.IntRange(1, 10_000), default=64, show_default=True, metavar="N",
                 help="URLs in flight at once; one per host."),
    click.option("--host-gap", type=Real(0, 3600), default=1.0, show_default=True, metavar="SECONDS",
                 help="Pause between two requests to one host."),
    click.option("--timeout", type=Real(0, 3600, min_open=True), default=30.0, show_default=True,
                 metavar="SECONDS", help="Longest time for one URL, redirects included."),
    click.option("--max-bytes", type=Count(1), default="5M", show_default=True, metavar="N",
                 help="Largest page, counted after decompression."),
    click.option("--allow-net", "allow_nets", multiple=True, metavar="CIDR",
                 help="Lift the address and port rules for this network. May be repeated."),
)
extract_options = together(
    click.option("--workers", type=Whole(1, 1024), default=None, metavar="N",
                 help="Processes that extract text; default: one per CPU."),
    click.option("--page-timeout", type=Real(0, 3600, min_open=True), default=20.0, show_default=True,
                 metavar="SECONDS", help="Longest time to extract one page."),
    click.option("--min-chars", type=Count(), default=200, show_default=True, metavar="N",
                 help="Shortest text that is a document, in characters."),
)


def link_config(*, min_karma: int, before: int, host_profile: str) -> Any:
    """Return the LinkConfig of these options."""
    from gpt2cli.webtext.links import LinkConfig

    return LinkConfig(min_karma, before, host_profile)


def fetch_config(*, work: str, host_profile: str, contact: str | None, concurrency: int, host_gap: float,
                 timeout: float, max_bytes: int, allow_nets: tuple[str, ...]) -> Any:
    """Return the FetchConfig of these options."""
    from pathlib import Path

    from gpt2cli.webtext.address_guard import AddressGuard, parse_network
    from gpt2cli.webtext.fetch import FetchConfig

    if contact is not None and (not contact.startswith(("http://", "https://", "mailto:"))
                                or not contact.isascii() or not contact.isprintable() or " " in contact):
        raise click.UsageError(f"--contact {contact!r} is no http, https or mailto URL")
    guard = AddressGuard(allow=tuple(parse_network(text) for text in allow_nets))
    return FetchConfig(Path(work), concurrency, host_gap, timeout, max_bytes, contact=contact,
                       host_profile=host_profile, guard=guard)


def extract_config(*, work: str, workers: int | None, page_timeout: float, min_chars: int) -> Any:
    """Return the ExtractConfig of these options."""
    from pathlib import Path

    from gpt2cli.webtext.extract import ExtractConfig

    return ExtractConfig(Path(work), workers, page_timeout, min_chars)
