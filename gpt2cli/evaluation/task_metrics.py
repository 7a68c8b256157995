"""What items' values become: each metric's aggregation, its direction and its standard error, as lm_eval has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.evaluation.task import MetricChoice, Result
from gpt2cli.evaluation.text_metrics import corpus_bleu, corpus_chrf, corpus_chrf_plus, corpus_ter

LIKELIHOOD = ("loglikelihood", "cloze")
CHOICE = ("multiple_choice",)
GENERATED = ("generate_until",)


@dataclass(frozen=True)
class Aggregation:
    """How values become one number, and how its standard error comes: "mean", "bootstrap" or None.

    takes: what its values are; a metric can be aggregated by whatever takes the same.
    most: a bound on the bootstrap's resamples, for a function that is slow.
    """

    function: Callable[[Sequence[Any]], float]
    stderr: str | None = "bootstrap"
    takes: str = "numbers"
    most: int | None = None


@dataclass(frozen=True)
class Metric:
    """For which types of task there is a metric, how it is aggregated unless the task says, whether more is better.

    options: the further keys that its entry of a metric_list may hold.
    """

    types: tuple[str, ...]
    aggregation: str = "mean"
    higher_is_better: bool = True
    options: tuple[str, ...] = ()


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _perplexity(values: Sequence[float]) -> float:
    return math.exp(-_mean(values))


def _brier_score(values: Sequence[tuple[int, Sequence[float]]]) -> float:
    return _mean([math.fsum((p - (index == gold)) ** 2 for index, p in enumerate(ps)) for gold, ps in values])


def _f1(values: Sequence[tuple[int, int]]) -> float:
    """F1 of class 1, as scikit-learn's default; 0 where nothing is 1."""
    both = sum(gold == guess == 1 for gold, guess in values)
    either = sum((gold == 1) + (guess == 1) for gold, guess in values)
    return 2 * both / either if either else 0.0


def _matthews(values: Sequence[tuple[int, int]]) -> float:
    """Matthews' correlation for any number of classes (Gorodkin 2004); 0 where one side is constant."""
    n, right = len(values), sum(gold == guess for gold, guess in values)
    classes = {label for pair in values for label in pair}
    golds = {label: sum(gold == label for gold, _ in values) for label in classes}
    guesses = {label: sum(guess == label for _, guess in values) for label in classes}
    above = right * n - sum(golds[label] * guesses[label] for label in classes)
    below = (n * n - sum(c * c for c in golds.values())) * (n * n - sum(c * c for c in guesses.values()))
    return above / math.sqrt(below) if below else 0.0


AGGREGATIONS: dict[str, Aggregation] = {
    "mean": Aggregation(_mean, "mean"),
    "median": Aggregation(_median),
    "perplexity": Aggregation(_perplexity),
    "brier_score": Aggregation(_brier_score, takes="probabilities"),
    "f1": Aggregation(_f1, takes="labels"),
    "matthews_corrcoef": Aggregation(_matthews, takes="labels"),
    "bleu": Aggregation(corpus_bleu, takes="n-gram counts"),
    "chrf": Aggregation(corpus_chrf, takes="texts", most=100),
    "chrf++": Aggregation(corpus_chrf_plus, takes="texts", most=100),
    "ter": Aggregation(corpus_ter, takes="edits"),
}
"""Name in a task file -> aggregation."""

METRICS: dict[str, Metric] = {
    "acc": Metric((*LIKELIHOOD, *CHOICE)),
    "perplexity": Metric(LIKELIHOOD, "perplexity", False),
    "acc_norm": Metric(CHOICE),
    "acc_bytes": Metric(CHOICE),
    "acc_mutual_info": Metric(CHOICE),
    "exact_match": Metric((*CHOICE, *GENERATED), options=("ignore_case", "ignore_punctuation", "ignore_numbers",
                                                          "regexes_to_ignore")),
    "brier_score": Metric(CHOICE, "brier_score", False),
    "f1": Metric(CHOICE, "f1"),
    "mcc": Metric(CHOICE, "matthews_corrcoef"),
    "acc_partial": Metric(("substitution",)),
    "acc_full": Metric(("substitution",)),
    "squad_em": Metric(GENERATED),
    "squad_f1": Metric(GENERATED),
    "coqa_f1": Metric(GENERATED),
    "bleu": Metric(GENERATED, "bleu"),
    "chrf": Metric(GENERATED, "chrf"),
    "chrf++": Metric(GENERATED, "chrf++"),
    "ter": Metric(GENERATED, "ter", False),
    **{kind: Metric(GENERATED, options=("use_stemmer",)) for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum")},
}
"""Name in a task file -> metric."""

DEFAULT_METRICS: dict[str, tuple[str, ...]] = {
    "loglikelihood": ("perplexity", "acc"),
    "cloze": ("perplexity", "acc"),
    "multiple_choice": ("acc", "acc_norm"),
    "substitution": ("acc_partial", "acc_full"),
    "generate_until": ("exact_match",),
}
"""What is measured where a task file has no metric_list."""


def default_metrics(kind: str) -> tuple[MetricChoice, ...]:
    """Return the metrics of a type of task whose file names none."""
    return tuple(MetricChoice(name, METRICS[name].aggregation, METRICS[name].higher_is_better)
                 for name in DEFAULT_METRICS[kind])


def summarise(metrics: Sequence[MetricChoice], values: Mapping[str, Sequence[Any]], resamples: int, seed: int,
              ) -> dict[str, dict[str, Any]]:
    """Return each metric's value, standard error and what they are, from all items' values.

    The standard error of a mean is the sample standard deviation over the root of n; of any other aggregation that of
    `resamples` bootstrap samples of the items (0: none). None: there is none, or not for a single item.
    """
    found = {}
    for metric in metrics:
        column = values[metric.name]
        aggregation = AGGREGATIONS[metric.aggregation]
        stderr, method = _standard_error(column, aggregation, resamples, seed)
        found[metric.name] = {
            "value": _finite(aggregation.function, column), "stderr": stderr, "stderr_method": method,
            "aggregation": metric.aggregation, "higher_is_better": metric.higher_is_better, "n": len(column),
        }
    return found


def columns(results: Sequence[Result], metrics: Sequence[MetricChoice]) -> Iterator[tuple[str, list[Any]]]:
    """Yield (metric name, the values of all results) of each metric."""
    for metric in metrics:
        yield metric.name, [result.values[metric.name] for result in results]


def _standard_error(column: Sequence[Any], aggregation: Aggregation, resamples: int, seed: int
                    ) -> tuple[float | None, str | None]:
    n = len(column)
    if n < 2 or aggregation.stderr is None:
        return None, None
    if aggregation.stderr == "mean":
        mean = _mean(column)
        return math.sqrt(math.fsum((value - mean) ** 2 for value in column) / (n - 1) / n), "sample"
    count = min(resamples, aggregation.most or resamples)
    if count < 2:
        return None, None
    random = np.random.Generator(np.random.Philox(key=seed))
    known = []
    for _ in range(count):
        draw = _finite(aggregation.function, [column[i] for i in random.integers(0, n, n).tolist()])
        if draw is not None:
            known.append(draw)
    if len(known) < count:
        return None, None
    mean = math.fsum(known) / count
    return math.sqrt(math.fsum((draw - mean) ** 2 for draw in known) / (count - 1)), f"bootstrap of {count}"


def _finite(function: Callable[[Sequence[Any]], float], column: Sequence[Any]) -> float | None:
    try:
        value = float(function(column))
    except OverflowError:
        return None
    return value if math.isfinite(value) else None
