r"""Whether a vocabulary's tokens lie within the pieces of GPT-2's split pattern (whitespace_marks.PATTERN).

A .tiktoken file or a list of merges does not say for which pattern it was made. But every token that merges learned
within GPT-2's pieces is a part of such a piece: letters, digits, or other signs, each with at most one space before, or
whitespace, or an apostrophe's contraction. OpenAI's later vocabularies (cl100k_base, o200k_base) hold others, and read
with GPT-2's pattern they would silently give ids that are not theirs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from gpt2cli.errors import BadInput
from gpt2cli.tokens.exact_cut import WHITESPACE

CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'r", "'v", "'l")
"""And their beginnings, which are tokens on the way."""


def check_split(tokens: Iterable[bytes], name: str) -> None:
    """Raise BadInput when a token holds what GPT-2's pattern would split; `name` is the file for messages."""
    for token in tokens:
        if len(token) > 1 and not _within_a_piece(token):
            raise BadInput(f"{name}: GPT-2's pattern splits its token {token[:40]!r}, so the vocabulary was made for "
                           "another pattern, and its ids would be wrong")


def _within_a_piece(token: bytes) -> bool:
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return True  # a part of a character; what is around it decides its class
    body = text.removeprefix(" ")
    if body.isascii() and (body.isalpha() or body.isdigit()):
        return True
    if text in CONTRACTIONS or all(character in WHITESPACE for character in text):
        return True
    return len({_class(character) for character in body} - {""}) <= 1


def _class(character: str) -> str:
    """L, N, S (space) or O (other); "" for what this Python's Unicode doesn't know yet and tiktoken's may."""
    if character in WHITESPACE:
        return "S"
    category = unicodedata.category(character)
    return "" if category == "Cn" else category[0] if category[0] in "LN" else "O"
