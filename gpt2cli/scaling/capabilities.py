"""Evaluations of models of several sizes, ready to draw: a metric against parameters; no drawing here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import Record
from gpt2cli.sizes import ALIASES, SIZES

TEXT_METRICS = {
    "nll_nats_per_token": "n_tokens", "ppl": "n_tokens", "word_ppl": "n_words", "byte_ppl": "n_bytes",
    "bits_per_byte": "n_bytes", "bits_per_character": "n_characters",
}
"""Metric of a gpt2.eval record -> the count that it divides by."""
TITLES = {
    "nll_nats_per_token": "loss (nats per token)", "ppl": "perplexity per token", "word_ppl": "perplexity per word",
    "byte_ppl": "perplexity per byte", "bits_per_byte": "bits per byte", "bits_per_character": "bits per character",
    "acc": "accuracy (share of items)", "perplexity": "perplexity", "exact_match": "exact match (share of items)",
    "bleu": "BLEU (0 to 100)", "brier_score": "Brier score", "mcc": "Matthews correlation",
}
"""Metric -> title of its axis, with the unit; another metric's is its name."""
_LOSSES = (*TEXT_METRICS, "perplexity")
_CLEAN = ", without overlap"
"""Ends the name of a score from which what was met in training was left out."""
MAX_PANELS = 6


@dataclass(frozen=True)
class Point:
    """One model's measure. stderr None: unknown. `tokens` orders the checkpoints of one size; 0: unknown, as FLOP."""

    n_params: float
    value: float
    stderr: float | None
    run: str
    tokens: float
    flops: float = 0.0


@dataclass
class Series:
    """One metric of one task or text, by model size; `published` has the paper's models as (size, n_params, value)."""

    label: str
    metric: str
    points: list[Point] = field(default_factory=list)
    published: list[tuple[str, float, float]] = field(default_factory=list)

    def line(self) -> list[Point]:
        """Return the most trained model of each size, small first."""
        best = {point.n_params: point for point in sorted(self.points, key=lambda point: point.tokens)}
        return [best[n_params] for n_params in sorted(best)]


@dataclass(frozen=True)
class Panel:
    """All series of one metric, which share an axis."""

    metric: str
    series: list[Series]

    @property
    def title(self) -> str:
        """What the vertical axis shows, with its unit."""
        if self.metric in TITLES:
            return TITLES[self.metric]
        return f"{self.metric} (share of items)" if self.metric.startswith("acc_") else self.metric

    @property
    def logarithmic(self) -> bool:
        """Whether the vertical axis is: losses and perplexities, which are all positive."""
        values = [point.value for series in self.series for point in series.points]
        values += [value for series in self.series for _, _, value in series.published]
        return self.metric in _LOSSES and min(values) > 0


def panels(evaluations: Sequence[Record], tasks: Sequence[Record], sizes: Mapping[str, float],
           metrics: Sequence[str] = ()) -> list[Panel]:
    """Return a panel for each metric, by name, with a series for each task or text.

    sizes: n_params by run, for evaluations that do not say it. metrics: those wanted; none: what a preset compares,
    else the loss, and all of every task. Raises BadInput when nothing has a number of parameters, UsageFault for a
    metric that is not there or for more than MAX_PANELS.
    """
    found: dict[tuple[str, str], Series] = {}
    offered: set[str] = set()
    for key, label, metric, point, published in [*_of_texts(evaluations, sizes, metrics), *_of_tasks(tasks)]:
        offered.add(metric)
        if metrics and metric not in metrics:
            continue
        series = found.setdefault((metric, key), Series(label, metric))
        if point not in series.points:
            series.points.append(point)
        series.published = series.published or published
    if not offered and not metrics:
        raise BadInput("no evaluation says how many parameters its model has and measures something")
    missing = [metric for metric in metrics if metric not in offered]
    if missing:
        offered.update(name for record in evaluations for name in TEXT_METRICS if _number(record.get(name)) is not None)
        raise UsageFault(f"no evaluation measures {missing[0]}; there is {', '.join(sorted(offered)) or 'nothing'}")
    names = sorted({metric for metric, _ in found})
    if len(names) > MAX_PANELS:
        raise UsageFault(f"the evaluations measure {len(names)} metrics ({', '.join(names)}); choose up to "
                         f"{MAX_PANELS} by --metric")
    return [Panel(name, _told_apart([found[each] for each in sorted(found) if each[0] == name])) for name in names]


