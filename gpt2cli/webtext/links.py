"""Step 1: Reddit dumps and URL lists -> the links worth fetching, each once, in order of appearance.

WebText took outbound links of submissions with at least 3 karma, none created after December 2017, and left
Wikipedia out (Radford et al. 2019, section 2.1).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.records.streams import display_name, open_input, read_lines
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.hosts import exclusion, media_file
from gpt2cli.webtext.submissions import Candidate, Malformed, parse_candidate
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.urls import UrlFault, clean_url, host_of, url_key

DUMP_WINDOW_LOG = 31
"""Reddit's dumps are compressed with a 2 GiB window."""
_POLL_EVERY = 4096


@dataclass(frozen=True)
class LinkConfig:
    """Which links are kept. `before` is a UTC time in seconds; `host_profile` names a table in hosts.py."""

    min_karma: int = 3
    before: int = 1_514_764_800
    host_profile: str = "webtext"


@dataclass(frozen=True)
class Link:
    """A link to fetch; the fields of gpt2.link/1."""

    url: str
    url_key: str
    karma: int | None
    subreddit: str | None
    created_utc: int | None

    def fields(self) -> dict[str, Any]:
        """Return the fields of the gpt2.link/1 record."""
        return asdict(self)


def select_links(
    paths: Sequence[str | os.PathLike[str]], config: LinkConfig, tally: StepTally, reporter: Reporter
) -> Iterator[Link]:
    """Yield the links of all `paths` (`-`: stdin) that pass, the first of each URL key, with that first one's karma.

    Plain URLs carry no karma and no date: they are kept. Malformed lines are dropped and counted.
    Raises BadInput for a damaged or truncated .zst, and for input in which no line is a submission or a URL.
    """
    seen: set[bytes] = set()
    malformed = 0
    for path in paths:
        name = display_name(path)
        with open_input(path, window_log=DUMP_WINDOW_LOG) as stream:
            for number, line in enumerate(read_lines(stream, name), 1):
                if number % _POLL_EVERY == 0:
                    reporter.progress(tally.read, None, "lines", kept=f"{tally.kept:,}")
                    if reporter.stopping():
                        raise Interrupted("stopped while reading links; nothing was lost")
                if not line.strip():
                    continue
                tally.read += 1
                try:
                    candidate = parse_candidate(line)
                except Malformed as error:
                    malformed += 1
                    tally.drop(f"{name} line {number}", "malformed line", str(error))
                    continue
                link = _judge(candidate, config, tally, seen)
                if link is not None:
                    tally.kept += 1
                    yield link
    if malformed and malformed == tally.read:
        raise BadInput(f"none of the {malformed} lines is a Reddit submission or a URL; was another file meant?")


def _judge(candidate: Candidate, config: LinkConfig, tally: StepTally, seen: set[bytes]) -> Link | None:
    reason = _refusal(candidate, config)
    if reason is None:
        try:
            url = clean_url(candidate.url)
            key = url_key(url)
        except UrlFault as error:
            reason = str(error)
        else:
            reason = exclusion(host_of(url), config.host_profile)
            if reason is None and media_file(urlsplit(url).path):
                reason = "media file"
    if reason is None:
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            return Link(url, key, candidate.karma, candidate.subreddit, candidate.created_utc)
        reason = "duplicate URL"
    tally.drop(candidate.url, reason)
    return None


def _refusal(candidate: Candidate, config: LinkConfig) -> str | None:
    if not candidate.from_reddit:
        return None
    if candidate.is_self:
        return "self post"
    if candidate.promoted:
        return "promoted"
    if candidate.karma is None:
        return "karma unknown"
    if candidate.karma < config.min_karma:
        return f"karma below {config.min_karma}"
    if candidate.created_utc is None:
        return "date unknown"
    if candidate.created_utc >= config.before:
        return "too new"
    return None
