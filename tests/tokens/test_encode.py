"""Ids equal tiktoken's own on everything, and an encoder's written from the definition; and bytes come back."""

from __future__ import annotations

import base64
import functools
import random
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import regex
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput
from gpt2cli.tokens.encode import WINDOW, Encoder
from gpt2cli.tokens.exact_cut import WHITESPACE
from gpt2cli.tokens.unicode_loss import replace_surrogates
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary

PUBLISHED_PATTERN = (r"""'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")
"""As OpenAI's encoder.py has it."""
TEXTS = [
    "", " ", "hello world", "it's I'LL we've they'd", "a\r\nb\rc\n\n d", "naïve café 東京 🙂‍🔥 العربية עברית",
    "x" * 2000, "\x00\x01\x1c\x1d\x1e\x1f\x7f\x85\xa0\u2028\ufeff", "<|endoftext|> in <|endoftext|>text", "  \t\n  a",
    "1234567 ½ ²",
    "tail   ", "\u3000\u3000全角", "e\u0301", "\ufffd", "''s'll'LL 'tis can''t",
    "देवनागरी ไทย 한국어", "Ελληνικά Кириллица",
    "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪", "-" * 300 + "=" * 300, "a\tb\x0bc\x0cd\r\r\n",
]
ALPHABETS = [
    ["a", "b", "'"], ["'s", "'", "ll", "'re", "x", "!", "r", "e"], [" ", "\n", "a"], [" "], ["a"], ["-", "=", "'"],
    ["東", "京", "。", "\u3000"], ["é", "e", "\u0301"], list("abcdefghijklmnop"), ["1", "7", "a", " ", "!"],
    ["\n", "\r\n", " ", "\t", "x"], ["🙂", "\u200d", "a"], ["\x85", "\xa0", " ", "b"], ["'", "s", " "], ["'t"],
]
"""What runs are made of that are hard to cut: no spaces, only spaces, contractions, characters of several ids."""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(gpt2_vocabulary())


@pytest.fixture(scope="module")
def oracle() -> tiktoken.Encoding:
    """tiktoken with OpenAI's pattern and ranks parsed here from the canonical text."""
    lines = gpt2_vocabulary().tiktoken_text().splitlines()
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in lines}
    return tiktoken.Encoding("oracle", pat_str=PUBLISHED_PATTERN, mergeable_ranks=ranks, special_tokens={})


def by_definition(text: str, vocabulary: Vocabulary) -> Iterator[int]:
    """Yield ids as OpenAI's encoder.py finds them: split by the regex module, the lowest rank merged, again and again.

    Linear memory and n log n time in the length of a piece: what is merged is found in a heap.
    """
    import heapq

    ranks = vocabulary.ranks
    for piece in regex.findall(PUBLISHED_PATTERN, text):
        parts: list[bytes | None] = [bytes([byte]) for byte in piece.encode()]
        after, before = list(range(1, len(parts) + 1)), list(range(-1, len(parts) - 1))
        heap = [(ranks[pair], at, pair) for at in range(len(parts) - 1)
                if (pair := parts[at] + parts[at + 1]) in ranks]  # type: ignore[operator]
        heapq.heapify(heap)
        while heap:
            _, at, pair = heapq.heappop(heap)
            left, right = parts[at], parts[after[at]] if after[at] < len(parts) else None
            if left is None or right is None or left + right != pair:
                continue
            gone = after[at]
            parts[at], parts[gone] = pair, None
            after[at] = after[gone]
            if after[at] < len(parts):
                before[after[at]] = at
            for start in (before[at], at):
                if start >= 0 and after[start] < len(parts):
                    both = parts[start] + parts[after[start]]  # type: ignore[operator]
                    if both in ranks:
                        heapq.heappush(heap, (ranks[both], start, both))
        yield from (ranks[part] for part in parts if part is not None)


def streamed(encoder: Encoder, text: str, size: int) -> list[int]:
    """Encode `text` handed over in pieces of `size` characters."""
    pieces = (text[start : start + size] for start in range(0, len(text), size))
    return [int(number) for ids in encoder.encode_stream(pieces) for number in ids]


