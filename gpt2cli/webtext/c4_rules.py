"""The rules of C4 (Raffel et al. 2020, arXiv:1910.10683, section 2.2): first those for lines, then those for texts.

A sentence ends at a full stop, exclamation or question mark, with closing quotes or brackets behind it, before white
space or the end.
"""

from __future__ import annotations

import functools
import re
import warnings

from gpt2cli.webtext.rule import Page, Rule, Settings

SOURCE = "Raffel et al. 2020, section 2.2"
_SENTENCE_END = re.compile(r"[.!?]+[\"'\u2019\u201d)\]]*(?=\s|\Z)")
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")


def _terminal(line: str, settings: Settings) -> str | None:
    return line if line.rstrip().endswith(tuple(settings["endings"])) else None


def _line_words(line: str, settings: Settings) -> str | None:
    return line if len(line.split()) >= settings["minimum"] else None


def _without_phrases(line: str, settings: Settings) -> str | None:
    lower = line.lower()
    return None if any(phrase in lower for phrase in settings["phrases"]) else line


def _without_citations(line: str, settings: Settings) -> str | None:
    return compiled(settings["pattern"]).sub("", line)


@functools.cache
def compiled(text: str) -> re.Pattern[str]:
    """Return a person's pattern, as this Python reads it: what a later one may read otherwise is no concern here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(text)


def _sentences(page: Page, settings: Settings) -> float:
    return sum(1 for _ in _SENTENCE_END.finditer(page.view.text))


def _phrases(page: Page, settings: Settings) -> float:
    return sum(page.view.lower.count(phrase) for phrase in settings["phrases"])


def _bad_words(page: Page, settings: Settings) -> float:
    """Count the words, and phrases of up to as many words as the list has, that are in the list."""
    listed: frozenset[str] = settings["words"]
    longest = settings["longest"]
    words = _WORD.findall(page.view.lower)
    count = sum(word in listed for word in words)
    for n in range(2, longest + 1):
        count += sum(" ".join(words[at : at + n]) in listed for at in range(len(words) - n + 1))
    return count


C4_LINES = (
    Rule("c4-citations", SOURCE, change=_without_citations),
    Rule("c4-terminal-punctuation", SOURCE, change=_terminal),
    Rule("c4-line-words", SOURCE, change=_line_words),
    Rule("c4-javascript", SOURCE, change=_without_phrases),
    Rule("c4-policies", SOURCE, change=_without_phrases),
)
C4_TEXTS = (
    Rule("c4-sentences", SOURCE, _sentences),
    Rule("c4-lorem-ipsum", SOURCE, _phrases),
    Rule("c4-curly-brackets", SOURCE, _phrases),
    Rule("c4-bad-words", SOURCE, _bad_words),
)
