"""The eval-diff command's work: two evaluations of the same data in; the paired difference of each measure out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, UsageFault, counted
from gpt2cli.evaluation.corpus_answers import PROBABILITIES, answers_for
from gpt2cli.evaluation.paired import Difference, Resampling, corpus_difference, mcnemar, ratio_difference
from gpt2cli.evaluation.paired_records import (
    Evaluation,
    ScoredItem,
    check_same_data,
    n_documents,
    paired_documents,
    paired_items,
    read_evaluation,
)
from gpt2cli.evaluation.task_metrics import AGGREGATIONS
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter

MODEL = ("run", "step", "tokens", "flops", "n_params", "dtype", "model_sha256", "tokenizer_sha256")
"""What a record says of each side's model, where its evaluation knew it."""
CONDITIONS = ("type", "num_fewshot", "protocol", "dtype", "tokenizer_sha256", "task_sha256", "units_sha256")
"""What may differ besides the model, and is said when it does."""
MOST_OF_ALL_ITEMS = 1000
"""Most resamples of a measure that is computed anew from all items each time."""
_LOGLIKELIHOOD = "loglikelihood_nats"


@dataclass(frozen=True)
class DiffConfig:
    """Everything `gpt2 eval-diff` was asked for, but where its records go."""

    a: str
    b: str
    drawing: Resampling = field(default_factory=Resampling)


def compare(config: DiffConfig, reporter: Reporter) -> list[Record]:
    """Return the fields of a gpt2.eval-diff/1 record for each task and metric, by name, then for documents.

    Raises UsageFault for two standard inputs, BadInput when the data differ or nothing is in both, and what
    read_evaluation raises.
    """
    if config.a == config.b == "-":
        raise UsageFault("only one of the two evaluations can come from standard input")
    a, b = read_evaluation(config.a, reporter), read_evaluation(config.b, reporter)
    check_same_data(a, b)
    records: list[Record] = []
    for task in sorted(a.items.keys() & b.items.keys()):
        records += _of_task(task, a, b, config.drawing, reporter)
    if a.documents and b.documents:
        records += _of_documents(a, b, config.drawing, reporter)
    for here, there in ((a, b), (b, a)):
        for task in sorted(here.items.keys() - there.items.keys()):
            reporter.warn(f"task {task} is only in {here.name}")
        if here.documents and not there.documents:
            reporter.warn(f"documents are only in {here.name}")
    if not records:
        raise BadInput(f"{a.name} and {b.name} have no item or document with a measure in common")
    return records


def _of_task(task: str, a: Evaluation, b: Evaluation, drawing: Resampling, reporter: Reporter) -> Iterator[Record]:
    items, others = a.items[task], b.items[task]
    both = paired_items(items, others)
    if not both:
        reporter.warn(f"{a.name} and {b.name} have no item of task {task} in common")
        return
    facts = _Facts(a.tasks.get(task, {}), b.tasks.get(task, {}), drawing)
    otherwise = sum(x.asked != y.asked for x, y in both if x.asked is not None and y.asked is not None)
    if otherwise:
        verb = "was" if otherwise == 1 else "were"
        reporter.warn(f"task {task}: {otherwise:,} of {counted(len(both), 'item')} {verb} asked in other words "
                      f"(examples, template or length)")
    facts.say_conditions(f"task {task}", reporter)
    if any(x.data is None or y.data is None for x, y in both):
        reporter.warn(f"task {task}: not every item has a doc_sha256; whether the data are the same is not proven")
    for metric in sorted({name for item, _ in both for name in item.metrics}):
        pairs = [(x, y) for x, y in both if metric in x.metrics and metric in y.metrics]
        if not pairs:
            reporter.warn(f"task {task}: {metric} is only in {a.name}")
            continue
        counts = [sum(metric in item.metrics for item in side.values()) - len(pairs) for side in (items, others)]
        yield facts.record(task, metric, _of_metric(metric, pairs, drawing, reporter), counts)
    for metric in sorted({name for _, item in both for name in item.metrics}
                         - {name for item, _ in both for name in item.metrics}):
        reporter.warn(f"task {task}: {metric} is only in {b.name}")
    counts = [len(items) - len(both), len(others) - len(both)]
    for metric, measured in _of_all_items(task, both, facts, drawing, reporter):
        yield facts.record(task, metric, measured, counts)


def _of_metric(metric: str, pairs: Sequence[tuple[ScoredItem, ScoredItem]], drawing: Resampling, reporter: Reporter
               ) -> Record:
    x, y = (np.array([pair[side].metrics[metric] for pair in pairs]) for side in (0, 1))
    found = _fields(ratio_difference(x, y, np.ones(len(x)), drawing, reporter))
    if np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all():
        found["mcnemar"] = dataclasses.asdict(mcnemar(x, y))
    if metric == _LOGLIKELIHOOD:
        found["ppl_ratio"] = _exponential(-found["difference"])
    return found


