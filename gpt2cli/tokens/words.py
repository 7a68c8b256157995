r"""What a word is: a run of letters and digits of the lower-cased text.

"8-grams of lower-cased alphanumeric words with a single space as a delimiter" (Radford et al. 2019, section 4). Lower
case is Unicode's (str.lower), but that the final sigma is the sigma it is anywhere else: so a character's lower case
depends on no other character, and a text may be cut anywhere between two words. A letter or digit is what
str.isalnum() says; all else, the underscore and combining marks too, ends a word. A run of more than MAX_WORD
characters (encoded data, mostly) is no word: no n-gram goes across it.
"""

from __future__ import annotations

import re

DOCUMENT_END = ""
"""What stands in a list of words behind every document: no word, so no n-gram goes across it."""
MAX_WORD = 1024
"""Longest word in characters, so that no run of letters has to be held."""
_FINAL_SIGMA, _SIGMA = "\N{GREEK SMALL LETTER FINAL SIGMA}", "\N{GREEK SMALL LETTER SIGMA}"
_WORD = re.compile(r"[^\W_]+")
_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}


def lower_case(text: str) -> str:
    """Return `text` in lower case, each character for itself."""
    lower = text.lower()
    return lower if text.isascii() else lower.replace(_FINAL_SIGMA, _SIGMA)


def words_of(text: str) -> list[str]:
    """Return the words of a text, in order; those longer than MAX_WORD too, which callers take for a gap."""
    return text.translate(_ASCII).split() if text.isascii() else _WORD.findall(lower_case(text))


def words_of_lower(lower: str) -> list[str]:
    """Return the words of a text that is in lower case already."""
    return lower.translate(_ASCII).split() if lower.isascii() else _WORD.findall(lower)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return where each of words_of(text) stands in `text`: its first character and the one behind its last."""
    lower = lower_case(text)
    spans = [match.span() for match in _WORD.finditer(lower)]
    if len(lower) == len(text):
        return spans
    origin: list[int] = []
    for place, size in enumerate(map(len, map(str.lower, text))):
        origin += [place] * size
    return [(origin[start], origin[stop - 1] + 1) for start, stop in spans]


def last_border(lower: str) -> int:
    """Return where the last word of a lower-cased text that may go on begins, its length if it ends in no word."""
    place = len(lower)
    while place and lower[place - 1].isalnum():
        place -= 1
    return place
