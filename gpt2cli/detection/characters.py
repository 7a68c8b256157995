"""Tokens to text that may be shown: whole characters where tokens cut them, and nothing that acts instead of showing.

GPT-2's tokens are bytes, so one character may be several tokens (and a token may end in the middle of one): such
tokens are shown together.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gpt2cli.sampling.text import open_character

_JOINERS = "\u200c\u200d"
"""Format characters that scripts and emoji need."""
_MARKS = str.maketrans({" ": "\u00b7", "\n": "\u21b5", "\t": "\u21e5"})


def visible(text: str) -> str:
    r"""Return `text` with every character that acts instead of showing written as an escape, such as \u202e.

    Those are control characters (but newline and tab), bidi controls and other invisible ones, U+2028 and U+2029,
    surrogates, and code points that are no characters.
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\t\n" or not acts(c) else _escape(ord(c)) for c in text)


def acts(character: str) -> bool:
    """Whether a character does something to the text about it, or can't be seen at all."""
    category = unicodedata.category(character)
    if category in ("Cc", "Cs", "Zl", "Zp"):
        return True
    if category == "Cf":
        return character not in _JOINERS
    code = ord(character)
    return category == "Cn" and (code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF)


def token_label(data: bytes) -> str:
    r"""Return one token's bytes in a form that shows every byte: a space as a middle dot, part of a character as \xe2.

    Newline and tab are arrows, other invisible characters escapes. It is for people: not every label can be read back.
    """
    return visible(data.decode("utf-8", "backslashreplace")).translate(_MARKS)


@dataclass(frozen=True)
class Group:
    """Tokens `first` to `stop` of a text, which together are the characters of `text`."""

    text: str
    first: int
    stop: int


def character_groups(ids: Iterable[int], token_bytes: Sequence[bytes]) -> Iterator[Group]:
    """Put tokens together until they end where a character ends; yield the groups, in order.

    Bytes that can be no UTF-8, and a character that the last token leaves open, are U+FFFD.
    """
    held, first, stop = b"", 0, 0
    for stop, token in enumerate(ids, 1):
        held += token_bytes[token]
        if not open_character(held):
            yield Group(held.decode("utf-8", "replace"), first, stop)
            held, first = b"", stop
    if stop > first:
        yield Group(held.decode("utf-8", "replace"), first, stop)


def _escape(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
