"""Repetition inside documents, against the definitions written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.quality.ngrams import count_ngrams
from gpt2cli.quality.repetition import loop_length, n_repeated, seq_rep

units = st.lists(st.integers(0, 2), max_size=30)


def array(document: list[int]) -> np.ndarray:
    return np.array(document, dtype=np.int64)


@given(st.lists(units, min_size=1, max_size=4))
def test_seq_rep(documents: list[list[int]]) -> None:
    for order, counts in enumerate(count_ngrams([array(document) for document in documents]), 1):
        values, defined = seq_rep(counts)
        for number, document in enumerate(documents):
            grams = [tuple(document[i : i + order]) for i in range(len(document) - order + 1)]
            assert defined[number] == bool(grams)
            assert values[number] == (pytest.approx(1 - len(set(grams)) / len(grams)) if grams else 0)


@given(units, st.integers(1, 20))
def test_rep(document: list[int], span: int) -> None:
    assert n_repeated(array(document), span) == looked_up(document, span)


def looped(document: list[int]) -> int:
    """The definition: the shortest phrase of two or more units that the document ends in three copies of."""
    for period in range(2, len(document) // 3 + 1):
        end = document[len(document) - 3 * period :]
        if end == end[:period] * 3:
            return period
    return 0


@given(units, st.lists(st.integers(0, 2), min_size=1, max_size=5), st.integers(1, 5))
def test_loops(begin: list[int], phrase: list[int], copies: int) -> None:
    for document in (begin, begin + phrase * copies, begin + phrase * copies + [9]):
        assert loop_length(array(document)) == looped(document)


def test_what_is_a_loop() -> None:
    assert loop_length(array([5, 1, 2, 1, 2, 1, 2])) == 2
    assert loop_length(array([1, 2, 1, 2])) == 0, "twice is not a loop"
    assert loop_length(array([7] * 5)) == 0 and loop_length(array([7] * 6)) == 2, "one word is a phrase of two copies"
    assert loop_length(array([1, 2, 1, 2, 1, 2, 3])) == 0, "it must be at the very end"
    assert loop_length(array([])) == 0


def test_a_long_document_that_nearly_loops() -> None:
    """Every other unit equals the last, so that every other period has to be looked at."""
    hostile = np.tile(array([1, 0]), 20_000)
    hostile[0::997] = 2
    hostile[-1] = 0
    assert loop_length(hostile) == 2
    hostile[-4] = 3
    assert loop_length(hostile) == 0
    assert n_repeated(hostile, 2) == looked_up(hostile.tolist(), 2)


def looked_up(document: list[int], span: int) -> int:
    return sum(unit in document[max(0, place - span) : place] for place, unit in enumerate(document))
