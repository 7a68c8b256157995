"""How expected a text's tokens were, in counts, and beside each count what the model's own samples would give.

The three histograms of GLTR (Gehrmann, Strobelt and Rush 2019): ranks, p / p_max, and entropies of the predictions.
The comparison needs no samples: had the model drawn each token itself (temperature 1, the whole vocabulary) after the
same words, a rank up to 10 would have come with the probability of its ten likeliest tokens, and the nll would have
been the entropy in the mean. What is left over is a sum of martingale differences, so its standard error is the root
of the summed conditional variances; as "conditional probability curvature" it is Fast-DetectGPT's criterion (Bao et
al. 2024, arXiv:2310.05130, equation 5, with the scoring model as the sampling model).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpt2cli.evaluation.scoring import WindowScores

RANK_BOUNDS = (10, 100, 1000)
"""GLTR's classes: a rank up to 10, up to 100, up to 1,000, beyond."""
N_CLASSES = len(RANK_BOUNDS) + 1
FRACTIONS = 10
"""Bars of the histogram of p / p_max."""


def rank_classes(ranks: np.ndarray) -> np.ndarray:
    """Return the class of each rank [n], counted from 0: which of RANK_BOUNDS it is within, or none."""
    return np.searchsorted(RANK_BOUNDS, ranks, side="left")


class RankTally:
    """Sums over the tokens of one document, or of several. n_vocab bounds the entropy and so its histogram."""

    def __init__(self, n_vocab: int) -> None:
        self.n_tokens = 0
        self.nll = self.entropy = self.variance = 0.0
        self.classes = np.zeros(N_CLASSES, np.int64)
        self.within = np.zeros(len(RANK_BOUNDS))
        self.fractions = np.zeros(FRACTIONS, np.int64)
        self.expected_fractions = np.zeros(FRACTIONS)
        self.entropies = np.zeros(max(1, math.ceil(math.log(n_vocab))), np.int64)

    def add(self, scores: WindowScores) -> None:
        """Take in the tokens of one window, whose predictions were asked for."""
        assert scores.ranks is not None and scores.entropies is not None and scores.predictions is not None
        nll = scores.nll_nats.astype(np.float64)
        of_max = np.exp(scores.predictions.top_nll_NK[:, 0].numpy().astype(np.float64) - nll)
        self.n_tokens += len(nll)
        self.nll += float(nll.sum())
        self.entropy += float(scores.entropies.sum(dtype=np.float64))
        self.variance += float(scores.predictions.nll_variance_N.double().sum())
        self.classes += np.bincount(rank_classes(scores.ranks), minlength=N_CLASSES)
        self.within += scores.predictions.within_NB.double().sum(0).numpy()
        self.fractions += np.bincount(np.minimum(of_max * FRACTIONS, FRACTIONS - 1).astype(np.int64),
                                      minlength=FRACTIONS)
        self.expected_fractions += scores.predictions.fraction_NF.double().sum(0).numpy()
        last = len(self.entropies) - 1
        self.entropies += np.bincount(np.clip(scores.entropies, 0, last).astype(np.int64), minlength=last + 1)

    def include(self, other: RankTally) -> None:
        """Take in the tokens of another tally of the same vocabulary."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def expected_classes(self) -> np.ndarray:
        """The tokens of each class that the model's own samples would have in the mean, fp64 [classes]."""
        edges = np.concatenate([[0.0], np.minimum(self.within, self.n_tokens), [float(self.n_tokens)]])
        return np.maximum(np.diff(edges), 0.0)

    @property
    def surprise(self) -> float | None:
        """(nll - entropy) over its standard error: 0 in the mean, 1 in deviation for the model's own samples.

        Below: the text is more predictable than they are; above: less. None where the model is certain of everything.
        """
        return (self.nll - self.entropy) / math.sqrt(self.variance) if self.variance > 0 else None

    def as_fields(self) -> dict[str, Any]:
        """Return the JSON fields that a gpt2.gltr record has of a document's counts; see gpt2-records(5)."""
        n = self.n_tokens
        return {
            "n_tokens": n, "nll_nats_per_token": self.nll / n, "entropy_nats_per_token": self.entropy / n,
            "surprise": self.surprise,
            "ranks": {"bounds": list(RANK_BOUNDS), "counts": self.classes.tolist(),
                      "shares": (self.classes / n).tolist(), "expected_shares": (self.expected_classes / n).tolist()},
            "p_of_max": {"counts": self.fractions.tolist(), "shares": (self.fractions / n).tolist(),
                         "expected_shares": (self.expected_fractions / n).tolist()},
            "entropy_nats": {"counts": self.entropies.tolist(), "shares": (self.entropies / n).tolist()},
        }
