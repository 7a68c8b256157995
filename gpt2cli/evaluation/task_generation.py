"""Answers by generation: prompts are continued, filtered and compared, item for item as lm-evaluation-harness does.

Items of a block are generated in the order of their prompts' lengths: the rows of a batch are about equally long.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.evaluation.generation_settings import (
    END_OF_TEXT,
    GenerationSettings,
    cut_at_stops,
    generation_settings,
)
from gpt2cli.evaluation.task import Item, MetricChoice, Result, Task
from gpt2cli.evaluation.task_filters import Pipeline, pipelines_of
from gpt2cli.evaluation.task_machine import Machine
from gpt2cli.evaluation.text_metrics import measure_text
from gpt2cli.sampling.context import Prompt
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.generate import Generator
from gpt2cli.sampling.row import Sample
from gpt2cli.tokens.encode import Encoder


def ready_to_generate(task: Task) -> Task:
    """Return a generate_until task whose settings and filters are sound; with several filters, a metric for each.

    Those are named as lm_eval names them, "exact_match,strict-match". Raises BadInput.
    """
    generation_settings(task)
    pipelines = pipelines_of(task)
    if len(pipelines) < 2:
        return task
    metrics = [dataclasses.replace(metric, name=f"{metric.name},{pipeline.name}")
               for pipeline in pipelines for metric in task.metrics]
    return dataclasses.replace(task, metrics=tuple(metrics))


def generation_protocol(task: Task, n_ctx: int) -> dict[str, Any]:
    """Return what a generate_until task's record says of its settings; nothing for another type."""
    if task.type != "generate_until":
        return {}
    settings = generation_settings(task)
    found = {"until": [*settings.until, END_OF_TEXT], "max_gen_toks": settings.most_tokens(n_ctx),
             "temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p,
             "repeats": task.repeats,
             "filters": {entry.name: [name for name, _ in entry.steps] for entry in task.filters}}
    if settings.keep_end:
        found["too_long"] = f"tokens are dropped before {settings.keep_end!r}"
    return found


def answer_by_generation(task: Task, items: Sequence[Item], machine: Machine) -> Iterator[Result]:
    """Yield the results of items, in order.

    Raises BadInput for settings that the model cannot follow, Interrupted when asked to stop.
    """
    settings = generation_settings(task)
    opened, most = machine.opened, settings.most_tokens(machine.opened.shape.n_ctx)
    prompts = [_prompt(item, settings, opened.encoder, opened.shape.n_ctx, task.where) for item in items]
    order = sorted(range(len(items)), key=lambda number: (len(prompts[number].ids), prompts[number].ids))
    decoding = Decoding(most, settings.temperature, settings.top_k, settings.top_p,
                        (*settings.until, END_OF_TEXT), machine.seed)
    longest = max((len(prompt.ids) for prompt in prompts), default=1) + most
    generator = Generator(opened.model, opened.encoder, batch=max(1, machine.budget // longest))
    samples: dict[int, list[Sample]] = {number: [] for number in order}
    by_place = [number for number in order for _ in range(task.repeats)]
    made = generator.generate([prompts[number] for number in order], task.repeats, decoding, None, _watch(machine))
    for number, sample in zip(by_place, made, strict=True):
        samples[number].append(sample)
        machine.advance(1 / task.repeats)
    pipelines = pipelines_of(task)
    for number, item in enumerate(items):
        yield _result(task, item, samples[number], settings, pipelines)


def _prompt(item: Item, settings: GenerationSettings, encoder: Encoder, n_ctx: int, where: str) -> Prompt:
    """Return the ids that the model is given: as many as leave room for max_tokens, the last ones."""
    room = n_ctx - settings.most_tokens(n_ctx)
    if room < 1:
        raise BadInput(f"{where}: max_gen_toks is {settings.max_tokens} and the model has {n_ctx} positions, so no "
                       "room is left for a prompt; set it lower in generation_kwargs")
    ids = encoder.encode(item.context).tolist() or [encoder.vocabulary.eot]
    dropped = max(0, len(ids) - room)
    kept = ids[dropped:]
    if dropped and settings.keep_end and item.context.endswith(settings.keep_end):
        end = encoder.encode(settings.keep_end).tolist()
        before = encoder.encode(item.context.removesuffix(settings.keep_end)).tolist()
        dropped = max(0, len(before) + len(end) - room)
        kept = before[: max(0, room - len(end))] + end[-room:]
    return Prompt(item.doc.number, item.context.encode(), tuple(kept), dropped)


def _watch(machine: Machine) -> Any:
    def watch(count: int) -> None:
        if machine.reporter.stopping():
            raise Interrupted("stopped while generating; nothing of this block was kept")

    return watch


def _result(task: Task, item: Item, samples: Sequence[Sample], settings: GenerationSettings,
            pipelines: Sequence[Pipeline]) -> Result:
    texts = [cut_at_stops(sample.text.decode("utf-8", "replace"), settings.until) for sample in samples]
    references = item.target if isinstance(item.target, tuple) else (item.target,)
    first = samples[0]
    fields: dict[str, Any] = {
        "generated": texts[0] if task.repeats == 1 else texts,
        "target": list(references) if len(references) > 1 else references[0],
        "finish_reason": [sample.finish_reason for sample in samples], "n_prompt_tokens": len(first.prompt.ids),
        "n_tokens": [len(sample.ids) for sample in samples],
        "n_dropped_tokens": first.prompt.dropped,
    }
    found = {pipeline.name: pipeline.apply(texts, item.doc.where) for pipeline in pipelines}
    if len(pipelines) == 1:
        fields["prediction"] = found[pipelines[0].name]
    else:
        fields["predictions"] = found
    values = {}
    for metric in task.metrics:
        name, pipeline_name = _parts(metric, pipelines[0].name, several=len(pipelines) > 1)
        values[metric.name] = measure_text(name, found[pipeline_name], [str(text) for text in references],
                                           metric.options, item.doc.where)
    return Result(item, fields, values)


def _parts(metric: MetricChoice, only: str, *, several: bool) -> tuple[str, str]:
    name, _, pipeline = metric.name.partition(",")
    return (name, pipeline) if several else (metric.name, only)
