"""The mean log-probability, or the mean log-rank, of a text's tokens under a model, as a score for detection.

A text is scored after end-of-text, by overlapping windows if it is longer than the context (gpt2 eval-ppl's `sliding`).
Whether generated texts are the likelier or the less likely ones depends on how they were sampled (with temperature 1
they are less likely than human ones, with top-k likelier), so the direction is found on the texts trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpt2cli.detection.detector import LOGRANK
from gpt2cli.detection.measures import auc
from gpt2cli.evaluation.protocols import settle
from gpt2cli.evaluation.scoring import Scorer
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.open_model import ModelChoice, open_model

_BATCH_TOKENS = 2048


class ScoringModel:
    """An open model that gives texts their statistics."""

    def __init__(self, choice: ModelChoice, reporter: Reporter) -> None:
        self._opened = open_model(choice, reporter)
        self.sha256 = self._opened.sha256
        self.tokenizer_sha256 = self._opened.vocabulary.sha256
        self.name = self._opened.source.run or "model " + self.sha256[:8]

    def means(self, texts: Sequence[str], statistic: str, reporter: Reporter) -> np.ndarray:
        """Return each text's mean log-probability in nats, or mean natural log of the rank (1: likeliest), fp64.

        No text is empty. Raises BadInput when the model gives no finite probability, Interrupted when asked to stop.
        """
        opened = self._opened
        protocol = settle("sliding", opened.shape.n_ctx)
        scorer = Scorer(opened.model, opened.vocabulary.eot, protocol, max(_BATCH_TOKENS, protocol.context),
                        details=statistic == LOGRANK)
        ids = [opened.encoder.encode(text) for text in texts]
        sums, tokens = np.zeros(len(texts)), np.zeros(len(texts))
        for window in scorer.score(([one] for one in ids), reporter, sum(map(len, ids))):
            ranks = window.ranks
            values = -window.nll_nats if ranks is None else np.log(ranks)
            sums[window.document] += values.sum(dtype=np.float64)
            tokens[window.document] += len(values)
        return sums / tokens


def choose_direction(human: np.ndarray, generated: np.ndarray) -> int:
    """Return 1 when generated texts have the higher values, else -1."""
    return 1 if auc(human, generated).value >= 0.5 else -1
