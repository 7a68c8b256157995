"""Item records back to the values that measures over all items are made of: labels, probabilities, pairs of texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpt2cli.evaluation.paired_records import MOST, ScoredItem
from gpt2cli.evaluation.text_metrics import TEXT_METRICS

LABELS, PROBABILITIES = "labels", "probabilities"


def answers_for(metric: str, takes: str, items: Sequence[ScoredItem]) -> list[Any] | None:
    """Return each item's value of `metric`, whose aggregation takes `takes`; None when one record does not hold it.

    What the metric's own options were is in no record; a metric of texts that heeds options is no corpus measure.
    """
    if takes == LABELS:
        values: list[Any] = [_labels(item.answer) for item in items]
    elif takes == PROBABILITIES:
        values = [_probabilities(item.answer) for item in items]
    else:
        name, _, pipeline = metric.partition(",")
        measure = TEXT_METRICS.get(name)
        values = [_of_texts(item.answer, pipeline, measure) if measure else None for item in items]
    return None if any(value is None for value in values) else values


def _labels(answer: Mapping[str, Any]) -> tuple[int, int] | None:
    gold, guess = _index(answer.get("target")), _index(answer.get("prediction"))
    return None if gold is None or guess is None else (gold, guess)


def _probabilities(answer: Mapping[str, Any]) -> tuple[int, list[float]] | None:
    gold, nats = _index(answer.get("target")), answer.get("loglikelihoods_nats")
    if gold is None or not isinstance(nats, list) or not nats:
        return None
    if not all(isinstance(each, int | float) and -MOST < each < MOST for each in nats):
        return None
    shifted = [math.exp(each - max(nats)) for each in nats]
    return gold, [each / math.fsum(shifted) for each in shifted]


def _of_texts(answer: Mapping[str, Any], pipeline: str, measure: Callable[..., Any]) -> Any:
    found = answer.get("predictions")
    guess = found.get(pipeline) if isinstance(found, dict) else answer.get("prediction")
    target = answer.get("target")
    references = target if isinstance(target, list) else [target]
    if not isinstance(guess, str) or not references or any(isinstance(each, dict | list) for each in references):
        return None
    return None if target is None else measure(guess, [str(each) for each in references], {})


def _index(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31 else None
