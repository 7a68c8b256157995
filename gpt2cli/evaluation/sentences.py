"""Where a sentence ends, for what takes the first sentences of generated text.

The rule, in full: a sentence ends at a line break, or after one or more of . ! ? and any closing quotes and brackets
that follow, if white space or the end of the text comes next. An initial (one capital letter and a full stop) and an
abbreviation of ABBREVIATIONS end none.
"""

from __future__ import annotations

import re

RULE = "a line break, or . ! ? and closing quotes before white space; not after an initial or Mr. Mrs. Dr. ..."
ABBREVIATIONS = frozenset(("mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "gen", "col", "lt", "sgt", "capt", "rev",
                           "hon", "gov", "sen", "rep", "vs", "no", "fig", "e.g", "i.e", "u.s", "u.k", "u.n", "a.m",
                           "p.m", "jan", "feb", "aug", "sept", "oct", "nov", "dec"))
_END = re.compile(r"""[.!?]+["'”’»)\]]*(?=\s|$)|\n""")


def first_sentences(text: str, count: int = 1) -> str:
    """Return the first `count` sentences of a text, without white space around them."""
    text = text.strip()
    found = 0
    for match in _END.finditer(text):
        if _is_end(text, match) and text[: match.start()].strip():
            found += 1
            if found == count:
                return text[: match.end()].strip()
    return text


def split_sentences(text: str) -> list[str]:
    """Return all sentences of a text, none of them empty."""
    sentences, rest = [], text.strip()
    while rest:
        sentence = first_sentences(rest)
        sentences.append(sentence)
        rest = rest[len(sentence) :].strip()
    return sentences


def _is_end(text: str, match: re.Match[str]) -> bool:
    if match.group()[0] != ".":
        return True
    start = match.start()
    while start and not text[start - 1].isspace():
        start -= 1
    word = text[start : match.start()].lstrip("\"'“‘(")
    following = text[match.end() :].lstrip()[:1]
    is_initial = len(word) == 1 and word.isupper() and following.isupper() and word != "I"
    return not is_initial and word.lower() not in ABBREVIATIONS
