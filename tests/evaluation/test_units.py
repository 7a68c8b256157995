"""Words, bytes and characters of texts in parts, and the ids of documents in parts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.evaluation.protocols import RE_SPLIT, WHITESPACE
from gpt2cli.evaluation.token_feed import TokenFeed
from gpt2cli.evaluation.units import UnitCounter, Units, empty_text_units

texts = st.text(st.sampled_from("ab \n\t\r\u2028\x85\x1c\u00a0\u00e9\U0001f600\ufeff"), max_size=12)


@given(st.lists(texts, max_size=6))
def test_parts_count_as_their_text(parts: list[str]) -> None:
    text = "".join(parts)
    for word, words in ((WHITESPACE, len(text.split())), (RE_SPLIT, len(re.split(r"\s+", text)))):
        counter = UnitCounter(word)
        for part in parts:
            counter.add(part)
        assert counter.units == Units(words, len(text.encode()), len(text))
        assert counter.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_an_empty_document_is_a_word_only_where_splitting_gives_one() -> None:
    assert empty_text_units(WHITESPACE) == Units()
    assert empty_text_units(RE_SPLIT) == Units(n_words=len(re.split(r"\s+", "")))


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=8), st.booleans(), st.integers(1, 6))
def test_a_feed_reaches_and_gives_what_the_whole_sequence_holds(chunks: list[list[int]], bos: bool, keep: int) -> None:
    whole = [99] * bos + [id for chunk in chunks for id in chunk]
    feed = TokenFeed((np.array(chunk, dtype=np.uint16) for chunk in chunks), 99 if bos else None)
    last = max(0, len(whole) - 1)
    for asked in range(len(whole) + 2):
        assert feed.reach(asked) == min(asked, last)
        start = max(0, min(asked, last) - keep)
        assert feed.take(start, min(asked, last)).tolist() == whole[start : min(asked, last)]
        feed.forget(start)


def test_a_feed_of_an_endless_document_holds_a_window() -> None:
    def chunks() -> Iterator[np.ndarray]:
        while True:
            yield np.arange(1000)

    feed = TokenFeed(chunks(), 7)
    for start in range(0, 1_000_000, 500):
        assert feed.reach(start + 1024) == start + 1024
        feed.forget(start)
        assert len(feed._held) < 4096


@pytest.mark.parametrize("word", [WHITESPACE, RE_SPLIT])
def test_units_add(word: str) -> None:
    assert Units(1, 2, 3) + Units(10, 20, 30) == Units(11, 22, 33)