def _of_all_items(task: str, both: Sequence[tuple[ScoredItem, ScoredItem]], facts: _Facts, drawing: Resampling,
                  reporter: Reporter) -> Iterator[tuple[str, Record]]:
    """Yield what the summaries measure over all items together, such as F1 and BLEU; items hold no number for it."""
    for metric, aggregation in facts.shared_aggregations():
        known = AGGREGATIONS.get(aggregation)
        if known is None or known.takes == "numbers":
            continue
        columns = [answers_for(metric, known.takes, [pair[side] for pair in both]) for side in (0, 1)]
        x, y = columns
        if x is None or y is None:
            reporter.warn(f"task {task}: {metric} is a measure of all items together and cannot be made again from "
                          "their records; it is not compared")
        elif known.takes == PROBABILITIES:  # a mean after all, of what a single item gives
            single_x, single_y = (np.array([known.function([value]) for value in column]) for column in (x, y))
            yield metric, _fields(ratio_difference(single_x, single_y, np.ones(len(x)), drawing, reporter))
        else:
            fewer = dataclasses.replace(drawing, resamples=min(drawing.resamples, known.most or MOST_OF_ALL_ITEMS))
            found = _fields(corpus_difference(x, y, known.function, fewer, reporter))
            yield metric, {**found, "bootstrap": fewer.as_fields()}


def _of_documents(a: Evaluation, b: Evaluation, drawing: Resampling, reporter: Reporter) -> Iterator[Record]:
    pairs = paired_documents(a, b)
    if not pairs:
        reporter.warn(f"{a.name} and {b.name} have no document in common")
        return
    facts = _Facts(a.texts[0] if a.texts else {}, b.texts[0] if b.texts else {}, drawing)
    facts.say_conditions("documents", reporter)
    counts = [n_documents(a) - len(pairs), n_documents(b) - len(pairs)]
    x, y = (np.array([pair[side].nll_nats for pair in pairs]) for side in (0, 1))
    tokens, tokens_b = (np.array([pair[side].n_tokens for pair in pairs], dtype=np.float64) for side in (0, 1))
    if "tokenizer_sha256" in facts.differing:
        reporter.warn("the tokenizers differ, so nats per token are not compared; bits per byte are")
    elif (tokens != tokens_b).any():
        reporter.warn("the two scored different numbers of tokens of the same documents, so nats per token are not "
                      "compared; bits per byte count the unscored ones as free")
    elif tokens.any():
        kept = tokens > 0
        found = _fields(ratio_difference(x[kept], y[kept], tokens[kept], drawing, reporter))
        found["ppl_ratio"] = _exponential(found["difference"])
        yield facts.record(None, "nll_nats_per_token", found, counts)
    n_bytes = np.array([pair[0].n_bytes for pair in pairs], dtype=np.float64)
    if any(pair[0].n_bytes != pair[1].n_bytes for pair in pairs):
        raise BadInput(f"{a.name} and {b.name} count different bytes in the same document; one of them is damaged")
    kept = n_bytes > 0
    if kept.any():
        bits = ratio_difference(x[kept] / math.log(2), y[kept] / math.log(2), n_bytes[kept], drawing, reporter)
        yield facts.record(None, "bits_per_byte", _fields(bits), counts)


class _Facts:
    """What the records of the wholes say: the two models, and what differs besides them."""

    def __init__(self, a: Mapping[str, Any], b: Mapping[str, Any], drawing: Resampling) -> None:
        self._a, self._b, self._drawing = a, b, drawing
        self.differing = [name for name in CONDITIONS if name in a and name in b and a[name] != b[name]]

    def say_conditions(self, what: str, reporter: Reporter) -> None:
        """Warn of what differs besides the model."""
        if self.differing:
            reporter.warn(f"{what}: the evaluations differ in {', '.join(self.differing)}, not in the model alone")

    def shared_aggregations(self) -> list[tuple[str, str]]:
        """Return (metric, aggregation) of what both summaries measure in the same way."""
        ours, theirs = _measures(self._a), _measures(self._b)
        return [(metric, found["aggregation"]) for metric, found in sorted(ours.items())
                if isinstance(found.get("aggregation"), str)
                and theirs.get(metric, {}).get("aggregation") == found["aggregation"]]

    def record(self, task: str | None, metric: str, measured: Record, only: Sequence[int]) -> Record:
        """Return a record's fields."""
        return {
            "task": task, "metric": metric, **measured, "n_only_a": only[0], "n_only_b": only[1],
            "higher_is_better": self._higher_is_better(metric, task),
            "bootstrap": measured.get("bootstrap", self._drawing.as_fields()),
            "a_model": _model(self._a), "b_model": _model(self._b), "differing": self.differing,
        }

    def _higher_is_better(self, metric: str, task: str | None) -> bool | None:
        if task is None or metric == _LOGLIKELIHOOD:
            return task is not None
        found = [_measures(side).get(metric, {}).get("higher_is_better") for side in (self._a, self._b)]
        return next((value for value in found if isinstance(value, bool)), None)


def _measures(record: Mapping[str, Any]) -> dict[str, Record]:
    """Return a gpt2.task record's metrics that have the form of ours."""
    metrics = record.get("metrics")
    return {name: found for name, found in metrics.items() if isinstance(found, dict)} if isinstance(
        metrics, dict) else {}


def _fields(found: Difference) -> Record:
    interval = None if found.interval is None else list(found.interval)
    return {**dataclasses.asdict(found), "interval": interval}


def _model(record: Mapping[str, Any]) -> Record | None:
    return {name: record[name] for name in MODEL if name in record} or None


def _exponential(value: float) -> float | None:
    try:
        return math.exp(value)
    except OverflowError:
        return None
