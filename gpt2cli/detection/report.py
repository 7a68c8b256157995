"""The work of `gpt2 detect report`: how good a detector is on human and generated texts that it was not made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from gpt2cli.detection.calibration import calibration_error, human_limit
from gpt2cli.detection.detector import Detector
from gpt2cli.detection.detector_file import read_detector
from gpt2cli.detection.evidence import evidence_of
from gpt2cli.detection.measures import auc, balanced_accuracy, proportion
from gpt2cli.detection.scores import Scoring
from gpt2cli.detection.split import is_known
from gpt2cli.detection.texts import SETTING, Text, cut_all, first_words, read_distinct, without_shared
from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.reporter import Reporter

RATES = (0.1, 0.05, 0.01, 0.001)
"""False-positive rates whose thresholds are told unless others are asked for."""
PREVALENCES = (0.5, 0.1, 0.01)
"""Shares of generated texts that the evidence is told for unless others are asked for."""
_SHORTEST = 8


@dataclass(frozen=True)
class ReportConfig:
    """Everything `gpt2 detect report` was asked for, but where its records go. lengths: in words; empty: chosen."""

    detector: str
    human: tuple[str, ...]
    generated: tuple[str, ...]
    lengths: tuple[int, ...] = ()
    rates: tuple[float, ...] = RATES
    prevalences: tuple[float, ...] = PREVALENCES
    model: str | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Scored:
    """Texts of both kinds with their scores."""

    human: np.ndarray
    generated: np.ndarray
    settings: list[tuple[Any, ...] | None]


def report(config: ReportConfig, output: BinaryIO, reporter: Reporter, *, end: bool) -> list[dict[str, Any]]:
    """Write gpt2.detection-report/1 records: by length, by setting, and last over all; return their fields.

    Texts that the detector was made with, or that share a prompt with one, are left out and counted.
    Raises UsageFault for a detector, model or length that does not fit, BadInput when no text of a kind is left,
    Interrupted.
    """
    detector = read_detector(config.detector)
    if detector.words is not None and (beyond := max(config.lengths, default=0)) > detector.words:
        raise UsageFault(f"--length {beyond:,} is beyond the first {detector.words:,} words, which are all that this "
                         "detector reads; train one with more --words")
    scoring = Scoring(detector, config.model, config.device, config.threads, reporter)
    human, generated = (read_distinct(paths, what, reporter) for paths, what in
                        ((config.human, "human texts"), (config.generated, "generated texts")))
    human, generated = without_shared(human, generated, reporter)
    human, generated = (_unknown(texts, what, detector, reporter)
                        for texts, what in ((human, "human texts"), (generated, "generated texts")))
    human, generated = (_long_enough(texts, what, detector.words, reporter)
                        for texts, what in ((human, "human texts"), (generated, "generated texts")))
    records = [_by_length(words, human, generated, scoring, detector)
               for words in _reached(config.lengths, human, generated, reporter) or _lengths(detector.words)
               if _reach(words, human) and _reach(words, generated)]
    scored = _score(human, generated, scoring)
    records += _by_setting(scored, detector)
    records.append(_all(scored, detector, config))
    writer = RecordWriter(output)
    for fields in records:
        writer.write("gpt2.detection-report", fields)
    if end:
        writer.end()
    return records


def _unknown(texts: list[Text], what: str, detector: Detector, reporter: Reporter) -> list[Text]:
    kept = [text for text in texts if not is_known(text, detector.known)]
    if len(kept) < len(texts):
        reporter.note(f"{len(texts) - len(kept):,} of {len(texts):,} {what} were used to make the detector, or "
                      "continue a prompt that was, and are left out")
    return kept


def _long_enough(texts: list[Text], what: str, words: int | None, reporter: Reporter) -> list[Text]:
    kept = [text for text in texts if first_words(text.text, words) is not None]
    if len(kept) < len(texts):
        reporter.note(f"{len(texts) - len(kept):,} of {len(texts):,} {what} have fewer than {words or 1} words and are "
                      "left out")
    if not kept:
        raise BadInput(f"there are no {what} left to test on: none is long enough and new to the detector")
    return [replace(text, text=str(first_words(text.text, words))) for text in kept]


def _lengths(words: int | None) -> tuple[int, ...]:
    """Return powers of two below `words`, and `words`."""
    longest = words or 1024
    powers = [_SHORTEST << power for power in range(32) if _SHORTEST << power < longest]
    return (*powers, longest) if words else tuple(powers)


def _reached(lengths: Sequence[int], human: Sequence[Text], generated: Sequence[Text], reporter: Reporter
             ) -> tuple[int, ...]:
    """Return the lengths asked for, each once; say which of them no text of one kind has."""
    distinct = tuple(dict.fromkeys(lengths))
    for words in distinct:
        for texts, what in ((human, "human"), (generated, "generated")):
            if not _reach(words, texts):
                reporter.warn(f"--length {words:,}: no {what} text has as many words; nothing is measured there")
    return distinct


def _reach(words: int, texts: Sequence[Text]) -> bool:
    return any(first_words(text.text, words) is not None for text in texts)


def _score(human: Sequence[Text], generated: Sequence[Text], scoring: Scoring) -> Scored:
    scores = scoring.score([text.text for text in [*human, *generated]])
    return Scored(scores[: len(human)], scores[len(human) :], [text.setting for text in generated])


def _by_length(words: int, human: Sequence[Text], generated: Sequence[Text], scoring: Scoring, detector: Detector
               ) -> dict[str, Any]:
    scored = _score(cut_all(human, words), cut_all(generated, words), scoring)
    return {"group": "length", "words": words, **_measures(scored.human, scored.generated, detector)}


def _by_setting(scored: Scored, detector: Detector) -> list[dict[str, Any]]:
    records = []
    for setting in sorted(set(scored.settings), key=_place):
        chosen = np.array([one == setting for one in scored.settings])
        named = dict(zip(SETTING, setting or (None,) * len(SETTING), strict=True))
        records.append({"group": "setting", "words": detector.words, **named,
                        **_measures(scored.human, scored.generated[chosen], detector)})
    return records


def _place(setting: tuple[Any, ...] | None) -> tuple[tuple[bool, float], ...]:
    """Return where a setting stands: unknown ones first, then by temperature, top-k and top-p, without before with."""
    return tuple((value is not None, value or 0.0) for value in setting or (None,) * len(SETTING))


def _measures(human: np.ndarray, generated: np.ndarray, detector: Detector) -> dict[str, Any]:
    """Return accuracy, where a probability above a half says generated, and AUC, with their intervals."""
    true_human = proportion(int((detector.platt.probability(human) <= 0.5).sum()), len(human))
    true_generated = proportion(int((detector.platt.probability(generated) > 0.5).sum()), len(generated))
    accuracy, area = balanced_accuracy(true_human, true_generated), auc(human, generated)
    return {"n_human": len(human), "n_generated": len(generated), "accuracy": accuracy.value,
            "accuracy_interval": accuracy.interval, "auc": area.value, "auc_interval": area.interval,
            "human_right": true_human.value, "human_right_interval": true_human.interval,
            "generated_right": true_generated.value, "generated_right_interval": true_generated.interval}


def _all(scored: Scored, detector: Detector, config: ReportConfig) -> dict[str, Any]:
    scores = np.concatenate([scored.human, scored.generated])
    labels = np.repeat([0, 1], [len(scored.human), len(scored.generated)])
    error, bins = calibration_error(detector.platt.probability(scores), labels)
    thresholds = [_threshold(rate, scored, detector) for rate in config.rates]
    return {"group": "all", "words": detector.words, **_measures(scored.human, scored.generated, detector),
            "method": detector.method, "calibration": "platt", "calibration_error": error, "calibration_bins": bins,
            "intervals": "95 %: auc DeLong on the logit scale (Newcombe's method 5 at 0 and 1), rates Wilson, accuracy "
                         "their square and add",
            "thresholds": thresholds, "evidence": evidence_of(thresholds, config.prevalences)}


def _threshold(rate: float, scored: Scored, detector: Detector) -> dict[str, Any]:
    """Return the threshold that the calibration texts give for a false-positive rate, and what it does here."""
    limit = human_limit(detector.human, rate)
    if limit is None:
        return {"max_false_positives": rate, "score": None, "probability": None}
    false = proportion(int((scored.human > limit).sum()), len(scored.human))
    found = proportion(int((scored.generated > limit).sum()), len(scored.generated))
    return {"max_false_positives": rate, "score": limit,
            "probability": float(detector.platt.probability(np.array(limit))),
            "false_positives": false.value, "false_positives_interval": false.interval,
            "found": found.value, "found_interval": found.interval}
