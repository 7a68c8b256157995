"""What a preset is, and how the user's data files are read for one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.errors import BadInput, UsageFault, counted
from gpt2cli.evaluation.task import Doc, MetricChoice, Shots, Task
from gpt2cli.evaluation.task_data import parse_docs
from gpt2cli.evaluation.task_metrics import METRICS
from gpt2cli.records.provenance import json_sha256
from gpt2cli.records.streams import display_name, open_input, read_lines
from gpt2cli.tokens.unicode_loss import UnicodeLoss, decode_utf8

MAX_DATA = 1 << 30
"""Most bytes of a data file."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Source:
    """What a preset works on: data files (`-`: standard input), examples wanted (None: its own number), the seed."""

    paths: tuple[str, ...] = ()
    num_fewshot: int | None = None
    seed: int = 1234
    loss: UnicodeLoss = field(default_factory=UnicodeLoss)


@dataclass(frozen=True)
class Preset:
    """A task by name. data: what its files hold; "" where it needs none. published: metric -> key of PUBLISHED."""

    about: str
    data: str
    make: Callable[[str, Source], Task]
    published: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """One line of a text file, without its end; `where` names it in messages."""

    text: str
    where: str


def read_bytes(path: str) -> bytes:
    """Return a data file's bytes without a byte order mark; raise BadInput beyond MAX_DATA."""
    with open_input(path) as stream:
        data = stream.read(MAX_DATA + 1)
    if len(data) > MAX_DATA:
        raise BadInput(f"{display_name(path)} is larger than {MAX_DATA:,} bytes; no data of this task are")
    return data.removeprefix(_BOM)


def holds_json(data: bytes) -> bool:
    """Return whether data begin as JSON or JSONL does."""
    return data[:4096].lstrip()[:1] in (b"{", b"[")


def records_of(data: bytes, path: str, loss: UnicodeLoss, first: int = 0, data_field: str | None = None) -> list[Doc]:
    """Return the records of JSONL or of a JSON list; data_field: the key of one object that holds the list."""
    return parse_docs(io.BytesIO(data), display_name(path), loss, data_field, first)


def lines_of(data: bytes, path: str, loss: UnicodeLoss) -> Iterator[Line]:
    """Yield the lines of a text, empty ones too."""
    name, offset = display_name(path), 0
    for number, line in enumerate(read_lines(io.BytesIO(data), name), 1):
        yield Line(decode_utf8(line.removesuffix(b"\r"), loss, name, offset), f"{name} line {number}")
        offset += len(line) + 1


def text_field(doc: Doc, name: str) -> str:
    """Return a record's text; raise BadInput where there is none."""
    value = doc.fields.get(name)
    if not isinstance(value, str):
        raise BadInput(f"{doc.where} has no text in {name!r}")
    return value


def task_of(name: str, kind: str, docs: list[Doc], metrics: tuple[str, ...], notes: tuple[str, ...], **rules: Any
            ) -> Task:
    """Return a preset's Task; `rules` are further fields of it. Raises BadInput where there is no record."""
    if not docs:
        raise BadInput(f"{name}: the data hold no item")
    chosen = tuple(MetricChoice(metric, METRICS[metric].aggregation, METRICS[metric].higher_is_better)
                   for metric in metrics)
    where = f"--preset {name}"
    plain = {key: value for key, value in rules.items() if isinstance(value, (str, int, dict))}
    return Task(name=name, type=kind, files={}, split="records", where=where, docs=tuple(docs), metrics=chosen,
                notes=notes, sha256=json_sha256({"preset": name, "type": kind, **plain, "notes": list(notes)}), **rules)


def seeded(docs: list[Doc], number: int, name: str, **rules: Any) -> tuple[list[Doc], Shots]:
    """Return the records without the first `number`, and these as the examples that stand before every other."""
    if number and len(docs) <= number:
        raise UsageFault(f"--preset {name}: all of the data's {counted(len(docs), 'record')} would serve as examples, "
                         "so none is left to evaluate; give more data, or --num-fewshot 0")
    samples = tuple(dict(doc.fields) for doc in docs[:number])
    return docs[number:], Shots(samples=samples or None, sampler="first_n", **rules)


def one_path(name: str, source: Source) -> str:
    """Return the one data file, standard input where none is named; raise UsageFault for several."""
    if len(source.paths) > 1:
        raise UsageFault(f"--preset {name} takes one data file, and {len(source.paths)} were given")
    return source.paths[0] if source.paths else "-"
