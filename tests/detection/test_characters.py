"""Tokens are shown as whole characters, and nothing that is shown does anything."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import small_vocabulary

from gpt2cli.detection.characters import character_groups, token_label, visible
from gpt2cli.tokens.encode import Encoder

ENCODER = Encoder(small_vocabulary())
TOKENS = ENCODER.vocabulary.token_bytes()


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_groups_are_the_text_in_whole_characters_and_as_small_as_may_be(text: str) -> None:
    ids = ENCODER.encode(text).tolist()
    groups = list(character_groups(ids, TOKENS))
    assert "".join(group.text for group in groups) == text
    assert [place for group in groups for place in range(group.first, group.stop)] == list(range(len(ids)))
    for group in groups:
        for cut in range(group.first + 1, group.stop):
            begun = b"".join(TOKENS[token] for token in ids[group.first : cut])
            with pytest.raises(UnicodeDecodeError):
                begun.decode()


@given(st.lists(st.integers(0, 499), max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_tokens_can_be_shown(ids: list[int]) -> None:
    groups = list(character_groups(ids, TOKENS))
    assert sum(group.stop - group.first for group in groups) == len(ids)
    assert b"".join(TOKENS[token] for token in ids).decode("utf-8", "replace").replace("\ufffd", "") == "".join(
        group.text for group in groups).replace("\ufffd", "")


def test_a_character_that_the_end_leaves_open_is_shown_as_one_that_is_not_known() -> None:
    ids = ENCODER.encode("a\u20ac").tolist()
    assert [(group.text, group.stop - group.first) for group in character_groups(ids[:-1], TOKENS)] == [
        ("a", 1), ("\ufffd", 2)]


@pytest.mark.parametrize(("text", "shown"), [
    ("a\x00b", r"a\x00b"), ("\x1b[31m", r"\x1b[31m"), ("\x9b", r"\x9b"), ("\r\n\t", "\\x0d\n\t"), ("\u202e", r"\u202e"),
    ("\u2028\u2029", r"\u2028\u2029"), ("\u200b\ufeff\u2066", r"\u200b\ufeff\u2066"), ("\ud800", r"\ud800"),
    ("\ufffe\U0001fffe\ufdd0", r"\ufffe\U0001fffe\ufdd0"), ("\U000e0041", r"\U000e0041"),
    ("e\u0301 \u0628 \U0001f468\u200d\U0001f469", "e\u0301 \u0628 \U0001f468\u200d\U0001f469"),
    ("\u65e5<&", "\u65e5<&"),
])
def test_what_acts_is_escaped_and_nothing_else(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
@settings(deadline=None)
def test_nothing_visible_acts(text: str) -> None:
    categories = {unicodedata.category(character) for character in visible(text) if character not in "\t\n\u200c\u200d"}
    assert categories.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})


def test_labels_show_every_byte() -> None:
    assert token_label(b" the") == "\u00b7the"
    assert token_label(b"\n\t") == "\u21b5\u21e5"
    assert token_label("é".encode()[:1]) == r"\xc3"
    assert token_label(b"\x00") == r"\x00"
