"""One line of a Reddit dump, a URL list or our own links, whatever its year's schema, as a candidate link.

Known quirks (RS_YYYY-MM): `created_utc` a string in 2014/15, `score` null in 2017, `subreddit` missing for promoted
posts, `url` HTML-escaped in some years, `ups` and `downs` only from 2012 to 2016, crossposts from 2017, whose `url` may
be Reddit's own page of the post they repeat (it is in `crosspost_parent_list`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record, parse_line
from gpt2cli.records.schemas import SCHEMAS, parse_schema

MAX_KARMA = 1 << 31
"""No post has more; sums of karma stay exact below it."""
_MAX_TIME = 1 << 40
_ON_REDDIT = re.compile(r"(?:https?://(?:[\w-]+\.)?(?:reddit\.com|redd\.it))?/", re.IGNORECASE)


class Malformed(ValueError):
    """A line that is neither a submission nor a URL; the message is the reason.

    newer: the version of gpt2.link that the line is of, where it is above ours.
    """

    def __init__(self, reason: str, newer: int | None = None) -> None:
        super().__init__(reason)
        self.newer = newer


@dataclass(frozen=True)
class Candidate:
    """A link before any filter. karma, subreddit and created_utc (seconds) are None where nobody knows them.

    from_reddit: it is a submission, which must have karma and a date; a plain URL or link of ours need not.
    """

    url: str
    karma: int | None = None
    subreddit: str | None = None
    created_utc: int | None = None
    is_self: bool = False
    promoted: bool = False
    over_18: bool = False
    quarantine: bool = False
    from_reddit: bool = False


def parse_candidate(line: bytes) -> Candidate | None:
    """Return the candidate of one line: a JSON submission, a plain http(s) URL, or a gpt2.link record.

    None for a gpt2.end record. Raises Malformed for all else.
    """
    stripped = line.strip()
    if stripped[:8].lower().startswith((b"http://", b"https://")):
        try:
            return Candidate(stripped.decode("utf-8"))
        except UnicodeDecodeError:
            raise Malformed("not UTF-8") from None
    if not stripped.startswith(b"{"):
        raise Malformed("neither a JSON object nor a URL")
    try:
        record = parse_line(stripped, "line")
    except BadInput as error:
        raise Malformed(str(error).removeprefix("line: ")) from None
    schema = parse_schema(record.get("schema"))
    if schema is None:
        return _submission(record)
    if schema[0] == "gpt2.end":
        return None
    if schema[0] == "gpt2.link" and schema[1] > SCHEMAS["gpt2.link"][0]:
        raise Malformed("a link of a newer gpt2", schema[1])
    if schema[0] != "gpt2.link":
        raise Malformed(f"a record of {schema[0][:40]}/{schema[1]}, not gpt2.link/{SCHEMAS['gpt2.link'][0]}")
    return _link(record)


def _link(record: Record) -> Candidate:
    return Candidate(_text(record, "url"), _integer(record.get("karma"), "karma", MAX_KARMA), _subreddit(record),
                     _integer(record.get("created_utc"), "created_utc", _MAX_TIME))


def _submission(post: Record) -> Candidate:
    parent = _parent(post)
    domain = post.get("domain")
    is_self = bool(post.get("is_self")) or (isinstance(domain, str) and domain.startswith("self."))
    is_self = is_self or bool(parent.get("is_self"))
    url = "" if is_self and not isinstance(post.get("url"), str) else _text(post, "url")
    if isinstance(parent.get("url"), str) and _ON_REDDIT.match(url):
        url = _text(parent, "url")
    return Candidate(
        url=_unescape(url),
        karma=_karma(post),
        subreddit=_subreddit(post),
        created_utc=_integer(post.get("created_utc"), "created_utc", _MAX_TIME),
        is_self=is_self,
        promoted=bool(post.get("promoted")),
        over_18=bool(post.get("over_18")) or bool(parent.get("over_18")),
        quarantine=bool(post.get("quarantine")) or bool(parent.get("quarantine")),
        from_reddit=True,
    )


def _parent(post: Record) -> Record:
    parents = post.get("crosspost_parent_list")
    return parents[0] if isinstance(parents, list) and parents and isinstance(parents[0], dict) else {}


def _text(record: Record, name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(f"no {name} field")
    return _without_surrogates(value)


def _subreddit(record: Record) -> str | None:
    value = record.get("subreddit")
    return _without_surrogates(value) if isinstance(value, str) and value else None


def _without_surrogates(text: str) -> str:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise Malformed("a lone surrogate in a field")
    return text


def _unescape(url: str) -> str:
    # Reddit escapes these three and no others; html.unescape would also turn "&copy=1" into a copyright sign.
    return url.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _karma(post: Record) -> int | None:
    score = _integer(post.get("score"), "score", MAX_KARMA)
    if score is not None:
        return score
    ups, downs = _integer(post.get("ups"), "ups", MAX_KARMA), _integer(post.get("downs"), "downs", MAX_KARMA)
    return None if ups is None else ups - (downs or 0)


def _integer(value: Any, name: str, limit: int) -> int | None:
    if value is None:
        return None
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}(\.0+)?", value):
        number = int(value.partition(".")[0])
    if number is None or abs(number) >= limit:
        raise Malformed(f"{name} is no whole number, or too large")
    return number
