"""The work of `gpt2 detect train`: human and generated texts to a detector, and how good it is on texts kept apart."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

import gpt2cli
from gpt2cli.detection.calibration import fit_platt
from gpt2cli.detection.detector import TFIDF, Detector, LikelihoodRule
from gpt2cli.detection.detector_file import encode_detector
from gpt2cli.detection.measures import Estimate, auc
from gpt2cli.detection.split import Parts, digests, divide
from gpt2cli.detection.texts import (
    SETTING,
    Text,
    common_words,
    cut_all,
    distinct_once_cut,
    read_distinct,
    without_shared,
)
from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.reporter import Reporter

LEAST = 5
"""Texts that each kind needs in each part to train on."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything `gpt2 detect train` was asked for, but where the detector goes.

    words: cut texts to so many, None: chosen, 0: don't cut. model: for the methods that score by one.
    """

    human: tuple[str, ...]
    generated: tuple[str, ...]
    method: str = TFIDF
    model: str | None = None
    words: int | None = None
    test_fraction: float = 0.2
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class TrainSummary:
    """What was trained: texts of each kind by part, words each, and the AUC on the texts for testing, if any."""

    detector: Detector
    n_human: dict[str, int]
    n_generated: dict[str, int]
    auc: Estimate | None

    def sentences(self) -> list[str]:
        """Return what a person is told, a line each."""
        sides = "; ".join(f"{what}: " + ", ".join(f"{n:,} {part}" for part, n in counts.items())
                          for what, counts in (("human", self.n_human), ("generated", self.n_generated)))
        words = f"their first {self.detector.words:,} words" if self.detector.words else "whole"
        lines = [f"texts, {words}: {sides}"]
        training = self.detector.training
        if "c" in training:
            lines.append(f"{training['n_terms']:,} words and pairs, C = {training['c']:g}, accuracy "
                         f"{100 * training['validation_accuracy']:.1f} % on the texts for validation")
        if self.auc is not None:
            lines.append(f"AUC {self.auc.value:.3f} (95 % interval {self.auc.low:.3f} to {self.auc.high:.3f}) on the "
                         "texts for testing; gpt2 detect report says more")
        return lines


def train(config: TrainConfig, output: BinaryIO, reporter: Reporter) -> TrainSummary:
    """Train a detector and write its file.

    Raises UsageFault for options that don't fit, BadInput for damaged, empty or too few texts, what a scoring model
    raises, and Interrupted when asked to stop.
    """
    if (config.method == TFIDF) == (config.model is not None):
        raise UsageFault(f"--method {config.method} " + ("needs no --model" if config.model else "needs --model MODEL"))
    human = read_distinct(config.human, "human texts", reporter)
    generated = read_distinct(config.generated, "generated texts", reporter)
    human, generated = without_shared(human, generated, reporter)
    words = common_words(human, generated) if config.words is None and human and generated else config.words or None
    sides = [divide(_cut(texts, words, what, reporter), config.test_fraction)
             for texts, what in ((human, "human texts"), (generated, "generated texts"))]
    _check(sides, words, reporter)
    known = digests([text for side in sides for part in (side.fit, side.validation, side.calibration) for text in part])
    detector, scores = _fit(config, sides[0], sides[1], words, frozenset(known), reporter)
    output.write(encode_detector(detector))
    tested = [np.asarray(scores(side.test)) for side in sides] if all(side.test for side in sides) else None
    return TrainSummary(detector, _sizes(sides[0]), _sizes(sides[1]), auc(*tested) if tested else None)


def _cut(texts: list[Text], words: int | None, what: str, reporter: Reporter) -> list[Text]:
    cut = cut_all(texts, words)
    if len(cut) < len(texts):
        reporter.note(f"{len(texts) - len(cut):,} of {len(texts):,} {what} have fewer than {words or 1:,} words and "
                      "are left out")
    distinct = distinct_once_cut(cut)
    if len(distinct) < len(cut):
        reporter.note(f"{len(cut) - len(distinct):,} of the {what} begin with the same {words or 0:,} words as another "
                      "and are left out")
    return distinct


def _check(sides: list[Parts], words: int | None, reporter: Reporter) -> None:
    for side, what in zip(sides, ("human", "generated"), strict=True):
        least = min(len(side.fit), len(side.validation), len(side.calibration))
        if least < LEAST:
            raise BadInput(f"too few {what} texts: after the division there are {len(side.fit)} to fit, "
                           f"{len(side.validation)} to validate and {len(side.calibration)} to calibrate, and "
                           f"{LEAST} are needed of each; give more, or fewer --words")
    if words is None:
        medians = [float(np.median([text.n_words for text in side.fit])) for side in sides]
        if max(medians) > 1.1 * min(medians):
            reporter.warn(f"human texts have {medians[0]:g} words and generated ones {medians[1]:g} (medians): the "
                          "detector may learn nothing but length; --words cuts them to the same")


def _fit(config: TrainConfig, human: Parts, generated: Parts, words: int | None, known: frozenset[bytes],
         reporter: Reporter) -> tuple[Detector, Any]:
    tfidf, rule, facts = None, None, _facts(config, human, generated)
    if config.method == TFIDF:
        from gpt2cli.detection.fit_tfidf import fit_tfidf

        fitted = fit_tfidf(*_labelled(human.fit, generated.fit), *_labelled(human.validation, generated.validation),
                           reporter)
        tfidf = fitted.model
        facts |= {"c": fitted.c, "validation_accuracy": fitted.validation_accuracy, "n_terms": len(tfidf.terms),
                  "scikit_learn": importlib.metadata.version("scikit-learn")}

        def scores(texts: list[Text]) -> np.ndarray:
            assert tfidf is not None
            return tfidf.score([text.text for text in texts])
    else:
        from gpt2cli.detection.likelihood import ScoringModel, choose_direction
        from gpt2cli.sampling.open_model import ModelChoice

        model = ScoringModel(ModelChoice(config.model, config.device, "fp32", config.threads), reporter)

        def means(texts: list[Text]) -> np.ndarray:
            return model.means([text.text for text in texts], config.method, reporter)

        direction = choose_direction(means(human.fit + human.validation), means(generated.fit + generated.validation))
        rule = LikelihoodRule(config.method, direction, model.sha256, model.tokenizer_sha256, model.name)

        def scores(texts: list[Text]) -> np.ndarray:
            return direction * means(texts)

    of_human, of_generated = scores(human.calibration), scores(generated.calibration)
    platt = fit_platt(of_human, of_generated)
    if not platt.slope:
        reporter.warn("on the texts for calibration, human ones score no lower than generated ones: this detector "
                      "tells nothing")
    return Detector(config.method, words, platt, of_human, of_generated, known, tfidf, rule, facts), scores


def _labelled(human: list[Text], generated: list[Text]) -> tuple[list[str], np.ndarray]:
    return [text.text for text in human + generated], np.repeat([0, 1], [len(human), len(generated)])


def _sizes(side: Parts) -> dict[str, int]:
    return {"fit": len(side.fit), "validation": len(side.validation), "calibration": len(side.calibration),
            "test": len(side.test)}


def _facts(config: TrainConfig, human: Parts, generated: Parts) -> dict[str, Any]:
    settings = Counter(text.setting for text in generated.fit)
    named = [{**dict(zip(SETTING, setting, strict=True)), "n": n} if setting else {"n": n}
             for setting, n in sorted(settings.items(), key=lambda item: str(item[0]))]
    return {"version": gpt2cli.__version__, "test_fraction": config.test_fraction, "n_human": _sizes(human),
            "n_generated": _sizes(generated), "settings": named, "calibration": "platt"}
