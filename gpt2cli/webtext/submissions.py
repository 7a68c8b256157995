"""One line of a Reddit dump or a URL list, whatever its year's schema, as a candidate link.

Known quirks (RS_YYYY-MM): `created_utc` a string in 2014/15, `score` null in 2017, `subreddit` missing for promoted
posts, `url` HTML-escaped in some years, `ups` and `downs` only from 2012 to 2016.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import parse_line


class Malformed(ValueError):
    """A line that is neither a submission nor a URL; the message is the reason."""


@dataclass(frozen=True)
class Candidate:
    """A link before any filter. karma, subreddit and created_utc (seconds) are None where nobody knows them."""

    url: str
    karma: int | None = None
    subreddit: str | None = None
    created_utc: int | None = None
    is_self: bool = False
    promoted: bool = False
    from_reddit: bool = False


def parse_candidate(line: bytes) -> Candidate:
    """Return the candidate of one line: a JSON submission, or a plain http(s) URL. Raises Malformed."""
    stripped = line.strip()
    if stripped[:8].lower().startswith((b"http://", b"https://")):
        try:
            return Candidate(stripped.decode("utf-8"))
        except UnicodeDecodeError:
            raise Malformed("not UTF-8") from None
    if not stripped.startswith(b"{"):
        raise Malformed("neither a JSON object nor a URL")
    try:
        return _submission(parse_line(stripped, "line"))
    except BadInput as error:
        raise Malformed(str(error).removeprefix("line: ")) from None


def _submission(post: dict[str, Any]) -> Candidate:
    url = post.get("url")
    domain = post.get("domain")
    is_self = bool(post.get("is_self")) or (isinstance(domain, str) and domain.startswith("self."))
    if not isinstance(url, str) or not url:
        if not is_self:
            raise Malformed("no url field")
        url = ""
    subreddit = post.get("subreddit")
    for text in (url, subreddit):
        if isinstance(text, str) and not text.isascii() and _has_lone_surrogate(text):
            raise Malformed("a lone surrogate in a field")
    return Candidate(
        url=_unescape(url),
        karma=_karma(post),
        subreddit=subreddit if isinstance(subreddit, str) and subreddit else None,
        created_utc=_integer(post.get("created_utc"), "created_utc"),
        is_self=is_self,
        promoted=bool(post.get("promoted")),
        from_reddit=True,
    )


def _has_lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _unescape(url: str) -> str:
    # Reddit escapes these three and no others; html.unescape would also turn "&copy=1" into a copyright sign.
    return url.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _karma(post: dict[str, Any]) -> int | None:
    score = _integer(post.get("score"), "score")
    if score is not None:
        return score
    ups, downs = _integer(post.get("ups"), "ups"), _integer(post.get("downs"), "downs")
    return None if ups is None else ups - (downs or 0)


def _integer(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}(\.0+)?", value):
        return int(value.partition(".")[0])
    raise Malformed(f"{name} is no whole number")
