"""The scores of texts under a detector. torch is imported only for a detector that scores by a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gpt2cli.detection.detector import Detector
from gpt2cli.errors import UsageFault
from gpt2cli.reporter import Reporter

if TYPE_CHECKING:
    from gpt2cli.detection.likelihood import ScoringModel


class Scoring:
    """A detector ready to score texts, with its model open if it needs one."""

    def __init__(self, detector: Detector, model: str | None, device: str, threads: int | None, reporter: Reporter
                 ) -> None:
        """Raises UsageFault when a model is missing, needless, or not the one that the detector was trained with."""
        self.detector = detector
        self._reporter = reporter
        self._model: ScoringModel | None = None
        rule = detector.rule
        if rule is None and model is not None:
            raise UsageFault("this detector counts words and needs no --model")
        if rule is not None:
            if model is None:
                raise UsageFault(f"this detector scores texts by the model {rule.name}; name its place with --model")
            self._model = _open(model, device, threads, reporter)
            if self._model.sha256 != rule.model_sha256:
                raise UsageFault(f"{model} is not the model {rule.name} that this detector was trained with (sha256 "
                                 f"{rule.model_sha256[:12]}): its thresholds would mean nothing")

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the score (fp64) of each text, higher for generated. The texts are cut already, and none is empty."""
        if self.detector.tfidf is not None:
            return self.detector.tfidf.score(texts)
        assert self.detector.rule is not None and self._model is not None
        rule = self.detector.rule
        return rule.direction * self._model.means(texts, rule.statistic, self._reporter)


def _open(model: str, device: str, threads: int | None, reporter: Reporter) -> ScoringModel:
    from gpt2cli.detection.likelihood import ScoringModel
    from gpt2cli.sampling.open_model import ModelChoice

    return ScoringModel(ModelChoice(model, device, "fp32", threads), reporter)
