"""N-grams counted once agree with those read off by the definition, document by document."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.quality.ngrams import count_ngrams
from gpt2cli.quality.units import UnitIds, split_words
from gpt2cli.tokens.vocabulary import gpt2_vocabulary

sets_of_documents = st.lists(st.lists(st.integers(0, 4), max_size=12), max_size=6)


@given(sets_of_documents)
def test_counts_are_those_of_the_definition(documents: list[list[int]]) -> None:
    arrays = [np.array(document, dtype=np.int64) for document in documents]
    for order, counts in enumerate(count_ngrams(arrays), 1):
        grams = [[tuple(d[i : i + order]) for i in range(len(d) - order + 1)] for d in documents]
        pooled = Counter(gram for document in grams for gram in document)
        assert counts.n_grams == sum(map(len, grams)) and counts.sizes_D.tolist() == [len(d) for d in grams]
        assert sorted(counts.totals_G.tolist()) == sorted(pooled.values())
        assert counts.distinct_D.tolist() == [len(set(d)) for d in grams]
        for number, document in enumerate(grams):
            ids, own = counts.of_document(number)
            assert sorted(own.tolist()) == sorted(Counter(document).values())
            assert sorted(zip(counts.totals_G[ids].tolist(), own.tolist(), strict=True)) == sorted(
                (pooled[gram], count) for gram, count in Counter(document).items())
        sums = counts.sum_by_document(counts.counts_E)
        assert sums.tolist() == [len(d) for d in grams]


def test_words() -> None:
    assert split_words("Don't stop, O'Neill\u2019s dog_1!") == ["Don't", "stop", ",", "O'Neill\u2019s", "dog_1", "!"]
    assert split_words(" 'tis\t\u00e9t\u00e9 ...\n") == ["'", "tis", "\u00e9t\u00e9", ".", ".", "."]
    marked = ["e\u0301", "\u0939\u093f\u0928\u094d\u0926\u0940"]
    assert split_words(" ".join(marked)) == marked, "marks belong to their letters"
    assert split_words(" \n") == [] and split_words("The the") == ["The", "the"]


def test_the_same_word_has_the_same_number_in_every_text() -> None:
    units = UnitIds()
    first, second = units.ids("a b a"), units.ids("b c")
    assert first[0] == first[2] != first[1] == second[0] and second[1] not in first
    assert units.ids("").shape == (0,)


def test_tokens_are_those_of_the_vocabulary() -> None:
    units = UnitIds("token")
    assert units.ids("Hello world").tolist() == [15496, 995] and units.tokenizer_sha256 == gpt2_vocabulary().sha256
