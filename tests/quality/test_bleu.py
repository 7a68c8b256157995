"""BLEU from counts is sacrebleu's; self-BLEU is sacrebleu's sentence BLEU, also with a document left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from gpt2cli.errors import Interrupted
from gpt2cli.quality.bleu import bleu_of_counts
from gpt2cli.quality.ngrams import count_ngrams
from gpt2cli.quality.self_bleu import draw_references, self_bleu
from gpt2cli.reporter import Silent

SENTENCE = BLEU(tokenize="none", effective_order=True)


@st.composite
def counts(draw: st.DrawFn) -> tuple[list[int], list[int], int, int]:
    length = draw(st.integers(0, 12))
    totals = [max(0, length - order) for order in range(4)]
    matched = [draw(st.integers(0, total)) for total in totals]
    return matched, totals, length, draw(st.integers(0, 20))


@given(counts(), st.booleans())
def test_bleu_of_counts_is_that_of_sacrebleu(case: tuple[list[int], list[int], int, int], effective: bool) -> None:
    matched, totals, length, reference = case
    expected = BLEU.compute_bleu(matched, totals, length, reference, "exp", effective_order=effective).score
    found = bleu_of_counts(np.array([matched]), np.array([totals]), np.array([length]), np.array([reference]),
                           effective_order=effective)
    assert found[0] == pytest.approx(expected)


def text(document: list[int]) -> str:
    return " ".join(f"w{unit}" for unit in document)


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 4), max_size=9), max_size=7), st.integers(1, 6), st.integers(0, 3))
def test_self_bleu_is_that_of_sacrebleu(documents: list[list[int]], n_references: int, seed: int) -> None:
    orders = count_ngrams([np.array(document, dtype=np.int64) for document in documents])
    found = self_bleu(orders, n_references, seed, Silent())
    filled = [number for number, document in enumerate(documents) if document]
    assert np.isnan(found.scores_D).tolist() == [not document or len(filled) < 2 for document in documents]
    n = len(filled)
    if n < 2:
        assert (found.mean.value, found.mean.without_D, found.n_references) == (None, None, 0)
        return
    texts = [text(documents[number]) for number in filled]
    drawn = draw_references(n, n_references, seed)
    k = found.n_references
    assert k == min(n_references, n - 1) and drawn.shape == (n, min(n_references + 1, n - 1))
    assert all(len(set(row)) == len(row) and number not in row for number, row in enumerate(drawn.tolist()))

    def score(number: int, references: list[int]) -> float:
        return SENTENCE.sentence_score(texts[number], [texts[other] for other in references]).score

    scores = [score(number, drawn[number, :k].tolist()) for number in range(n)]
    assert found.scores_D[filled].tolist() == pytest.approx(scores)
    assert found.mean.value == pytest.approx(np.mean(scores))
    if n == 2:
        assert found.mean.without_D is None
        return
    for gone in range(n):
        rest = []
        for number in (number for number in range(n) if number != gone):
            references = drawn[number, :k].tolist()
            if gone in references:
                references = [other for other in drawn[number].tolist() if other != gone]
            rest.append(score(number, references))
        assert found.mean.without_D is not None
        assert found.mean.without_D[gone] == pytest.approx(np.mean(rest))


def test_self_bleu_of_copies_is_100_and_of_strangers_0() -> None:
    same, strange = [np.arange(8)] * 5, [np.arange(8) + 8 * number for number in range(5)]
    assert self_bleu(count_ngrams(same), 3, 0, Silent()).mean.value == pytest.approx(100)
    assert self_bleu(count_ngrams(strange), 3, 0, Silent()).mean.value == 0


def test_self_bleu_heeds_a_wish_to_stop() -> None:
    class Stop(Silent):
        def stopping(self) -> bool:
            return True

    with pytest.raises(Interrupted):
        self_bleu(count_ngrams([np.arange(3)] * 3), 2, 0, Stop())
