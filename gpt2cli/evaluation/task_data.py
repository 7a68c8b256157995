"""The records of a task: JSONL, or one JSON file with a list of objects, as `datasets` reads them.

A byte order mark, CRLF line ends and blank lines are no part of a record; lone surrogates become U+FFFD, counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.task import Doc, Task
from gpt2cli.records.jsonl import parse_line
from gpt2cli.records.streams import MAX_LINE, display_name, open_input, read_lines
from gpt2cli.tokens.unicode_loss import UnicodeLoss, replace_surrogates

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Split:
    """The records of one split, and the names of all fields among them."""

    name: str
    docs: tuple[Doc, ...]
    fields: frozenset[str]


def read_split(task: Task, name: str, loss: UnicodeLoss) -> Split:
    """Return the records of the task's split `name`.

    Raises BadInput for a file that is no JSON or JSONL of objects, UsageFault for one that is not there.
    """
    if task.docs is not None:
        return split_of(name, task.docs)
    if name not in task.files:
        raise BadInput(f"{task.where}: there is no split {name!r} among its data files ({', '.join(task.files)})")
    docs: list[Doc] = []
    for path in task.files[name]:
        with open_input(path) as stream:
            docs += parse_docs(stream, display_name(path), loss, task.data_field, len(docs))
    return split_of(name, tuple(docs))


def split_of(name: str, docs: tuple[Doc, ...]) -> Split:
    """Return a Split of these records."""
    return Split(name, docs, frozenset(key for doc in docs for key in doc.fields))


def find_data(path: str, directory: str) -> str:
    """Return where a data file lies: as named, as lm_eval takes it, or else beside the task file."""
    beside = os.path.join(directory, path)
    return beside if not os.path.exists(path) and os.path.exists(beside) else path


def parse_docs(stream: BinaryIO, name: str, loss: UnicodeLoss, field: str | None = None, first: int = 0) -> list[Doc]:
    """Return the records of one stream, numbered from `first`. field: the key of one object that holds the list."""
    lines = read_lines(stream, name)
    head = next(lines, b"").removeprefix(_BOM)
    if field is None and not head.lstrip().startswith(b"["):
        found = _lines(head, lines, name, loss)
        return [Doc(first + count, fields, where) for count, (fields, where) in enumerate(found)]
    whole = b"\n".join([head, *_within(lines, name, len(head))])
    values = _list(whole, name, field)
    docs = []
    for number, value in enumerate(values):
        where = f"{name} record {number + 1}"
        if not isinstance(value, dict):
            raise BadInput(f"{where} is no JSON object but {type(value).__name__}")
        docs.append(Doc(first + number, _whole(value, where, loss), where))
    return docs


def _lines(head: bytes, rest: Iterator[bytes], name: str, loss: UnicodeLoss) -> Iterator[tuple[dict[str, Any], str]]:
    number = 1
    line: bytes | None = head
    while line is not None:
        where = f"{name} line {number}"
        if line.strip():
            yield _whole(parse_line(line, where), where, loss), where
        line = next(rest, None)
        number += 1


def _within(lines: Iterator[bytes], name: str, held: int) -> Iterator[bytes]:
    for line in lines:
        held += len(line) + 1
        if held > MAX_LINE:
            raise BadInput(f"{name} is one JSON value of more than {MAX_LINE} bytes; write it as JSONL")
        yield line


def _list(data: bytes, name: str, field: str | None) -> list[Any]:
    key = "list" if field is None else field
    wrapped = b'{"list":' + data + b"}" if field is None else data
    value = parse_line(wrapped, name).get(key)
    if not isinstance(value, list):
        raise BadInput(f"{name} holds no list of records" + (f" in {field!r}" if field is not None else ""))
    return value


def _whole(value: dict[str, Any], where: str, loss: UnicodeLoss) -> dict[str, Any]:
    """Return a record whose texts are all Unicode."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return {replace_surrogates(key)[0]: _mended(inner, where, loss) for key, inner in value.items()}
    return value


def _mended(value: Any, where: str, loss: UnicodeLoss) -> Any:
    if isinstance(value, str):
        text, count = replace_surrogates(value)
        loss.add_surrogates(count, where)
        return text
    if isinstance(value, list):
        return [_mended(inner, where, loss) for inner in value]
    if isinstance(value, dict):
        return {replace_surrogates(key)[0]: _mended(inner, where, loss) for key, inner in value.items()}
    return value
