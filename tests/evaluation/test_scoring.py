"""The head for scoring, against the model itself and fp64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import lively_model

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.evaluation.head import Head
from gpt2cli.evaluation.protocols import settle
from gpt2cli.evaluation.scoring import Scorer, WindowScores
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.reporter import Silent
from gpt2cli.sizes import ModelShape


@pytest.fixture(scope="module")
def model() -> GPT2:
    return lively_model(ModelShape(3, 2, 16, 32, 500))


@pytest.mark.parametrize("rows", [1, 33, 256])
def test_nll_rank_and_entropy_are_those_of_the_whole_softmax(rows: int) -> None:
    generator = torch.Generator().manual_seed(2)
    w, x = (torch.randn(n, 32, generator=generator) for n in (500, 70))
    targets = torch.randint(0, 500, (70,), generator=generator)
    logits = x.double() @ w.double().T
    log_p = logits.log_softmax(1)
    of_target = log_p.gather(1, targets[:, None])
    scores, plain = Head(w, rows).score(x, targets, details=True), Head(w, rows).score(x, targets)
    torch.testing.assert_close(scores.nll_N.double(), -of_target[:, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain.nll_N, scores.nll_N, rtol=1e-5, atol=1e-5)
    assert scores.rank_N is not None and scores.entropy_N is not None
    assert scores.rank_N.tolist() == ((log_p > of_target).sum(1) + 1).tolist()
    torch.testing.assert_close(scores.entropy_N.double(), -(log_p.exp() * log_p).sum(1), rtol=1e-5, atol=1e-5)
    assert (plain.rank_N, plain.entropy_N) == (None, None)
    assert Head(w).score(x[:0], targets[:0]).nll_N.shape == (0,)


def scored(model: GPT2, documents: list[list[np.ndarray]], budget: int) -> list[WindowScores]:
    return list(Scorer(model, 499, settle("sliding", 32, 16, 5), budget).score(documents, Silent()))


def test_scores_come_in_order_and_whatever_the_budget_and_the_chunks(model: GPT2) -> None:
    rng = np.random.default_rng(3)
    documents = [rng.integers(0, 499, size) for size in (1, 90, 3, 40, 0, 17, 200)]
    one = scored(model, [[ids] for ids in documents], 1)
    for budget, size in ((64, 7), (5000, 1000)):
        cut = [[ids[at : at + size] for at in range(0, len(ids), size)] for ids in documents]
        other = scored(model, cut, budget)
        assert [(s.document, s.first) for s in other] == [(s.document, s.first) for s in one]
        for a, b in zip(other, one, strict=True):
            assert a.ids.tolist() == b.ids.tolist()
            np.testing.assert_allclose(a.nll_nats, b.nll_nats, rtol=1e-4, atol=1e-4)
        assert sum(s.nll for s in other) == pytest.approx(sum(s.nll for s in one), rel=1e-6)
    for number, ids in enumerate(documents):
        assert [token for s in one if s.document == number for token in s.ids] == ids.tolist()


def test_a_wish_to_stop_is_heard(model: GPT2) -> None:
    class Stopping(Silent):
        def stopping(self) -> bool:
            return True

    with pytest.raises(Interrupted):
        list(Scorer(model, 499, settle("sliding", 32), 64).score([[np.arange(9)]], Stopping()))


def test_weights_that_are_not_sound_are_told(model: GPT2) -> None:
    broken = lively_model(ModelShape(1, 2, 16, 32, 500))
    with torch.no_grad():
        broken.wte.weight[3] = float("nan")
    with pytest.raises(BadInput, match="no finite probability"):
        scored(broken, [[np.arange(9)]], 64)
