"""Marked text gives PLAIN the pieces that the published pattern finds, and joined texts those of each alone."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import regex
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.exact_cut import WHITESPACE
from gpt2cli.tokens.vocabulary import gpt2_vocabulary
from gpt2cli.tokens.whitespace_marks import END, MARK, PLAIN, mark_whitespace

PUBLISHED = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")
ENGINE = regex.compile(PLAIN)
SPACED = st.text(st.sampled_from(WHITESPACE + "ab1'!é東🙂\u200b\x1c\x04\x07") | st.characters(codec="utf-8"),
                 max_size=40)
"""Text that is largely whitespace of every kind, and characters that only look like it."""


@functools.cache
def encoders() -> tuple[Encoder, tiktoken.Encoding]:
    gpt2 = gpt2_vocabulary()
    return Encoder(gpt2), tiktoken.Encoding("oracle", pat_str=PUBLISHED.pattern, mergeable_ranks=gpt2.ranks,
                                            special_tokens={})


def held_controls(text: str) -> bool:
    return MARK in text.encode() or END in text.encode()


@settings(max_examples=500, deadline=None)
@given(SPACED)
@example(" \u3000a")
@example("\u3000 a")
@example("a\xa0\xa0")
@example("\u2003\u2003\u2003東")
@example("\n\n \x85b")
def test_the_pieces_are_the_published_patterns(text: str) -> None:
    if held_controls(text):
        return
    marked = mark_whitespace(text.encode()).decode()
    assert marked.replace(MARK.decode(), "") == text
    assert ENGINE.findall(marked) == PUBLISHED.findall(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(SPACED | st.text(st.sampled_from(" \n\x05\x06a"), max_size=9), max_size=8))
@example(["a \n", "  b", "", " ", "\u3000\u3000"])
@example(["a\x05 \n b", "c", "\x06\x06", "  d"])
def test_documents_encoded_together_are_each_alone(texts: list[str]) -> None:
    encoder, oracle = encoders()
    tokens, lengths = encoder.encode_documents([text.encode() for text in texts])
    alone = [[*oracle.encode_ordinary(text), 50256] for text in texts]
    assert tokens.dtype == np.uint32
    assert tokens.tolist() == [number for ids in alone for number in ids]
    assert lengths.tolist() == [len(ids) for ids in alone]


@pytest.mark.parametrize("size", [16, 100])
def test_documents_longer_than_a_window_stand_among_the_others(size: int) -> None:
    _, oracle = encoders()
    texts = ["a  b", "x \n\n y" * 40, "", "it's\x05  so\x06", "東京\u3000\u3000 z" * 30, "end  "]
    tokens, lengths = Encoder(gpt2_vocabulary(), window=size).encode_documents([text.encode() for text in texts])
    alone = [[*oracle.encode_ordinary(text), 50256] for text in texts]
    assert tokens.tolist() == [number for ids in alone for number in ids]
    assert lengths.tolist() == [len(ids) for ids in alone]


@pytest.mark.parametrize("control", ["\x05", "\x06"])
def test_text_that_holds_a_mark_itself(control: str) -> None:
    encoder, oracle = encoders()
    for text in (control, f"a{control}b", f"  {control}  x", f"{control}{control} \n {control}", f"a \n{control}"):
        ids = encoder.encode(text)
        assert ids.tolist() == oracle.encode_ordinary(text)
        assert encoder.decode(ids) == text.encode()


def test_runs_that_made_tiktoken_panic_beside_a_mark_of_their_own() -> None:
    encoder, _ = encoders()
    text = "\x05" + " " * 1_500_000 + "a\x05"
    assert encoder.decode(encoder.encode(text)) == text.encode()
