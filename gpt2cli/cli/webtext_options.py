"""Options that the steps of webtext-scrape and the whole of it share."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any

import click

from gpt2cli.cli.options import AnyPath, Count, OutputPath, Real, Whole

ENVIRONMENT = {"auto_envvar_prefix": "GPT2_WEBTEXT_SCRAPE"}
HOST_PROFILES = ("webtext", "openwebtext", "none")
"""Names of gpt2cli.webtext.hosts.PROFILES."""
DEDUP_PROFILES = ("openwebtext", "fineweb", "exact")
"""Names of gpt2cli.webtext.dedup_profiles.DEDUP_PROFILES."""
EXTRACTORS = ("trafilatura", "merged", "resiliparse")
"""Names of gpt2cli.webtext.page_text.EXTRACTORS."""
Decorator = Callable[[Any], Any]


class ShareOption(click.ParamType):
    """One share of several, numbered from 1: 3/16."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (number, count), or fail with a usage error."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", str(value))
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count:
            self.fail(f"{value!r} is no share; write I/N with I from 1 to N, such as 3/16", param, ctx)
        return number, count


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
    "--rejects", type=OutputPath(), metavar="FILE", help="Write every dropped item and why, as JSONL.")
hosts_option = click.option(
    "--hosts", "host_profile", type=click.Choice(HOST_PROFILES), default="webtext", show_default=True,
    help="Hosts and kinds of file to leave out; Reddit and Wikipedia always are.")
link_options = together(
    click.option("--min-karma", type=int, default=3, show_default=True, metavar="N",
                 help="Least karma of a submission."),
    click.option("--sum-karma", is_flag=True, help="Ask it of the sum over all submissions of a link, which it gets."),
    click.option("--before", type=UtcDate(), default="2018-01-01", show_default=True, metavar="DATE",
                 help="Take submissions created before this day (UTC)."),
    click.option("--over-18/--no-over-18", default=True, show_default=True, help="Take submissions marked over 18."),
    click.option("--quarantine/--no-quarantine", default=True, show_default=True,
                 help="Take submissions of quarantined subreddits."),
    click.option("--promoted/--no-promoted", default=False, show_default=True, help="Take advertisements."),
    click.option("--block-subreddits", type=AnyPath(), metavar="FILE", help="Leave these subreddits out, one a line."),
    click.option("--block-hosts", type=AnyPath(), metavar="FILE",
                 help="Leave these hosts and those below them out, one a line."),
)


def share_option(of: str) -> Decorator:
    """Return --shard I/N; `of` says in its help what is shared out."""
    return click.option("--shard", "share", type=ShareOption(), default="1/1", show_default=True, metavar="I/N",
                        help=f"Take the I-th of N shares {of}.")


def jobs_option() -> Decorator:
    """Return -j, the number of processes."""
    return click.option("-j", "--jobs", type=Whole(1, 1024), default=1, show_default=True, metavar="N",
                        help="Processes; the result is the same.")


def dedup_profile_option(name: str) -> Decorator:
    """Return the option `name`, which documents are duplicates."""
    return click.option(name, "dedup_profile", type=click.Choice(DEDUP_PROFILES), default="openwebtext",
                        show_default=True, help="Which documents are duplicates of each other.")


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
    click.option("--max-redirects", type=click.IntRange(0, 100), default=5, show_default=True, metavar="N",
                 help="Most redirects of one URL."),
    click.option("--max-delay", type=Real(0, 86_400), default=120.0, show_default=True, metavar="SECONDS",
                 help="Longest pause that a host may ask for or fail into."),
    click.option("--retries", type=click.IntRange(0, 100), default=2, show_default=True, metavar="N",
                 help="Further tries of a URL after a failure that may pass."),
    click.option("--host-failures", type=click.IntRange(1, 1_000_000), default=10, show_default=True, metavar="N",
                 help="Failures in a row after which a host is given up."),
    click.option("--per-address", type=click.IntRange(1, 10_000), default=8, show_default=True, metavar="N",
                 help="Requests at once to hosts of one IP address."),
    click.option("--body-memory", type=Count(1 << 16), default="128Mi", show_default=True, metavar="BYTES",
                 help="Memory for the bodies of all pages in flight."),
    click.option("--warc", type=click.Choice(("zst", "gz")), default="zst", show_default=True,
                 help="Compression of the WARC files."),
    click.option("--again", metavar="OUTCOME,...", help="Fetch URLs that ended so before once more."),
    click.option("--allow-net", "allow_nets", multiple=True, metavar="CIDR",
                 help="Lift the address and port rules for this network. May be repeated."),
)
extract_options = together(
    click.option("-j", "--jobs", type=Whole(1, 1024), default=None, metavar="N",
                 help="Processes that extract text; default: one per CPU. The result is the same."),
    click.option("--extractor", type=click.Choice(EXTRACTORS), default="trafilatura", show_default=True,
                 help="What finds the text in a page; resiliparse is the fast one, merged the best."),
    click.option("--page-timeout", type=Real(0, 3600, min_open=True), default=20.0, show_default=True,
                 metavar="SECONDS", help="Longest time to extract one page."),
    click.option("--page-memory", type=Count(64 << 20), default="1Gi", show_default=True, metavar="N",
                 help="Most memory that a process may take for pages, in bytes."),
    click.option("--min-chars", type=Count(), default=200, show_default=True, metavar="N",
                 help="Shortest text that is a document, in characters."),
)


