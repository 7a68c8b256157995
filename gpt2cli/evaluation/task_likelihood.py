"""Answers by likelihood: which continuation is the most probable, and is it the right one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.task import Item, Result, Task
from gpt2cli.evaluation.task_machine import Machine
from gpt2cli.evaluation.task_requests import EncodedRequest, RequestEncoder
from gpt2cli.evaluation.task_scoring import Likelihood, LikelihoodScorer


def answer_by_likelihood(task: Task, items: Sequence[Item], machine: Machine) -> Iterator[Result]:
    """Yield the results of items, in order.

    Raises BadInput for an item whose continuation the model cannot score, and what LikelihoodScorer raises.
    """
    encoder = RequestEncoder(machine.opened.encoder, machine.opened.shape.n_ctx)
    groups: list[list[EncodedRequest]] = []
    for item in items:
        for requests in (item.requests, item.baseline):
            groups.append([encoder.encode(request, item.doc.where) for request in requests])
    unique = len({(request.ids.tobytes(), request.scored) for group in groups for request in group})
    scorer = LikelihoodScorer(machine.opened.model, machine.budget, machine.reporter)
    found = scorer.score(groups, lambda count: machine.advance(count * len(items) / unique))
    for number, item in enumerate(items):
        encoded = groups[2 * number] + groups[2 * number + 1]
        yield _result(task, item, encoded, found[2 * number], found[2 * number + 1])


def _result(task: Task, item: Item, encoded: Sequence[EncodedRequest], main: Sequence[Likelihood],
            baseline: Sequence[Likelihood]) -> Result:
    fields: dict[str, Any] = {
        "loglikelihoods_nats": [likelihood.nats for likelihood in main],
        "greedy": [likelihood.greedy for likelihood in main],
        "n_tokens": [request.scored for request in encoded[: len(main)]],
        "n_dropped_tokens": sum(request.dropped for request in encoded),
    }
    if item.baseline:
        name = "full_nats" if task.type == "substitution" else "baseline_nats"
        fields[name] = [likelihood.nats for likelihood in baseline]
    if item.choices:
        fields["prediction"] = _best(np.array(fields["loglikelihoods_nats"]))
        fields["target"] = list(item.target) if isinstance(item.target, tuple) else item.target
        measured = _of_choices(item, main, baseline, task.type)
    else:
        measured = {"acc": float(main[0].greedy), "perplexity": main[0].nats}
    values = {metric.name: _value(measured[metric.name], metric.name, item) for metric in task.metrics}
    return Result(item, fields, values)


def _of_choices(item: Item, main: Sequence[Likelihood], baseline: Sequence[Likelihood], kind: str) -> dict[str, Any]:
    nats = np.array([likelihood.nats for likelihood in main])
    right = item.target if isinstance(item.target, tuple) else (item.target,)
    label = item.target if isinstance(item.target, int) else None
    if kind == "substitution":
        full = np.array([likelihood.nats for likelihood in baseline])
        return {"acc_partial": float(_best(nats) in right), "acc_full": float(_best(full) in right)}
    with np.errstate(divide="ignore"):
        by_characters = nats / np.array([float(len(choice)) for choice in item.choices])
        by_bytes = nats / np.array([float(len(choice.encode())) for choice in item.choices])
    shifted = np.exp(nats - nats.max())
    measured: dict[str, Any] = {
        "acc": float(_best(nats) in right),
        "acc_norm": float(_best(by_characters) in right),
        "acc_bytes": float(_best(by_bytes) in right),
        "exact_match": float(any(main[index].greedy for index in right if isinstance(index, int))),
        "brier_score": None if label is None else (label, (shifted / shifted.sum()).tolist()),
        "f1": None if label is None or len(item.choices) > 2 else (label, _best(nats)),
        "mcc": None if label is None else (label, _best(nats)),
    }
    if baseline:
        gain = [this.nats - alone.nats for this, alone in zip(main, baseline, strict=True)]
        measured["acc_mutual_info"] = float(_best(np.array(gain)) in right)
    return measured


def _best(scores: np.ndarray) -> int:
    """Return the index of the greatest score, the first of equal ones; as lm_eval, so that ties agree."""
    return int(np.argmax(scores))


def _value(value: Any, name: str, item: Item) -> Any:
    if value is None:
        need = "two choices" if name == "f1" and len(item.choices) > 2 else "one right answer"
        raise BadInput(f"{item.doc.where}: {name} needs items with {need}")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"{item.doc.where}: the model gives its continuation no finite probability")
    return value
