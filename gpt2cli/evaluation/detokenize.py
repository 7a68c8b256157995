"""De-tokenizers: a tokenised corpus as the ordinary text that a model of web pages has seen, and back.

Lines are rewritten one by one, and each is undone at once to see that nothing is lost. One that does not come back as
it was is passed through unchanged and its number kept, so the whole text always comes back; a last line without an end
likewise if nothing would be left of it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gpt2cli.errors import UsageFault
from gpt2cli.evaluation.token_style import MOSES, TREEBANK, Style

_WORDS = r"\S \S"
_DIGITS = r"\d \d"
_BRACKETS_OPEN = {bracket: bracket for bracket in "([{"}
_BRACKETS_CLOSE = {bracket: bracket for bracket in ")]}"}
_STOPS = {stop: stop for stop in ",;:!?"}

_ONE_BILLION = Style(
    opening={**_BRACKETS_OPEN, '"': '"', "'": "'", "$": "$", "£": "£", "€": "€", "#": "#"},
    closing={**_BRACKETS_CLOSE, **_STOPS, '"': '"', "'": "'", "%": "%"},
    contraction=MOSES, symmetric=frozenset("\"'"),
)
_WIKITEXT = dataclasses.replace(
    _ONE_BILLION, headings=True, padded=True,
    infixes={"@,@": (",", _DIGITS), "@.@": (".", _DIGITS), "@-@": ("-", _WORDS), "/": ("/", _WORDS),
             "–": ("–", _DIGITS), ":": (":", _DIGITS)},
)
_PTB = Style(opening={"$": "$", "#": "#"}, closing={"%": "%", "'": "'"}, contraction=TREEBANK, periods=False,
             padded=True)
_LAMBADA = Style(
    opening={'"': "``", "'": "`", "(": "-lrb-", "[": "-lsb-", "{": "-lcb-", "$": "$"},
    closing={**_STOPS, '"': "''", "'": "'", ")": "-rrb-", "]": "-rsb-", "}": "-rcb-", "%": "%"},
    contraction=TREEBANK, lower_keeps=False,
    abbreviations=re.compile("mrs?|ms|dr|prof|rev|st|[sj]r|lt|col|gen|capt|sgt|vs", re.IGNORECASE),
)
_CBT = dataclasses.replace(
    _LAMBADA,
    opening={**_LAMBADA.opening, "(": "-LRB-", "[": "-LSB-", "{": "-LCB-"},
    closing={**_LAMBADA.closing, ")": "-RRB-", "]": "-RSB-", "}": "-RCB-"},
)

STYLES: Mapping[str, Style | None] = MappingProxyType({
    "none": None, "wikitext": _WIKITEXT, "ptb": _PTB, "lambada": _LAMBADA, "cbt": _CBT, "1bw": _ONE_BILLION,
})
"""The de-tokenizers by name."""
_LINE_END = re.compile(r"\r?\n")


@dataclass(frozen=True)
class Detokenized:
    """Ordinary text, of how many lines, and the numbers (from 0) of those that are as they were given."""

    text: str
    n_lines: int
    passed: tuple[int, ...]


def detokenize(name: str, text: str) -> Detokenized:
    """Return `text` de-tokenised line by line. Line ends stay as they are. Raises UsageFault for an unknown name."""
    style = style_named(name)
    lines, ends = _lines(text)
    if style is None:
        return Detokenized(text, len(lines), ())
    passed: list[int] = []
    for number, line in enumerate(lines):
        ordinary = style.detokenize(line)
        if style.retokenize(ordinary) == line and (ordinary or ends[number]):
            lines[number] = ordinary
        else:
            passed.append(number)
    return Detokenized(_joined(lines, ends), len(lines), tuple(passed))


def retokenize(name: str, text: str, passed: Collection[int] = ()) -> str:
    """Return the tokenised text that `detokenize` was given, from its text and the lines that it passed through."""
    style = style_named(name)
    if style is None:
        return text
    lines, ends = _lines(text)
    kept = frozenset(passed)
    return _joined([line if number in kept else style.retokenize(line) for number, line in enumerate(lines)], ends)


def style_named(name: str) -> Style | None:
    """Return the style; None for "none". Raises UsageFault for an unknown name."""
    if name not in STYLES:
        raise UsageFault(f"there is no de-tokenizer {name!r}; choose {', '.join(STYLES)}")
    return STYLES[name]


def _lines(text: str) -> tuple[list[str], list[str]]:
    """Return the lines without their ends, and the ends. What follows the last end is a line unless it is empty."""
    lines, ends = _LINE_END.split(text), _LINE_END.findall(text)
    if lines[-1]:
        ends.append("")
    else:
        lines.pop()
    return lines, ends


def _joined(lines: list[str], ends: list[str]) -> str:
    return "".join(line + end for line, end in zip(lines, ends, strict=True))
