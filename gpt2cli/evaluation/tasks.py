"""The eval-tasks command's work: a model and task files in; a gpt2.item/1 for each record, a gpt2.task/1 a task out."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.clean_items import CleanItems
from gpt2cli.evaluation.exclusion import ExclusionChoice, TextOfItem, open_exclusion, refuse_stdin_twice
from gpt2cli.evaluation.last_word import answer_by_last_token, answer_by_last_word
from gpt2cli.evaluation.paper_tasks.catalogue import preset_task, takes_data
from gpt2cli.evaluation.paper_tasks.preset import Source
from gpt2cli.evaluation.task import Doc, Item, Result, Task
from gpt2cli.evaluation.task_data import Split, read_split, split_of
from gpt2cli.evaluation.task_fewshot import Examples
from gpt2cli.evaluation.task_file import load_task
from gpt2cli.evaluation.task_generation import answer_by_generation, ready_to_generate
from gpt2cli.evaluation.task_likelihood import answer_by_likelihood
from gpt2cli.evaluation.task_machine import Machine
from gpt2cli.evaluation.task_metrics import AGGREGATIONS
from gpt2cli.evaluation.task_prompts import Prompts
from gpt2cli.evaluation.task_texts import OwnTexts
from gpt2cli.evaluation.task_totals import Settings, Totals, asked_sha256
from gpt2cli.records.provenance import json_sha256
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.open_model import ModelChoice, OpenModel, find_model, load_found
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
    exclude: what is left out of a second, clean score.
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
    exclude: ExclusionChoice | None = None


def evaluate_tasks(config: TasksConfig, reporter: Reporter) -> Iterator[Record]:
    """Yield ("gpt2.item", fields) of each record of each task and ("gpt2.task", fields) after a task's last one.

    With an exclusion a second gpt2.task follows, of the clean items. Raises BadInput for a task file, data or model
    that is not sound, and for an overlap that was not measured on these items or leaves none; UsageFault for what is
    not there.
    """
    reads_data = config.preset is None or takes_data(config.preset)
    refuse_stdin_twice(config.exclude, config.paths or ("-",) * reads_data)
    if config.preset is not None:
        losses = [UnicodeLoss()]
        tasks = [preset_task(config.preset, Source(config.paths, config.num_fewshot, config.seed, losses[0]))]
    else:
        losses = [UnicodeLoss() for _ in config.paths or ("-",)]
        tasks = [load_task(path, loss) for path, loss in zip(config.paths or ("-",), losses, strict=True)]
    tasks = [ready_to_generate(task) if task.type == "generate_until" else task for task in tasks]
    if config.num_fewshot is not None:
        tasks = [dataclasses.replace(task, num_fewshot=config.num_fewshot) for task in tasks]
    names = [task.name for task in tasks]
    for task in tasks:
        if names.count(task.name) > 1:
            raise UsageFault(f"two of the tasks are called {task.name!r}; their items could not be told apart")
        for path in task.files.get(task.split, ()):
            if not os.path.exists(path):
                raise UsageFault(f"{task.where}: there is no {path}")
    found = find_model(config.model, reporter)
    clean = _clean_items(tasks, config, reporter)
    opened = load_found(found, reporter)
    for task, loss, kept in zip(tasks, losses, clean, strict=True):
        yield from _evaluate(task, opened, config, loss, kept, reporter)


def _clean_items(tasks: Sequence[Task], config: TasksConfig, reporter: Reporter) -> list[CleanItems | None]:
    """Return which items of each task are clean, before any is asked; None for each without an exclusion."""
    if config.exclude is None:
        return [None] * len(tasks)
    exclusion = open_exclusion(config.exclude, reporter)
    return [CleanItems(task, exclusion, exclusion.of_task(task.name, _own_texts(task, config.limit)))
            for task in tasks]


def _own_texts(task: Task, limit: int | None) -> list[TextOfItem]:
    split = read_split(task, task.split, UnicodeLoss())
    texts = OwnTexts(task, split)
    return [TextOfItem(doc.number, hashlib.sha256(texts.of(doc).encode()).hexdigest()) for doc in split.docs[:limit]]


def _evaluate(task: Task, opened: OpenModel, config: TasksConfig, loss: UnicodeLoss, clean: CleanItems | None,
              reporter: Reporter) -> Iterator[Record]:
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
    totals = Totals(task)
    for start in range(0, len(docs), BLOCK):
        items = [prompts.item(doc, examples.of(doc)) for doc in docs[start : start + BLOCK]]
        for result in ANSWERS[task.type](task, items, machine):
            totals.add(result)
            overlap = clean.add(result) if clean is not None else {}
            yield "gpt2.item", {**_item_record(task, result, config.text), **overlap}
    settings = Settings(config.limit, config.resamples, config.seed)
    record = totals.record(opened, settings)
    yield "gpt2.task", record
    if clean is not None:
        yield "gpt2.task", clean.record(record, totals, opened, settings)


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
            "doc_sha256": json_sha256(item.doc.fields), "request_sha256": asked_sha256(item), **asked}
