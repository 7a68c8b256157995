"""The rules that made WebText what it is: no Wikipedia, English by CLD2, and OpenWebText's least length of 128 tokens.

Radford et al. 2019, section 2.1; the model card of GPT-2; Gokaslan and Cohen 2019.
"""

from __future__ import annotations

import functools
import math

import pycld2

from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.exact_cut import free_cut
from gpt2cli.tokens.vocabulary import gpt2_vocabulary
from gpt2cli.webtext.hosts import HostProfile, packaged_lines, parse_profile
from gpt2cli.webtext.rule import Page, Rule, Settings
from gpt2cli.webtext.urls import UrlFault, clean_url, host_of

_UNKNOWN = "un"
_MARK = "from wikipedia, the free encyclopedia"
_HEAD = 1000
"""Characters at a text's beginning in which a copy of a Wikipedia page says so."""


@functools.cache
def _encyclopedias() -> HostProfile:
    return parse_profile(packaged_lines("hosts-encyclopedia.txt"))


def _wikipedia(page: Page, settings: Settings) -> float:
    """1 for a page of Wikipedia or a mirror of it, or one that says it was copied from there; else 0."""
    if _MARK in page.view.text[:_HEAD].lower():
        return 1
    if page.url is None:
        return 0
    try:
        host = host_of(clean_url(page.url))
    except UrlFault:
        return 0
    return int(_encyclopedias().exclusion(host) is not None)


def detect_language(text: str) -> tuple[str | None, dict[str, int]]:
    """Return the code of the language that most of `text` is in (None: unknown), and the per cent of each, by CLD2."""
    try:
        found = pycld2.detect(text)[2]
    except (pycld2.error, UnicodeEncodeError):  # control characters and the like, which it refuses
        found = pycld2.detect("".join(c if c.isprintable() or c in "\t\n\r" else " " for c in text))[2]
    shares = {code: percent for _, code, percent, _ in found if code != _UNKNOWN}
    first = found[0][1]
    return (None if first == _UNKNOWN else first), shares


def _language(page: Page, settings: Settings) -> float:
    page.language, shares = detect_language(page.view.text)
    return sum(shares.get(code, 0) for code in settings["languages"])


@functools.cache
def _encoder() -> Encoder:
    return Encoder(gpt2_vocabulary())


def _tokens(page: Page, settings: Settings) -> float:
    """The number of GPT-2 tokens; of a long text only as many as prove that it has enough."""
    text, enough = page.view.text, math.ceil(settings.get("minimum", 0))
    if "maximum" not in settings:
        cut = free_cut(text, 6 * enough, 8 * enough) if len(text) > 8 * enough else None
        if cut is not None and (count := len(_encoder().encode(text[:cut]))) >= enough:
            return count
    return len(_encoder().encode(text))


WIKIPEDIA = Rule("wikipedia", "Radford et al. 2019, section 2.1", _wikipedia)
MIN_TOKENS = Rule("min-tokens", "Gokaslan and Cohen 2019", _tokens)
LANGUAGE = Rule("language", "model card of GPT-2; CLD2", _language)