_Row = tuple[str, str, str, Point, list[tuple[str, float, float]]]


def _of_texts(evaluations: Sequence[Record], sizes: Mapping[str, float], metrics: Sequence[str]) -> Iterator[_Row]:
    for record in evaluations:
        n_params = _positive(record.get("n_params", sizes.get(str(record["run"]))))
        if n_params is None:
            continue
        protocol = record["protocol"] if isinstance(record["protocol"], dict) else {}
        digest = str(record.get("val_sha256") or record.get("text_sha256") or "")
        own = record.get("metric") if record.get("metric") in TEXT_METRICS else None
        label = str(protocol.get("name")) if own else str(record["split"] or f"text {digest[:8]}".strip())
        label += _CLEAN * ("exclude_overlap" in protocol)
        key = json.dumps([label, protocol, digest], sort_keys=True)
        for metric in [each for each in metrics if each in TEXT_METRICS] or [own or "nll_nats_per_token"]:
            value = _number(record.get(metric))
            if value is not None:
                published = _published(record.get("published"), 1.0) if metric == own else []
                yield key, label, metric, _point(record, n_params, value, _text_error(record, metric, value)), published


def _text_error(record: Record, metric: str, value: float) -> float | None:
    """Return the standard error of a measure of a text from that of its nll a token, to first order."""
    stderr, tokens = _number(record.get("stderr")), _positive(record.get("n_tokens"))
    units = _positive(record.get(TEXT_METRICS[metric]))
    if stderr is None or tokens is None or units is None:
        return None
    error = stderr * tokens / units
    if metric.endswith("ppl"):
        return error * value
    return error / math.log(2) if metric.startswith("bits") else error


def _of_tasks(tasks: Sequence[Record]) -> Iterator[_Row]:
    for record in tasks:
        n_params, metrics = _positive(record["n_params"]), record["metrics"]
        if n_params is None or not isinstance(metrics, dict):
            continue
        shots = _number(record["num_fewshot"])
        label = f"{record['task']}, {shots:g}-shot" if shots else str(record["task"])
        label += _CLEAN * (isinstance(record["protocol"], dict) and "exclude_overlap" in record["protocol"])
        rows = [row for row in _list(record.get("published")) if isinstance(row, dict)]
        for metric, measure in metrics.items():
            value = _number(measure.get("value")) if isinstance(measure, dict) else None
            if value is None:
                continue
            published = [point for row in rows if row.get("metric") == metric
                         for point in _published(row.get("paper"), 0.01 if str(row.get("unit")).endswith("%") else 1.0)]
            key = json.dumps([label, str(record.get("data_sha256"))])
            yield key, label, metric, _point(record, n_params, value, _number(measure.get("stderr"))), published


def _point(record: Record, n_params: float, value: float, stderr: float | None) -> Point:
    return Point(n_params, value, stderr, str(record["run"]), _number(record["tokens"]) or 0.0,
                 _number(record["flops"]) or 0.0)


def _published(values: Any, scale: float) -> list[tuple[str, float, float]]:
    if not isinstance(values, dict):
        return []
    entries = []
    for size, value in values.items():
        shape, number = SIZES.get(ALIASES.get(size) or size), _number(value)
        if shape is not None and number is not None:
            entries.append((size, float(shape.n_params), number * scale))
    return sorted(entries, key=lambda entry: entry[1])


def _told_apart(series: list[Series]) -> list[Series]:
    """Number the series that would have one name: the same text or task by other protocols or data."""
    labels = [each.label for each in series]
    for i, each in enumerate(series):
        if labels.count(each.label) > 1:
            each.label = f"{labels[i]} ({labels[: i + 1].count(labels[i])})"
    return series


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e100 < value < 1e100:
        return None
    return float(value)


def _positive(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None
