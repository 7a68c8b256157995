r"""Where a text may be cut so that the ids of its parts are the ids of the whole.

GPT-2's pattern (whitespace_marks.PATTERN) looks at nothing to its left, and to its right only from within whitespace.
So:

- Before whitespace that follows something else, a cut is free: a match of the pattern ends there in any case.
- Elsewhere, but beside contractions and the edges of whitespace runs, a cut falls either where a match ends or inside
  a run of one class, which then is cut in two runs of that class. Such a cut keeps the ids if the last id on its left
  and the first on its right, a and b, are what the merges make of their joined bytes, [a, b]. Proof: merging takes the
  lowest rank, the leftmost of equals. Until a merge crosses the cut, both sides merge as they would alone; the first
  that crosses joins a suffix of a with a prefix of b, and would do so in a and b alone.
"""

from __future__ import annotations

import re

WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a" \
    "\u2028\u2029\u202f\u205f\u3000"
r"""Unicode's White_Space, which is what \s means in the pattern (Python's own \s and isspace mean more)."""
_WHITESPACE_BYTES = tuple(character.encode() for character in WHITESPACE)
_CONTRACTION = re.compile(r"'(?:[sdmt]|ll|ve|re)")
_LETTERS_AND_DIGITS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def free_cut(text: str, low: int, high: int) -> int | None:
    """Return a place in `text`, low <= place < high and place >= 1, where a cut is free; None when none is found."""
    for space in " \n":
        place = high
        while (place := text.rfind(space, max(low, 1), place)) >= 0:
            if text[place - 1] not in WHITESPACE:
                return place
    return None


def free_cut_of_bytes(data: bytes, low: int, high: int) -> int | None:
    """Return what free_cut does, for UTF-8, or bytes that will be read as UTF-8 with U+FFFD for what is none."""
    for space in b" ", b"\n":
        place = high
        while (place := data.rfind(space, max(low, 1), place)) >= 0:
            if not data.endswith(_WHITESPACE_BYTES, 0, place):
                return place
    return None


def may_cut(text: str, place: int) -> bool:
    """Whether a cut of `text` before `place` is free or needs only the ids beside it to be looked at.

    2 <= place <= len(text) - 3: contractions are looked for on both sides.
    """
    before, after = text[place - 1], text[place]
    if after in WHITESPACE:
        # A run before other text is matched without its last character, so that one must not be all of the right side.
        return before not in WHITESPACE or text[place + 1] in WHITESPACE
    if before in WHITESPACE or _CONTRACTION.match(text, place - 1):
        return False
    across = _CONTRACTION.match(text, place - 2)
    if across and across.end() > place:
        return False
    return before in _LETTERS_AND_DIGITS or not _CONTRACTION.match(text, place)


def whole_characters(data: bytes) -> int:
    """Return how much of `data` is sure to hold no UTF-8 sequence that goes on behind it: its length, or up to 3 less.

    Cut there, bytes that are no UTF-8 are replaced by as many U+FFFD as if they had been decoded at once.
    """
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < needed else len(data)
        if byte < 0x80:
            break
    return len(data)
