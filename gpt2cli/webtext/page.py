"""A page on its way to being extracted: its bytes, where they come from, or why there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpt2cli.records.jsonl import Record


@dataclass(frozen=True)
class PageBody:
    """An HTML page: its bytes, decoded as HTTP has it, and the charset its header names, if any."""

    body: bytes
    charset: str | None = None


class NoPage(Exception):
    """There is no page to extract; `reason` is a word of webtext.outcomes, `revisit`, or "not fetched: " and a word."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Page:
    """One page in line: what its document will carry, and how to get its bytes.

    fields: url (None where nobody knows), karma, subreddit, created_utc. what: how a reject names it. load: returns the
    body, or raises NoPage for one that is counted as dropped; called once, in any thread. held: bytes in memory now.
    """

    fields: Record
    what: str
    load: Callable[[], PageBody]
    held: int = 0
