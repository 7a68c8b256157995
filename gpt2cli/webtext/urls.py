"""Two forms of a link: the URL that is fetched, changed as little as possible, and the key that tells duplicates.

The key is never fetched: dropping `www.` or a parameter may lead nowhere, but two links that differ only there
are almost always one page.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

MAX_URL = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?|\[[0-9a-f:.]+\]")
_MIRROR_PREFIX = re.compile(r"(?:www\d?|m|mobile|amp)\.(?=[^.]+\.)")
_TRACKING = re.compile(r"utm_\w+|fbclid|gclid|dclid|msclkid|yclid|igshid|mc_[ce]id|_ga|ncid|cmpid|ref_src")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class UrlFault(ValueError):
    """A URL that is not fetched; the message is the reason."""


def clean_url(raw: str) -> str:
    """Return the URL to fetch: scheme and host in lower case, no fragment but `#!`, otherwise as given.

    Raises UrlFault for anything but a plausible http(s) URL without user name and password.
    """
    text = raw.strip()
    if len(text) > MAX_URL:
        raise UrlFault("URL too long")
    if _CONTROL.search(text):
        raise UrlFault("white space or control characters in URL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UrlFault("lone surrogate in URL")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = _ascii_host(parts)
    except ValueError:
        raise UrlFault("malformed URL") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise UrlFault("not an http(s) URL")
    if "@" in parts.netloc:
        raise UrlFault("credentials in URL")
    if not _HOST.fullmatch(host) or ".." in host:
        raise UrlFault("malformed host")
    place = host if port is None else f"{host}:{port}"
    fragment = f"#{parts.fragment}" if parts.fragment.startswith("!") else ""
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{place}{parts.path or '/'}{query}{fragment}"


def url_key(url: str) -> str:
    """Return the de-duplication key of a clean URL: no scheme, www/m/amp, default port, fragment but `#!`,
    tracking parameters or trailing slash; query sorted; percent escapes in one form.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = _MIRROR_PREFIX.sub("", host, count=1) if _MIRROR_PREFIX.match(host) else host
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    pairs = [pair for pair in parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
             if not _TRACKING.fullmatch(pair[0])]
    query = urlencode(sorted(pairs), errors="surrogateescape")
    path = _ESCAPE.sub(_normal_escape, quote(parts.path, safe="/%:@!$&'()*+,;=~")).rstrip("/")
    fragment = f"#{parts.fragment}" if parts.fragment.startswith("!") else ""
    return f"{host.rstrip('.')}{port}{path}{'?' if query else ''}{query}{fragment}"


def host_of(url: str) -> str:
    """Return the host name of a clean URL, lower case, without port."""
    return urlsplit(url).hostname or ""


def host_of_key(key: str) -> str:
    """Return the host name of a URL key, without port: what links of one page, and of one site's mirrors, share."""
    place = re.split(r"[/?#]", key, maxsplit=1)[0]
    return place.partition("]")[0] + "]" if place.startswith("[") else place.partition(":")[0]


def origin_of(url: str) -> str:
    """Return scheme://host:port of a clean URL, the unit that has one robots.txt."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _ascii_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        return f"[{host}]"
    return host if host.isascii() else host.encode("idna").decode("ascii").lower()


def _normal_escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()
