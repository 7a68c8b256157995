"""What eval-diff reads: one evaluation's records of items and documents, and which of two evaluations' are pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.exclusion import is_clean
from gpt2cli.records.jsonl import ReadTally, Record, read_records
from gpt2cli.records.streams import display_name
from gpt2cli.reporter import Reporter

MOST = 1e100
"""No number of an item or document may be larger; squares are summed."""
_MOST_COUNT = 1 << 53
_ANSWER_FIELDS = ("prediction", "predictions", "target", "loglikelihoods_nats")


@dataclass(frozen=True)
class ScoredItem:
    """One task item of one evaluation. data: the digest of its record; asked: of what the model was asked.

    answer: the fields that a measure over all items is made of.
    """

    metrics: dict[str, float]
    data: str | None
    asked: str | None
    answer: dict[str, Any]


@dataclass(frozen=True)
class ScoredDocument:
    """One document of one evaluation. `number` is its place in it."""

    number: int
    nll_nats: float
    n_tokens: int
    n_bytes: int


@dataclass
class Evaluation:
    """Everything of one input: items by task and number, documents by digest, and the records of the whole."""

    name: str
    items: dict[str, dict[int, ScoredItem]] = field(default_factory=dict)
    documents: dict[str, list[ScoredDocument]] = field(default_factory=dict)
    tasks: dict[str, Record] = field(default_factory=dict)
    texts: list[Record] = field(default_factory=list)


def read_evaluation(path: str, reporter: Reporter) -> Evaluation:
    """Read the records that gpt2 eval-tasks or gpt2 eval-ppl --per-doc wrote; `-` is standard input.

    Raises BadInput for records of two models, an item that is there twice, numbers that are none, and for summaries
    without items or documents.
    """
    found, tally = Evaluation(display_name(path)), ReadTally()
    for record in read_records(path, tally, kinds=("gpt2.item", "gpt2.task", "gpt2.eval", "gpt2.eval-document")):
        kind = record["schema"].rpartition("/")[0]
        if kind == "gpt2.item":
            _take_item(found, record)
        elif kind == "gpt2.eval-document":
            _take_document(found, record)
        elif is_clean(record):
            continue  # the items and documents are those of all; so are the conditions and measures to be said of them
        elif kind == "gpt2.eval":
            found.texts.append(_writable(record, f"{found.name}: a gpt2.eval record"))
        else:
            _writable(record, f"{found.name}: a gpt2.task record")
            found.tasks[_text(record["task"], f"{found.name}: task")] = record
    for line in tally.warnings:
        reporter.warn(line)
    if not found.items and not found.documents:
        raise BadInput(_nothing(found))
    for records in ((*found.tasks.values(),), found.texts if found.documents else ()):
        _check_one_model(found, records)
    return found


def _nothing(found: Evaluation) -> str:
    if found.tasks:
        return f"{found.name} holds summaries but no items; make it without eval-tasks' --summary"
    if found.texts:
        return f"{found.name} holds an evaluation but no documents; make it with eval-ppl --per-doc"
    return f"{found.name} holds no records of items or documents, which gpt2 eval-tasks and eval-ppl --per-doc write"


def _take_item(found: Evaluation, record: Record) -> None:
    task = _text(record["task"], f"{found.name}: task")
    number = _count(record["item"], f"{found.name}: item of task {task}")
    where = f"{found.name}: item {number} of task {task}"
    if not isinstance(record["metrics"], dict):
        raise BadInput(f"{where}: metrics is no object")
    metrics = {_text(name, f"{where}: a metric's name"): _number(value, f"{where}: {name}")
               for name, value in record["metrics"].items()}
    item = ScoredItem(metrics, _digest(record, "doc_sha256", where), _digest(record, "request_sha256", where),
                      {name: record[name] for name in _ANSWER_FIELDS if name in record})
    if found.items.setdefault(task, {}).setdefault(number, item) is not item:
        raise BadInput(f"{where} is there twice; one input is one evaluation")


def _take_document(found: Evaluation, record: Record) -> None:
    number = _count(record["document"], f"{found.name}: document")
    where = f"{found.name}: document {number}"
    document = ScoredDocument(number, _number(record["nll_nats"], f"{where}: nll_nats"),
                              _count(record["n_tokens"], f"{where}: n_tokens"),
                              _count(record["n_bytes"], f"{where}: n_bytes"))
    found.documents.setdefault(_text(record["id"], f"{where}: id"), []).append(document)


def _check_one_model(found: Evaluation, records: Iterable[Record]) -> None:
    models = {str(record.get("model_sha256")) for record in records}
    if len(models) > 1:
        raise BadInput(f"{found.name} holds evaluations of {len(models)} models; one input is one evaluation")


def check_same_data(a: Evaluation, b: Evaluation) -> None:
    """Raise BadInput when an item of the same number was made from another record, or a document is another text.

    A document counts as another text when neither of the two at its number is anywhere in the other evaluation.
    """
    for task in sorted(a.items.keys() & b.items.keys()):
        for number in sorted(a.items[task].keys() & b.items[task].keys()):
            ours, theirs = a.items[task][number].data, b.items[task][number].data
            if ours is not None and theirs is not None and ours != theirs:
                raise BadInput(f"item {number} of task {task} was made from other data in {a.name} than in {b.name}; "
                               "a paired difference needs both evaluated on the same data")
    alone = _numbers(a, b) & _numbers(b, a)
    if alone:
        raise BadInput(f"document {min(alone)} is another text in {a.name} than in {b.name}; "
                       "a paired difference needs both evaluated on the same text")


def _numbers(here: Evaluation, there: Evaluation) -> set[int]:
    return {document.number for digest in here.documents.keys() - there.documents.keys()
            for document in here.documents[digest]}


def paired_items(a: dict[int, ScoredItem], b: dict[int, ScoredItem]) -> list[tuple[ScoredItem, ScoredItem]]:
    """Return the items that both have, in the order of their numbers."""
    return [(a[number], b[number]) for number in sorted(a.keys() & b.keys())]


def paired_documents(a: Evaluation, b: Evaluation) -> list[tuple[ScoredDocument, ScoredDocument]]:
    """Return the documents that both have: the first of a text with the first of it, the second with the second.

    The order is that of the digests, whatever the inputs' order.
    """
    pairs = []
    for digest in sorted(a.documents.keys() & b.documents.keys()):
        ours, theirs = (sorted(side.documents[digest], key=_place) for side in (a, b))
        pairs += list(zip(ours, theirs, strict=False))
    return pairs


def n_documents(side: Evaluation) -> int:
    """Return how many documents an evaluation has."""
    return sum(len(same) for same in side.documents.values())


def _place(document: ScoredDocument) -> tuple[int, float, int, int]:
    return document.number, document.nll_nats, document.n_tokens, document.n_bytes


def _writable(value: Any, where: str) -> Any:
    """Return `value`; JSON can spell half a surrogate pair, which no UTF-8 can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{where} holds half a surrogate pair, which is no character") from None
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{where} is no text: {str(value)[:40]}")
    return _writable(value, where)


def _digest(record: Record, name: str, where: str) -> str | None:
    value = record.get(name)
    return None if value is None else _text(value, f"{where}: {name}")


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_COUNT:
        raise BadInput(f"{where} is no count: {str(value)[:40]}")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MOST < value < MOST:
        raise BadInput(f"{where} is no number that can be averaged: {str(value)[:40]}")
    return float(value)
