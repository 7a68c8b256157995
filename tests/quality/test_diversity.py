"""Distinct-n, its value at a fixed size, vocabulary and Zipf: against the definitions, and left out one by one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gpt2cli.quality import diversity
from gpt2cli.quality.ngrams import NgramCounts, count_ngrams
from gpt2cli.quality.uncertainty import LeftOut

Documents = list[list[int]]
sets_of_documents = st.lists(st.lists(st.integers(0, 5), max_size=10), min_size=1, max_size=6)


def counted(documents: Documents, order: int) -> NgramCounts:
    return count_ngrams([np.array(document, dtype=np.int64) for document in documents])[order - 1]


def grams_of(documents: Documents, order: int) -> list[tuple[int, ...]]:
    return [tuple(d[i : i + order]) for d in documents for i in range(len(d) - order + 1)]


def check_left_out(found: LeftOut, documents: Documents, value: Callable[[Documents], float | None]) -> None:
    """What is said of the set without a document is what is measured without it; None where one can't be."""
    assert found.value == pytest.approx(value(documents))
    without = [value(documents[:n] + documents[n + 1 :]) for n in range(len(documents))]
    if found.value is None or None in without:
        assert found.without_D is None
    else:
        assert found.without_D is not None and found.without_D.tolist() == pytest.approx(without, abs=1e-9)


@given(sets_of_documents, st.integers(1, 4))
def test_distinct(documents: Documents, order: int) -> None:
    def value(some: Documents) -> float | None:
        grams = grams_of(some, order)
        return len(set(grams)) / len(grams) if grams else None

    check_left_out(diversity.distinct(counted(documents, order)), documents, value)


@given(sets_of_documents, st.integers(1, 4), st.integers(1, 12))
def test_distinct_at_a_size(documents: Documents, order: int, size: int) -> None:
    def value(some: Documents) -> float | None:
        """The expectation in whole numbers: an n-gram is missed by C(N - f, size) of C(N, size) draws."""
        grams = grams_of(some, order)
        if len(grams) < size:
            return None
        draws = math.comb(len(grams), size)
        hit = (1 - Fraction(math.comb(len(grams) - f, size), draws) for f in Counter(grams).values())
        return float(sum(hit) / size)

    check_left_out(diversity.distinct_at(counted(documents, order), size), documents, value)


def test_distinct_at_a_size_is_the_mean_over_all_draws() -> None:
    documents = [[0, 1, 0, 2, 0], [1, 3, 3]]
    draws = [len(set(draw)) / 4 for draw in combinations(documents[0] + documents[1], 4)]
    found = diversity.distinct_at(counted(documents, 1), 4)
    assert found.value == pytest.approx(sum(draws) / len(draws))
    assert diversity.distinct_at(counted(documents, 1), 8).value == diversity.distinct(counted(documents, 1)).value


def test_distinct_at_a_size_does_not_know_how_large_the_text_is() -> None:
    """The plain measure halves when a text of the same kind grows; this one stays within its noise."""
    generator = np.random.default_rng(0)
    weights = 1 / np.arange(1, 2001)
    draw = [generator.choice(2000, 100, p=weights / weights.sum()) for _ in range(400)]
    small, large = counted([d.tolist() for d in draw[:40]], 1), counted([d.tolist() for d in draw], 1)
    plain = diversity.distinct(small).value, diversity.distinct(large).value
    fixed = diversity.distinct_at(small, 1000).value, diversity.distinct_at(large, 1000).value
    assert plain[0] > 2 * plain[1]
    assert fixed[0] == pytest.approx(fixed[1], rel=0.03)


@given(sets_of_documents)
def test_vocabulary(documents: Documents) -> None:
    check_left_out(diversity.vocabulary(counted(documents, 1)), documents,
                   lambda some: float(len(set(grams_of(some, 1)))))


@given(sets_of_documents, st.integers(2, 8))
def test_zipf(documents: Documents, ranks: int) -> None:
    def value(some: Documents) -> float | None:
        frequencies = sorted(Counter(grams_of(some, 1)).values(), reverse=True)[:ranks]
        if len(frequencies) < 2:
            return None
        return -float(stats.linregress(np.log(np.arange(1, len(frequencies) + 1)), np.log(frequencies)).slope)

    check_left_out(diversity.zipf(counted(documents, 1), ranks), documents, value)


def test_zipf_of_a_power_law_is_its_power() -> None:
    documents = [[word] * round(1e5 / (word + 1) ** 1.2) for word in range(300)]
    assert diversity.zipf(counted(documents, 1)).value == pytest.approx(1.2, abs=1e-3)
