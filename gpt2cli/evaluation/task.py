"""What a task is, and what travels between its parts: records become items, items get results, results become measures.

    task_file  ->  Task      task_data  ->  Doc      task_prompts  ->  Item
    task_scoring, task_generation  ->  Result        task_metrics  ->  a number and its standard error
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TYPES = ("loglikelihood", "multiple_choice", "cloze", "substitution", "generate_until")
"""loglikelihood: one continuation, is it the most probable, and how probable. multiple_choice: the most probable of
several continuations. cloze: the last word of a text. substitution: the most probable of several fillings of a blank
(Winograd). generate_until: text is generated and compared. Presets have two more, last_token and last_word."""


@dataclass(frozen=True)
class Doc:
    """One record of a data file. `number` counts from 0 in its split; `where` names it in messages."""

    number: int
    fields: Mapping[str, Any]
    where: str


@dataclass(frozen=True)
class MetricChoice:
    """One entry of metric_list. `options` are what else the entry says (ignore_case ...)."""

    name: str
    aggregation: str
    higher_is_better: bool
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shots:
    """Where solved examples come from, and how they are written. None: as the task itself writes its records.

    sampler: "first_n" (the first of the split or of `samples`) or "default" (drawn with the seed).
    exclude_own: a record is no example for itself (lm_eval excludes it when examples come from the test split).
    """

    split: str | None = None
    samples: tuple[Mapping[str, Any], ...] | None = None
    sampler: str = "default"
    doc_to_text: Any = None
    doc_to_target: Any = None
    doc_to_choice: Any = None
    gen_prefix: str | None = None
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    exclude_own: bool = False


@dataclass(frozen=True)
class Filter:
    """One pipeline of filter_list: (function, its options) pairs in order."""

    name: str
    steps: tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Task:
    """A task file, checked. `files` maps a split to its data files; `split` is the one that is evaluated.

    The doc_to_* rules are those of lm-evaluation-harness: the name of a field, else a template, else a constant.
    docs: the records, where they came with the task (plain JSONL) and not from `files`. published: a preset's metric ->
    the key of what was published (published.PUBLISHED).
    """

    name: str
    type: str
    files: Mapping[str, tuple[str, ...]]
    split: str
    sha256: str
    where: str
    data_field: str | None = None
    doc_to_text: Any = ""
    doc_to_target: Any = ""
    doc_to_choice: Any = None
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    description: str = ""
    gen_prefix: str | None = None
    num_fewshot: int = 0
    shots: Shots = field(default_factory=Shots)
    metrics: tuple[MetricChoice, ...] = ()
    generation: Mapping[str, Any] = field(default_factory=dict)
    repeats: int = 1
    filters: tuple[Filter, ...] = ()
    notes: tuple[str, ...] = ()
    docs: tuple[Doc, ...] | None = None
    published: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """Asks for log P(continuation | context); an empty context is end-of-text."""

    context: str
    continuation: str


@dataclass(frozen=True)
class Item:
    """One record made ready. `target` is what is right: an index, several, a text or several.

    requests: for likelihoods; `baseline` requests are the same choices without context (mutual information).
    context: the prompt that is continued, for generate_until.
    """

    doc: Doc
    context: str = ""
    choices: tuple[str, ...] = ()
    target: int | str | tuple[int, ...] | tuple[str, ...] | None = None
    requests: tuple[Request, ...] = ()
    baseline: tuple[Request, ...] = ()


@dataclass(frozen=True)
class Result:
    """An item's answer. `fields` go into its gpt2.item/1 record; `values` maps metric names to what is aggregated.

    A value is a number, or whatever its metric's aggregation takes (a pair of texts for BLEU).
    """

    item: Item
    fields: Mapping[str, Any]
    values: Mapping[str, Any]
