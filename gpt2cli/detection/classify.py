"""The work of `gpt2 detect DETECTOR FILE...`: a gpt2.detection/1 record for each text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from gpt2cli.detection.calibration import generated_limit, human_limit, p_value
from gpt2cli.detection.detector import Detector
from gpt2cli.detection.detector_file import read_detector
from gpt2cli.detection.scores import Scoring
from gpt2cli.detection.split import is_known
from gpt2cli.detection.texts import Reading, Text, first_words, read_texts, trimmed
from gpt2cli.errors import BadInput, UsageFault, counted
from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.reporter import Reporter

GENERATED, HUMAN, UNDECIDED = VERDICTS = ("generated", "human", "undecided")
_BATCH = 256
"""Texts scored together: memory, not the scores."""


@dataclass(frozen=True)
class ClassifyConfig:
    """Everything `gpt2 detect` was asked for, but where its records go."""

    detector: str
    paths: tuple[str, ...]
    max_false_positives: float = 0.01
    max_false_negatives: float = 0.01
    prevalence: float = 0.5
    model: str | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass
class ClassifySummary:
    """How many texts got which verdict, how many were shorter than the detector asks for, how many it was made with."""

    verdicts: Counter[str] = field(default_factory=Counter)
    short: int = 0
    known: int = 0

    def sentence(self) -> str:
        """Return one line for a person."""
        counts = ", ".join(f"{self.verdicts[verdict]:,} {verdict}" for verdict in VERDICTS)
        return f"{counted(self.verdicts.total(), 'text')}: {counts}"


@dataclass(frozen=True)
class Limits:
    """Scores from which a text is called generated, and to which human; None: never."""

    generated: float | None
    human: float | None

    def verdict(self, score: float) -> str:
        """Return the verdict on a score. Where both limits speak, the two kinds differ too little: undecided."""
        is_generated = self.generated is not None and score > self.generated
        is_human = self.human is not None and score < self.human
        if is_generated == is_human:
            return UNDECIDED
        return GENERATED if is_generated else HUMAN


def limits(detector: Detector, max_false_positives: float, max_false_negatives: float) -> Limits:
    """Return the limits that keep both rates, by the detector's calibration texts."""
    return Limits(human_limit(detector.human, max_false_positives),
                  generated_limit(detector.generated, max_false_negatives))


def classify(config: ClassifyConfig, output: BinaryIO, reporter: Reporter, *, end: bool) -> ClassifySummary:
    """Write a record for each text; end: close with gpt2.end/1.

    Raises UsageFault for a detector or model that is not there or does not fit, BadInput for damaged input or none,
    Interrupted when asked to stop.
    """
    if config.detector == "-" and "-" in config.paths:
        raise UsageFault("standard input can't be the detector and the texts; name a FILE")
    detector = read_detector(config.detector)
    scoring = Scoring(detector, config.model, config.device, config.threads, reporter)
    bounds = limits(detector, config.max_false_positives, config.max_false_negatives)
    _tell_of_limits(detector, bounds, config, reporter)
    summary, reading, writer = ClassifySummary(), Reading(), RecordWriter(output)
    number = 0
    for batch in _batches(read_texts(config.paths, reading, reporter)):
        cut = [first_words(text.text, detector.words) for text in batch]
        summary.short += sum(one is None for one in cut)
        summary.known += sum(is_known(text, detector.known) for text in batch)
        texts = [trimmed(text.text) if one is None else one for text, one in zip(batch, cut, strict=True)]
        for text, used, whole, score in zip(batch, texts, cut, scoring.score(texts), strict=True):
            fields = _fields(text, used, float(score), detector, bounds, config.prevalence)
            if whole is None:
                fields["verdict"] = UNDECIDED
            writer.write("gpt2.detection", {"document": number, **fields})
            summary.verdicts[fields["verdict"]] += 1
            number += 1
    for line in reading.sentences("texts"):
        reporter.warn(line)
    if not number:
        raise BadInput("there is no text to judge; give documents, samples or plain text")
    _tell_of_texts(summary, detector, reporter)
    if end:
        writer.end()
    return summary


def _fields(text: Text, used: str, score: float, detector: Detector, bounds: Limits, prevalence: float
            ) -> dict[str, Any]:
    return {"id": text.id, "probability": float(detector.platt.probability(np.array(score), prevalence)),
            "verdict": bounds.verdict(score), "score": score, "p_human": p_value(score, detector.human),
            "words": len(used.split()), "prevalence": prevalence, "method": detector.method,
            "generated_above": bounds.generated, "human_below": bounds.human}


def _batches(texts: Iterator[Text]) -> Iterator[list[Text]]:
    batch: list[Text] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _tell_of_texts(summary: ClassifySummary, detector: Detector, reporter: Reporter) -> None:
    number = counted(summary.verdicts.total(), "text")
    if summary.short:
        reporter.warn(f"{summary.short:,} of {number} {'has' if summary.short == 1 else 'have'} fewer than the "
                      f"{detector.words:,} words that the detector was calibrated on: no verdict there would keep its "
                      "promise, and the probability is a guess")
    if summary.known:
        reporter.warn(f"{summary.known:,} of {number} {'was' if summary.known == 1 else 'were'} used to make this "
                      "detector, or share a prompt with one that was: verdicts there say nothing of how good it is; "
                      "gpt2 detect report leaves such texts out")


def _tell_of_limits(detector: Detector, bounds: Limits, config: ClassifyConfig, reporter: Reporter) -> None:
    for limit, rate, scores, never in ((bounds.generated, config.max_false_positives, detector.human, GENERATED),
                                       (bounds.human, config.max_false_negatives, detector.generated, HUMAN)):
        if limit is None:
            reporter.warn(f"no text is called {never}: {len(scores):,} texts for calibration can't show a rate of "
                          f"{rate:g}; that takes {math.ceil(1 / rate - 1e-9) - 1:,}, or ask for a higher rate")
