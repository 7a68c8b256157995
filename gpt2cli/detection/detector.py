"""A trained detector: what gives a text its score, and what turns scores into probabilities and verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt2cli.detection.calibration import Platt
from gpt2cli.detection.tfidf import TfidfModel

TFIDF, LOGPROB, LOGRANK = METHODS = ("tfidf", "logprob", "logrank")


@dataclass(frozen=True)
class LikelihoodRule:
    """Which statistic of which model is the score, times direction (1 or -1). name: the model's, for messages."""

    statistic: str
    direction: int
    model_sha256: str
    tokenizer_sha256: str
    name: str


@dataclass(frozen=True)
class Detector:
    """Exactly one of `tfidf` and `rule` is there, as `method` says.

    words: how many first words of a text it judges, None all. human, generated: scores of the calibration texts.
    known: digests (split.DIGEST_BYTES each) of the texts it was made with. training: facts about its making.
    """

    method: str
    words: int | None
    platt: Platt
    human: np.ndarray
    generated: np.ndarray
    known: frozenset[bytes]
    tfidf: TfidfModel | None = None
    rule: LikelihoodRule | None = None
    training: dict[str, Any] = field(default_factory=dict)
