"""The eval-tasks command's work: a model and task files in; a gpt2.item/1 for each record, a gpt2.task/1 a task out."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.last_word import answer_by_last_token, answer_by_last_word
from gpt2cli.evaluation.paper_tasks.catalogue import preset_task
from gpt2cli.evaluation.paper_tasks.preset import Source
from gpt2cli.evaluation.published import beside_published
from gpt2cli.evaluation.task import Doc, Item, Result, Task
from gpt2cli.evaluation.task_data import Split, read_split, split_of
from gpt2cli.evaluation.task_fewshot import Examples
from gpt2cli.evaluation.task_file import load_task
from gpt2cli.evaluation.task_generation import answer_by_generation, generation_protocol, ready_to_generate
from gpt2cli.evaluation.task_likelihood import answer_by_likelihood
from gpt2cli.evaluation.task_machine import Machine
from gpt2cli.evaluation.task_metrics import AGGREGATIONS, summarise
from gpt2cli.evaluation.task_prompts import Prompts
from gpt2cli.records.provenance import json_sha256
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.open_model import ModelChoice, OpenModel, open_model
from gpt2cli.tokens.unicode_loss import UnicodeLoss

BATCH_POSITIONS = 8192
"""Positions computed together unless a number is given."""
BLOCK = 512
"""Items that are answered, and then written, together; so much is lost when a run is stopped."""
RESAMPLES = 1000

Answer = Callable[[Task, Sequence[Item], Machine], Iterator[Result]]
ANSWERS: dict[str, Answer] = {
    "loglikelihood": answer_by_likelihood, "multiple_choice": answer_by_likelihood, "cloze": answer_by_likelihood,
    "substitution": answer_by_likelihood, "generate_until": answer_by_generation,
    "last_token": answer_by_last_token, "last_word": answer_by_last_word,
}
"""Type of task -> what answers its items."""
Record = tuple[str, dict[str, Any]]
"""A kind of record and its fields."""


@dataclass(frozen=True)
class TasksConfig:
    """Everything `gpt2 eval-tasks` was asked for, but where its records go.

    num_fewshot: None leaves it to each task. resamples: of the bootstrap, 0 for none. budget: positions computed
    together. text: put what was asked into the item records. preset: the paths are its data files, and not task files.
    """

    model: ModelChoice = field(default_factory=ModelChoice)
    paths: tuple[str, ...] = ()
    limit: int | None = None
    num_fewshot: int | None = None
    seed: int = 1234
    resamples: int = RESAMPLES
    budget: int = BATCH_POSITIONS
    text: bool = False
    preset: str | None = None


def evaluate_tasks(config: TasksConfig, reporter: Reporter) -> Iterator[Record]:
    """Yield ("gpt2.item", fields) of each record of each task and ("gpt2.task", fields) after a task's last one.

    Raises BadInput for a task file, data or model that is not sound, and UsageFault for what is not there.
    """
    if config.preset is not None:
        losses = [UnicodeLoss()]
        tasks = [preset_task(config.preset, Source(config.paths, config.num_fewshot, config.seed, losses[0]))]
    else:
        losses = [UnicodeLoss() for _ in config.paths or ("-",)]
        tasks = [load_task(path, loss) for path, loss in zip(config.paths or ("-",), losses, strict=True)]
    tasks = [ready_to_generate(task) if task.type == "generate_until" else task for task in tasks]
    names = [task.name for task in tasks]
    for task in tasks:
        if names.count(task.name) > 1:
            raise UsageFault(f"two of the tasks are called {task.name!r}; their items could not be told apart")
        for path in task.files.get(task.split, ()):
            if not os.path.exists(path):
                raise UsageFault(f"{task.where}: there is no {path}")
    opened = open_model(config.model, reporter)
    for task, loss in zip(tasks, losses, strict=True):
        yield from _evaluate(task, opened, config, loss, reporter)


def _evaluate(task: Task, opened: OpenModel, config: TasksConfig, loss: UnicodeLoss, reporter: Reporter
              ) -> Iterator[Record]:
    if config.num_fewshot is not None:
        task = dataclasses.replace(task, num_fewshot=config.num_fewshot)
    split = read_split(task, task.split, loss)
    if not split.docs:
        raise BadInput(f"{task.where}: the data hold no record")
    docs = split.docs[: config.limit]
    examples = Examples(task, _pool(task, split, loss), task.num_fewshot, config.seed)
    for line in task.notes:
        reporter.note(f"{task.name}: {line}")
    for line in loss.sentences():
        reporter.warn(f"{task.name}: {line}")
    prompts, machine = Prompts(task, split), Machine(opened, config.budget, config.seed, reporter, len(docs))
    totals = _Totals(task)
    for start in range(0, len(docs), BLOCK):
        items = [prompts.item(doc, examples.of(doc)) for doc in docs[start : start + BLOCK]]
        for result in ANSWERS[task.type](task, items, machine):
            totals.add(result)
            yield "gpt2.item", _item_record(task, result, config.text)
    yield "gpt2.task", totals.record(opened, config)


def _pool(task: Task, split: Split, loss: UnicodeLoss) -> Sequence[Doc]:
    """Return what examples are taken from; nothing where none are asked for."""
    if not task.num_fewshot:
        return ()
    if task.shots.samples is not None:
        samples = (Doc(number, fields, f"{task.where}: sample {number + 1} of fewshot_config")
                   for number, fields in enumerate(task.shots.samples))
        return split_of("samples", tuple(samples)).docs
    if task.shots.split is None:
        raise UsageFault(f"{task.where} names no split for its {task.num_fewshot} examples; write fewshot_split")
    return split.docs if task.shots.split == split.name else read_split(task, task.shots.split, loss).docs


class _Totals:
    """What is kept of a task's results until its summary."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._values: dict[str, list[Any]] = {metric.name: [] for metric in task.metrics}
        self._data, self._requests = hashlib.sha256(), hashlib.sha256()
        self._n = self._truncated = self._dropped = 0

    def add(self, result: Result) -> None:
        """Take in the next item's result."""
        for name, column in self._values.items():
            column.append(result.values[name])
        self._data.update(bytes.fromhex(json_sha256(result.item.doc.fields)))
        self._requests.update(bytes.fromhex(_asked_sha256(result.item)))
        dropped = result.fields.get("n_dropped_tokens", 0)
        self._n += 1
        self._truncated += dropped > 0
        self._dropped += dropped

    def record(self, opened: OpenModel, config: TasksConfig) -> dict[str, Any]:
        """Return the fields of the task's gpt2.task/1."""
        task, source = self._task, opened.source
        metrics = summarise(task.metrics, self._values, config.resamples, config.seed)
        return {
            "run": source.run or source.directory.resolve().name, "step": source.step, "tokens": source.tokens,
            "flops": source.flops, "n_params": opened.shape.n_params, "task": task.name, "type": task.type,
            "num_fewshot": task.num_fewshot, "n_items": self._n,
            "metrics": metrics, **({"published": beside_published(task.published, metrics)} if task.published else {}),
            "n_truncated_items": self._truncated, "n_dropped_tokens": self._dropped,
            "protocol": {
                "context": opened.shape.n_ctx, "split": task.split, "limit": config.limit,
                "empty_context": "<|endoftext|>", "too_long": "tokens are dropped from the left",
                "special_tokens_in_text": "plain text",
                "fewshot_sampler": task.shots.sampler if task.num_fewshot else None,
                **generation_protocol(task, opened.shape.n_ctx),
            },
            "seed": config.seed, "dtype": opened.dtype, "model_sha256": opened.sha256,
            "tokenizer_sha256": opened.vocabulary.sha256, "task_sha256": task.sha256,
            "data_sha256": self._data.hexdigest(), "requests_sha256": self._requests.hexdigest(),
            "notes": list(task.notes),
        }


def _item_record(task: Task, result: Result, text: bool) -> dict[str, Any]:
    """Return the fields of a gpt2.item/1. Only metrics that are a number for each item stand in it."""
    item = result.item
    measured = {}
    for metric in task.metrics:
        if AGGREGATIONS[metric.aggregation].takes == "numbers":
            name = "loglikelihood_nats" if metric.aggregation == "perplexity" else metric.name
            measured[name] = result.values[metric.name]
    asked = {"context": item.context, "choices": list(item.choices),
             "requests": [[request.context, request.continuation] for request in item.requests]} if text else {}
    return {"task": task.name, "item": item.doc.number, "type": task.type, "metrics": measured, **result.fields,
            "doc_sha256": json_sha256(item.doc.fields), "request_sha256": _asked_sha256(item), **asked}


def _asked_sha256(item: Item) -> str:
    asked = [[request.context, request.continuation] for request in (*item.requests, *item.baseline)]
    return json_sha256(asked or [item.context])
