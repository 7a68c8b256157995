"""What a model expected at a position, against the definitions in fp64, one position and one token at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.head import Head
from gpt2cli.evaluation.predictions import Wanted
from gpt2cli.evaluation.protocols import settle
from gpt2cli.evaluation.scoring import Scorer
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.reporter import Silent
from gpt2cli.sizes import ModelShape

WANTED = Wanted(5, (3, 10, 100, 1000), 10)


def test_predictions_are_what_the_whole_softmax_says() -> None:
    generator = torch.Generator().manual_seed(4)
    w, x = (torch.randn(n, 8, generator=generator) for n in (300, 40))
    targets = torch.randint(0, 300, (40,), generator=generator)
    scores = Head(w, 33).score(x, targets, wanted=WANTED)
    found = scores.predictions
    assert found is not None and scores.rank_N is not None
    for row, p in enumerate((x.double() @ w.double().T).softmax(1).numpy()):
        order = np.argsort(-p)
        assert found.top_id_NK[row].tolist() == order[:5].tolist()
        np.testing.assert_allclose(found.top_nll_NK[row], -np.log(p[order[:5]]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.within_NB[row], [p[order[:bound]].sum() for bound in WANTED.bounds], rtol=1e-4)
        parts = np.minimum(np.floor(p / p.max() * 10), 9)
        np.testing.assert_allclose(found.fraction_NF[row], [p[parts == part].sum() for part in range(10)], atol=1e-4)
        entropy = -(p * np.log(p)).sum()
        np.testing.assert_allclose(found.nll_variance_N[row], (p * np.log(p) ** 2).sum() - entropy ** 2, rtol=1e-3)
    plain = Head(w, 33).score(x, targets, details=True)
    for name in ("nll_N", "rank_N", "entropy_N"):
        assert torch.equal(getattr(scores, name), getattr(plain, name)), "asking for predictions changes a number"


def test_equals_share_a_rank_and_are_counted_with_it() -> None:
    scores = Head(torch.zeros(50, 4)).score(torch.ones(1, 4), torch.tensor([7]), wanted=Wanted(2, (1, 10), 4))
    assert scores.rank_N is not None and scores.predictions is not None
    assert scores.rank_N.tolist() == [1]
    torch.testing.assert_close(scores.predictions.within_NB, torch.ones(1, 2))
    torch.testing.assert_close(scores.predictions.top_nll_NK, torch.full((1, 2), math.log(50)))
    torch.testing.assert_close(scores.predictions.nll_variance_N, torch.zeros(1), atol=1e-4, rtol=0)


def test_a_model_that_is_not_sound_is_refused() -> None:
    model = GPT2(ModelShape(1, 1, 8, 16, 40)).eval()
    with torch.no_grad():
        model.ln_f.weight.fill_(float("nan"))
    scorer = Scorer(model, 39, settle("sliding", 16), 64, wanted=WANTED)
    with pytest.raises(BadInput, match="no finite probability"):
        list(scorer.score([[np.arange(9)]], Silent()))