def test_ids_that_openai_published(encoder: Encoder) -> None:
    assert encoder.encode("hello world").tolist() == [31373, 995]
    assert encoder.encode("<|endoftext|>").tolist() == [27, 91, 437, 1659, 5239, 91, 29]
    assert encoder.decode([50256]) == b"<|endoftext|>"


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_tiktokens_and_the_definitions_and_bytes_come_back(
    encoder: Encoder, oracle: tiktoken.Encoding, text: str
) -> None:
    ids = encoder.encode(text)
    assert ids.dtype == np.uint32
    assert ids.tolist() == oracle.encode_ordinary(text) == list(by_definition(text, gpt2_vocabulary()))
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
    """Alone, doubled, behind and before letters, digits, spaces and apostrophes; the empty planes more briefly."""
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(points), 4096):
        chunk = points[start : start + 4096]
        if start < 0x34000 or start >= 0xE0000 - 0x800 - 4096 > start - 8192:
            text = "".join(f"a{c} {c}b{c}{c}\n1{c}'{c}s  {c} \n{c}" for c in chunk)
            assert streamed(encoder, text, 10_000) == oracle.encode_ordinary(text), hex(start)
        else:
            text = "".join(f"a{c} {c}\n" for c in chunk)
            assert encoder.encode(text).tolist() == oracle.encode_ordinary(text), hex(start)
    for point in points[:0x3400]:
        assert encoder.encode(point).tolist() == oracle.encode_ordinary(point), hex(ord(point))


def test_whitespace_is_what_the_pattern_thinks() -> None:
    r"""The cuts rest on it: \s of the native matcher, character by character."""
    only_space = tiktoken.Encoding("s", pat_str=r"\s", mergeable_ranks=gpt2_vocabulary().ranks, special_tokens={})
    for point in (*range(0x3100), 0xFEFF):
        assert bool(only_space.encode_ordinary(chr(point))) == (chr(point) in WHITESPACE), hex(point)


@pytest.mark.parametrize("window", [8, 16, 64, 300])
def test_windows_change_no_id(oracle: tiktoken.Encoding, window: int) -> None:
    """With a tiny window every text is cut, so the exactness of the cuts shows on hard text of all kinds."""
    encoder = Encoder(gpt2_vocabulary(), window)
    draw = random.Random(window)
    for _ in range(600):
        alphabet = draw.choice(ALPHABETS)
        text = "".join(draw.choice(alphabet) for _ in range(draw.randrange(window * 6)))
        assert streamed(encoder, text, draw.randrange(1, 50)) == oracle.encode_ordinary(text), repr(text)


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=20))
def test_windows_change_no_id_of_any_text(text: str) -> None:
    assert streamed(_narrow(), text, 7) == _pair()[1].encode_ordinary(text)


@functools.cache
def _narrow() -> Encoder:
    return Encoder(gpt2_vocabulary(), 12)


@pytest.mark.parametrize("text", ["a" + " " * 200_000 + "b", "\n" * 100_000, " \n\t" * 30_000 + "x", "ab" * 50_000,
                                  "b" + "\u3000" * 70_000, "'s" * 50_000, "'" * 90_000 + "re", "=" * 150_000,
                                  (" " * (WINDOW + 1) + "x") * 3, " " * (WINDOW - 1) + "é", "東" * 80_000,
                                  "x" * (WINDOW + 1), "a" * WINDOW + " b", "é" * 70_000 + "'s"])
def test_long_runs_that_tiktoken_still_bears(encoder: Encoder, oracle: tiktoken.Encoding, text: str) -> None:
    assert encoder.encode(text).tolist() == oracle.encode_ordinary(text)


def test_whitespace_on_which_tiktoken_panics(encoder: Encoder, oracle: tiktoken.Encoding) -> None:
    """More than a million whitespace characters before a letter: the definition says what the ids are."""
    text = "a" + " \n" * 600_000 + " b"
    with pytest.raises(BaseException, match=r"(?i)panic|backtrack|unwrap|stack") as caught:
        oracle.encode_ordinary(text)
    assert not isinstance(caught.value, Exception)
    assert encoder.encode(text).tolist() == list(by_definition(text, gpt2_vocabulary()))


@pytest.mark.parametrize("character", [" ", "\n", "a", "!", "é", "7", "'"])
def test_a_million_of_one_character(encoder: Encoder, character: str) -> None:
    text = "x" + character * 1_200_000 + "y"
    assert encoder.decode(encoder.encode(text)) == text.encode()


def test_a_long_run_needs_no_memory_to_speak_of(encoder: Encoder) -> None:
    """encode_stream holds windows, not the run."""
    def pieces() -> Iterator[str]:
        for _ in range(24):
            yield "x" * 100_000

    tracemalloc.start()
    total = sum(len(ids) for ids in encoder.encode_stream(pieces()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == len(encoder.encode("x" * 2_400_000))
    assert peak < 4_000_000


def test_lone_surrogates_are_replaced_and_pairs_joined(encoder: Encoder) -> None:
    assert replace_surrogates("a\ud800b\ud83d\ude42\ufffd") == ("a\ufffdb🙂\ufffd", 1)
    assert encoder.decode(encoder.encode("a\ud800b\udfff")) == "a\ufffdb\ufffd".encode()


def test_ids_outside_are_refused(encoder: Encoder) -> None:
    for ids in ([50257], [-1], np.array([1, 70000])):
        with pytest.raises(BadInput, match="outside the vocabulary of 50257"):
            encoder.decode(ids)
