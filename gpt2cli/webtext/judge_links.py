"""Whether a line of a dump is a link to keep, seen by itself: the work that is done beside other blocks of lines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record, encode_record
from gpt2cli.records.schemas import newer_format
from gpt2cli.webtext.hosts import host_profile
from gpt2cli.webtext.line_blocks import LineBlock
from gpt2cli.webtext.shards import EVERYTHING, Share
from gpt2cli.webtext.submissions import Candidate, Malformed, parse_candidate
from gpt2cli.webtext.urls import UrlFault, clean_url, host_of, host_of_key, url_key

ENTRY = np.dtype([("key", "S16"), ("number", "<u8"), ("karma", "<i8"), ("standing", "u1")])
"""A kept link: 128-bit hash of its URL key, its place among all that were kept, karma and what it is known by."""
UNKNOWN, KNOWN, LISTED = 0, 1, 2
"""Standings: a post without karma, a post with karma, a link that need have none."""


@dataclass(frozen=True)
class LinkConfig:
    """Which links are kept. `before` is a UTC time in seconds; `host_profile` is one of hosts.PROFILES.

    sum_karma: min_karma is asked of the sum over all posts of a URL key. over_18, quarantine, promoted: whether such
    posts are taken. blocked_subreddits and blocked_hosts are in lower case. share: of the hosts.
    """

    min_karma: int = 3
    before: int = 1_514_764_800
    host_profile: str = "webtext"
    sum_karma: bool = False
    over_18: bool = True
    quarantine: bool = True
    promoted: bool = False
    blocked_subreddits: frozenset[str] = frozenset()
    blocked_hosts: frozenset[str] = frozenset()
    share: Share = EVERYTHING


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
        return {"url": self.url, "url_key": self.url_key, "karma": self.karma, "subreddit": self.subreddit,
                "created_utc": self.created_utc}


def link_of(record: Record) -> Link:
    """Return the link of a gpt2.link record, fit to be fetched. Raises BadInput for another."""
    url, key = record["url"], record["url_key"]
    if not isinstance(url, str) or not isinstance(key, str):
        raise BadInput("a gpt2.link record whose url or url_key is no text")
    try:
        url = clean_url(url)
    except UrlFault as error:
        raise BadInput(f"a gpt2.link record of {url[:100]!r}: {error}; make them with webtext-scrape links") from None
    for name in ("url_key", "karma", "subreddit", "created_utc"):
        if not _is_plain(record[name]):
            raise BadInput(f"a gpt2.link record of {url[:100]!r} whose {name} is neither a number nor text")
    return Link(url, key, record["karma"], record["subreddit"], record["created_utc"])


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    return value is None or isinstance(value, int | float)


def links_of_share(records: Iterable[Record], share: Share) -> Iterator[Link]:
    """Yield the links of gpt2.link records that are of this share of the hosts, in their order. Raises BadInput."""
    for record in records:
        link = link_of(record)
        if share.has(host_of_key(link.url_key)):
            yield link


@dataclass
class JudgedLines:
    """What a block of lines came to: `read` lines that were not blank, ENTRY rows (numbers not yet given) with the
    gpt2.link/1 record of each, and (what, reason, detail) of those dropped. elsewhere: links of another share.
    """

    read: int = 0
    elsewhere: int = 0
    entries: np.ndarray = field(default_factory=lambda: np.empty(0, ENTRY))
    records: list[bytes] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)


MALFORMED = "malformed line"


class LinkJudge:
    """Judges blocks of lines by a LinkConfig."""

    def __init__(self, config: LinkConfig) -> None:
        self._config = config
        self._profile = host_profile(config.host_profile)

    def __call__(self, block: LineBlock) -> JudgedLines:
        """Return what the lines of a block come to."""
        judged = JudgedLines()
        entries: list[tuple[bytes, int, int, int]] = []
        for number, line in block.lines():
            if not line.strip():
                continue
            judged.read += 1
            try:
                candidate = parse_candidate(line)
            except Malformed as error:
                if error.newer is not None:
                    raise newer_format(block.place(number), "gpt2.link", error.newer) from None
                judged.dropped.append((block.place(number), MALFORMED, str(error)))
                continue
            if candidate is None:
                judged.read -= 1
                continue
            reason = self._refusal(candidate)
            if reason is None:
                reason = self._keep(candidate, judged, entries, [block.part, number])
            if reason is not None:
                judged.dropped.append((candidate.url or block.place(number), reason, ""))
        judged.entries = np.array(entries, ENTRY)
        return judged

    def _keep(self, candidate: Candidate, judged: JudgedLines, entries: list[tuple[bytes, int, int, int]],
              position: list[int]) -> str | None:
        try:
            url = clean_url(candidate.url)
            key = url_key(url)
        except UrlFault as error:
            return str(error)
        reason = self._host_refusal(host_of(url)) or self._profile.no_page(urlsplit(url).path)
        if reason is not None:
            return reason
        if not self._config.share.has(host_of_key(key)):
            judged.elsewhere += 1
            return None
        link = Link(url, key, candidate.karma, candidate.subreddit, candidate.created_utc)
        fields = link.fields()
        if self._config.share.count > 1:
            fields["position"] = position  # by which the shares are merged to the order of one run
        judged.records.append(encode_record("gpt2.link", fields))
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        standing = KNOWN if candidate.karma is not None else UNKNOWN if candidate.from_reddit else LISTED
        entries.append((digest, 0, candidate.karma or 0, standing))
        return None

    def _host_refusal(self, host: str) -> str | None:
        blocked = self._config.blocked_hosts
        if blocked:
            labels = host.rstrip(".").split(".")
            if any(".".join(labels[start:]) in blocked for start in range(len(labels))):
                return "blocked host"
        return self._profile.exclusion(host)

    def _refusal(self, candidate: Candidate) -> str | None:
        config = self._config
        if candidate.subreddit is not None and candidate.subreddit.lower() in config.blocked_subreddits:
            return "blocked subreddit"
        if not candidate.from_reddit:
            return self._listed_refusal(candidate)
        if candidate.is_self:
            return "self post"
        if candidate.promoted and not config.promoted:
            return "promoted"
        if candidate.over_18 and not config.over_18:
            return "over 18"
        if candidate.quarantine and not config.quarantine:
            return "quarantined"
        if not config.sum_karma:
            if candidate.karma is None:
                return "karma unknown"
            if candidate.karma < config.min_karma:
                return f"karma below {config.min_karma}"
        if candidate.created_utc is None:
            return "date unknown"
        return "too new" if candidate.created_utc >= config.before else None

    def _listed_refusal(self, candidate: Candidate) -> str | None:
        config = self._config
        if candidate.karma is not None and not config.sum_karma and candidate.karma < config.min_karma:
            return f"karma below {config.min_karma}"
        too_new = candidate.created_utc is not None and candidate.created_utc >= config.before
        return "too new" if too_new else None