engine_options = together(
    click.option("--shards", "shares", type=Whole(1, 1000), default=1, show_default=True, metavar="N",
                 help="Divide the hosts into N shares, each with a fetch of its own; the documents are the same."),
    click.option("--engine", type=click.Choice(("local", "ray")), default="local", show_default=True,
                 help="Who does the work: this machine, or a Ray cluster."),
    click.option("--ray-address", metavar="ADDRESS",
                 help="The cluster: auto, HOST:PORT or ray://HOST:PORT; default: one of -j cores on this machine."),
)


filter_options = together(
    click.option("--rules", "rule_names", default="webtext", show_default=True, metavar="NAME,...",
                 help="Rules and groups of them: webtext, gopher, gopher-quality, gopher-repetition, c4, none; -NAME "
                      "takes one out."),
    click.option("--thresholds", type=AnyPath(), metavar="FILE", help="TOML file of thresholds that differ."),
    click.option("--set", "changes", multiple=True, metavar="RULE.KEY=VALUE",
                 help="One threshold, such as min-tokens.minimum=64. May be repeated."),
    click.option("--bad-words", type=AnyPath(), metavar="FILE", help="The list of c4-bad-words, one a line."),
)
FILTER_OPTIONS = ("rule_names", "thresholds", "changes", "bad_words")
"""Names of the parameters that filter_rules takes."""


def filter_rules(*, rule_names: str, thresholds: str | None, changes: tuple[str, ...], bad_words: str | None) -> Any:
    """Return the RuleSet of these options."""
    from gpt2cli.webtext.rule_set import rule_set

    names = [name.strip() for name in rule_names.split(",") if name.strip()]
    return rule_set(names, thresholds=thresholds, changes=changes, bad_words=bad_words)


LINK_OPTIONS = ("min_karma", "sum_karma", "before", "over_18", "quarantine", "promoted", "block_subreddits",
                "block_hosts", "host_profile")
"""Names of the parameters that link_config takes."""


def link_config(*, block_subreddits: str | None, block_hosts: str | None, share: tuple[int, int] = (1, 1),
                **chosen: Any) -> Any:
    """Return the LinkConfig of these options."""
    from gpt2cli.webtext.hosts import read_names
    from gpt2cli.webtext.judge_links import LinkConfig
    from gpt2cli.webtext.shards import Share

    subreddits = read_names(block_subreddits, "r/") if block_subreddits is not None else frozenset()
    hosts = read_names(block_hosts) if block_hosts is not None else frozenset()
    return LinkConfig(**chosen, blocked_subreddits=subreddits, blocked_hosts=hosts, share=Share(*share))


def fetch_config(*, work: str, host_profile: str, contact: str | None, concurrency: int, host_gap: float,
                 timeout: float, max_bytes: int, allow_nets: tuple[str, ...], max_delay: float, again: str | None,
                 **limits: Any) -> Any:
    """Return the FetchConfig of these options."""
    from pathlib import Path

    from gpt2cli.webtext.address_guard import AddressGuard, parse_network
    from gpt2cli.webtext.fetch_config import FetchConfig
    from gpt2cli.webtext.outcomes import OK, OUTCOMES

    if contact is not None and (not contact.startswith(("http://", "https://", "mailto:"))
                                or not contact.isascii() or not contact.isprintable() or " " in contact):
        raise click.UsageError(f"--contact {contact!r} is no http, https or mailto URL")
    outcomes = frozenset(name.strip() for name in (again or "").split(",") if name.strip())
    for name in sorted(outcomes - (OUTCOMES.keys() - {OK})):
        raise click.UsageError(f"--again {name}: choose from {', '.join(sorted(OUTCOMES.keys() - {OK}))}")
    guard = AddressGuard(allow=tuple(parse_network(text) for text in allow_nets))
    return FetchConfig(Path(work), concurrency, host_gap, timeout, max_bytes, contact=contact,
                       host_profile=host_profile, guard=guard, max_delay_s=max_delay, again=tuple(sorted(outcomes)),
                       **limits)


EXTRACT_OPTIONS = ("jobs", "extractor", "page_timeout", "page_memory", "min_chars")
"""Names of the parameters that extract_config takes, but for --work."""


def extract_config(*, work: str, jobs: int | None, extractor: str, page_timeout: float, page_memory: int,
                   min_chars: int) -> Any:
    """Return the ExtractConfig of these options."""
    from pathlib import Path

    from gpt2cli.webtext.extract import ExtractConfig
    from gpt2cli.webtext.page_pool import Limits

    return ExtractConfig(Path(work), jobs, min_chars, extractor, Limits(page_timeout, page_memory))
