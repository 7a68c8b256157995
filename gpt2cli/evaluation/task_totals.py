"""A task's results, gathered into what its gpt2.task/1 record says of them together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from gpt2cli.evaluation.published import beside_published
from gpt2cli.evaluation.task import Item, Result, Task
from gpt2cli.evaluation.task_generation import generation_protocol
from gpt2cli.evaluation.task_metrics import summarise
from gpt2cli.records.provenance import json_sha256
from gpt2cli.sampling.open_model import OpenModel


@dataclass(frozen=True)
class Settings:
    """What was chosen for all tasks: items of each (None: all), resamples of the bootstrap, the seed."""

    limit: int | None
    resamples: int
    seed: int


class Totals:
    """What is kept of a task's results until its summary."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.values: dict[str, list[Any]] = {metric.name: [] for metric in task.metrics}
        self._data, self._requests = hashlib.sha256(), hashlib.sha256()
        self._n = self._truncated = self._dropped = 0

    def add(self, result: Result) -> None:
        """Take in the next item's result."""
        for name, column in self.values.items():
            column.append(result.values[name])
        self._data.update(bytes.fromhex(json_sha256(result.item.doc.fields)))
        self._requests.update(bytes.fromhex(asked_sha256(result.item)))
        dropped = result.fields.get("n_dropped_tokens", 0)
        self._n += 1
        self._truncated += dropped > 0
        self._dropped += dropped

    def record(self, opened: OpenModel, settings: Settings) -> dict[str, Any]:
        """Return the fields of the task's gpt2.task/1."""
        task, source = self._task, opened.source
        metrics = summarise(task.metrics, self.values, settings.resamples, settings.seed)
        return {
            "run": source.run or source.directory.resolve().name, "step": source.step, "tokens": source.tokens,
            "flops": source.flops, "n_params": opened.shape.n_params, "task": task.name, "type": task.type,
            "num_fewshot": task.num_fewshot, "n_items": self._n,
            "metrics": metrics, **({"published": beside_published(task.published, metrics)} if task.published else {}),
            "n_truncated_items": self._truncated, "n_dropped_tokens": self._dropped,
            "protocol": {
                "context": opened.shape.n_ctx, "split": task.split, "limit": settings.limit,
                "empty_context": "<|endoftext|>", "too_long": "tokens are dropped from the left",
                "special_tokens_in_text": "plain text",
                "fewshot_sampler": task.shots.sampler if task.num_fewshot else None,
                **generation_protocol(task, opened.shape.n_ctx),
            },
            "seed": settings.seed, "dtype": opened.dtype, "model_sha256": opened.sha256,
            "tokenizer_sha256": opened.vocabulary.sha256, "task_sha256": task.sha256,
            "data_sha256": self._data.hexdigest(), "requests_sha256": self._requests.hexdigest(),
            "notes": list(task.notes),
        }


def asked_sha256(item: Item) -> str:
    """Return the digest of what the model is asked for an item."""
    asked = [[request.context, request.continuation] for request in (*item.requests, *item.baseline)]
    return json_sha256(asked or [item.context])
