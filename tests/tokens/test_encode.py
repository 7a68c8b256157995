"""Ids equal tiktoken's own on everything, and bytes come back."""

from __future__ import annotations

import base64
import functools
import random

import numpy as np
import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput
from gpt2cli.tokens.encode import LONG_RUN, WHITESPACE, Encoder, replace_surrogates, split_long_runs
from gpt2cli.tokens.vocabulary import gpt2_vocabulary

PUBLISHED_PATTERN = (r"""'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")
"""As OpenAI's encoder.py has it."""
TEXTS = [
    "", " ", "hello world", "it's I'LL we've they'd", "a\r\nb\rc\n\n d", "naïve café 東京 🙂‍🔥 العربية עברית",
    "x" * 2000, "\x00\x01\x1c\x1d\x1e\x1f\x7f\x85\xa0\u2028\ufeff", "<|endoftext|> in <|endoftext|>text", "  \t\n  a",
    "1234567 ½ ²",
    "tail   ", "\u3000\u3000全角", "e\u0301", "\ufffd",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(gpt2_vocabulary())


@pytest.fixture(scope="module")
def oracle() -> tiktoken.Encoding:
    """tiktoken with OpenAI's pattern and ranks parsed here from the canonical text."""
    lines = gpt2_vocabulary().tiktoken_text().splitlines()
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in lines}
    return tiktoken.Encoding("oracle", pat_str=PUBLISHED_PATTERN, mergeable_ranks=ranks, special_tokens={})


def test_ids_that_openai_published(encoder: Encoder) -> None:
    assert encoder.encode("hello world").tolist() == [31373, 995]
    assert encoder.encode("<|endoftext|>").tolist() == [27, 91, 437, 1659, 5239, 91, 29]
    assert encoder.decode([50256]) == b"<|endoftext|>"


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_tiktokens_and_bytes_come_back(encoder: Encoder, oracle: tiktoken.Encoding, text: str) -> None:
    ids = encoder.encode(text)
    assert ids.dtype == np.uint32
    assert ids.tolist() == oracle.encode_ordinary(text)
    assert encoder.decode(ids) == text.encode()


@settings(max_examples=300, deadline=None)
@given(st.text())
@example("\u180e\u200b \u2000a")
def test_any_text(text: str) -> None:
    encoder, oracle = _pair()
    assert encoder.encode(text).tolist() == oracle.encode_ordinary(text)
    assert encoder.decode(encoder.encode(text)) == text.encode()


@functools.cache
def _pair() -> tuple[Encoder, tiktoken.Encoding]:
    gpt2 = gpt2_vocabulary()
    oracle = tiktoken.Encoding("oracle", pat_str=PUBLISHED_PATTERN, mergeable_ranks=gpt2.ranks, special_tokens={})
    return Encoder(gpt2), oracle


@pytest.mark.slow
def test_every_code_point(encoder: Encoder, oracle: tiktoken.Encoding) -> None:
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(points), 4096):
        text = "".join(f"a{c} {c}b{c}{c}\n" for c in points[start : start + 4096])
        assert encoder.encode(text).tolist() == oracle.encode_ordinary(text), hex(start)


def test_whitespace_is_what_the_pattern_thinks(oracle: tiktoken.Encoding) -> None:
    r"""`\s+(?!\S)` keeps a run before a letter but for its last character; any other character is taken whole."""
    probe = tiktoken.Encoding("probe", pat_str=r"\s|\S", mergeable_ranks=gpt2_vocabulary().ranks, special_tokens={})
    only_space = tiktoken.Encoding("s", pat_str=r"\s", mergeable_ranks=gpt2_vocabulary().ranks, special_tokens={})
    for point in (*range(0x3100), 0xFEFF):
        character = chr(point)
        assert probe.encode_ordinary(character)
        assert bool(only_space.encode_ordinary(character)) == (character in WHITESPACE), hex(point)


@pytest.mark.parametrize("limit", [2, 3, 7])
def test_runs_are_split_where_nothing_changes(encoder: Encoder, oracle: tiktoken.Encoding, limit: int) -> None:
    """With a tiny limit every run is taken out, so the exactness of the cuts shows on ordinary text."""
    draw = random.Random(limit)
    for _ in range(400):
        text = "".join(draw.choice(["a", "B", "1", ".", "'s", " ", "  ", "\n", "\t", "\u3000", "\xa0", "é"])
                       for _ in range(draw.randrange(30)))
        pieces = list(split_long_runs(text, limit))
        assert "".join(piece for piece, _ in pieces) == text
        ids: list[int] = []
        for piece, whole in pieces:
            assert not whole or not piece.strip(WHITESPACE)
            ids += encoder._encode_piece(piece).tolist() if whole else oracle.encode_ordinary(piece)
        assert ids == oracle.encode_ordinary(text)


@pytest.mark.parametrize("text", ["a" + " " * 200_000 + "b", "\n" * 100_000, " \n\t" * 30_000 + "x",
                                  "b" + "\u3000" * 70_000,
                                  (" " * (LONG_RUN + 1) + "x") * 3, " " * (LONG_RUN - 1) + "é"])
def test_long_runs_that_tiktoken_still_bears(encoder: Encoder, oracle: tiktoken.Encoding, text: str) -> None:
    assert encoder.encode(text).tolist() == oracle.encode_ordinary(text)


@pytest.mark.parametrize("character", [" ", "\n", "a", "!", "é", "7"])
def test_a_million_of_one_character(encoder: Encoder, character: str) -> None:
    text = "x" + character * 1_200_000 + "y"
    assert encoder.decode(encoder.encode(text)) == text.encode()


def test_short_runs_far_apart_are_left_alone() -> None:
    text = ("word " * 20_000) + "\n"
    assert list(split_long_runs(text)) == [(text, False)]


def test_lone_surrogates_are_counted_and_pairs_joined() -> None:
    encoder = Encoder(gpt2_vocabulary())
    assert replace_surrogates("a\ud800b\ud83d\ude42\ufffd") == ("a\ufffdb🙂\ufffd", 1)
    ids = encoder.encode("a\ud800b\udfff")
    assert (encoder.decode(ids), encoder.replaced) == ("a\ufffdb\ufffd".encode(), 2)


def test_ids_outside_are_refused(encoder: Encoder) -> None:
    for ids in ([50257], [-1], np.array([1, 70000])):
        with pytest.raises(BadInput, match="outside the vocabulary of 50257"):
            encoder.decode(ids)
