"""What `gpt2 overlap` found, read and checked: for each test document and item, how many of its n-grams were met."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, Record, read_records
from gpt2cli.records.provenance import json_sha256
from gpt2cli.records.streams import display_name
from gpt2cli.reporter import Reporter

_DIGEST = re.compile("[0-9a-f]{64}")
_MOST = 1 << 53
_ROUNDING = 1e-6
"""How far a written fraction may be from that of the counts."""


@dataclass(frozen=True)
class Measured:
    """One test document or item: the sha256 of its text's UTF-8, its n-grams, and those that were met in training."""

    id: str
    n_grams: int
    n_overlap: int

    @property
    def overlap(self) -> float:
        """The share of its n-grams that were met; 0 for a text without any."""
        return self.n_overlap / self.n_grams if self.n_grams else 0.0


@dataclass
class OverlapFile:
    """All of one run of `gpt2 overlap`. whole: its gpt2.overlap-set/1. sha256: over the records' canonical JSON.

    documents: those that are no items, in order; items: by task and number.
    """

    name: str
    whole: Record = field(default_factory=dict)
    documents: list[Measured] = field(default_factory=list)
    items: dict[str, dict[int, Measured]] = field(default_factory=dict)
    sha256: str = ""


def read_overlap(path: str, reporter: Reporter) -> OverlapFile:
    """Return what is in a file that `gpt2 overlap` wrote; `-` is standard input.

    Raises BadInput for a file that is cut short, has lost documents, contradicts itself, or is of several runs.
    """
    found, tally, digest = OverlapFile(display_name(path)), ReadTally(), hashlib.sha256()
    everything: list[Measured] = []
    for record in read_records(path, tally, kinds=("gpt2.overlap", "gpt2.overlap-set")):
        digest.update(_record_digest(record, found.name))
        is_set = record["schema"].startswith("gpt2.overlap-set/")
        if found.whole:
            raise BadInput(_several(found, record) if is_set else f"{found.name} has documents after its overlap set; "
                           "one file is what one run of gpt2 overlap wrote")
        if is_set:
            found.whole = record
            continue
        everything.append(_take(found, record, len(everything)))
    for line in tally.warnings:
        reporter.warn(line)
    if not found.whole:
        raise BadInput(f"{found.name} ends without a gpt2.overlap-set record: it was cut short" if everything else
                       f"{found.name} holds no gpt2.overlap records, which gpt2 overlap writes")
    _check_whole(found, everything)
    found.sha256 = digest.hexdigest()
    return found


def _take(found: OverlapFile, record: Record, number: int) -> Measured:
    where = f"{found.name}: document {number}"
    if _count(record, "document", where) != number:
        raise BadInput(f"{found.name}: document {record['document']} stands where document {number} should; some are "
                       "missing, or the files of several runs were joined")
    if not isinstance(record["id"], str) or not _DIGEST.fullmatch(record["id"]):
        raise BadInput(f"{where}: id is no sha256")
    measured = Measured(record["id"], _count(record, "n_grams", where), _count(record, "n_overlap", where))
    _check_share(record, measured.n_overlap, measured.n_grams, where)
    if record.get("task") is None:
        found.documents.append(measured)
        return measured
    if not isinstance(record["task"], str):
        raise BadInput(f"{where}: task is no text")
    item = _count(record, "item", where)
    if found.items.setdefault(record["task"], {}).setdefault(item, measured) is not measured:
        raise BadInput(f"{found.name}: item {item} of task {record['task']} is there twice")
    return measured


def _check_whole(found: OverlapFile, documents: list[Measured]) -> None:
    """Raise BadInput unless the record of all says the sums of its documents, and a text's overlap is always one."""
    whole, where = found.whole, f"{found.name}: the overlap set"
    if not 1 <= _count(whole, "n", where) <= 1000:
        raise BadInput(f"{where}: n is {whole['n']}, no length of an n-gram")
    sums = {"n_documents": len(documents), "n_grams": sum(each.n_grams for each in documents),
            "n_overlap": sum(each.n_overlap for each in documents),
            "n_documents_with_overlap": sum(each.n_overlap > 0 for each in documents)}
    if whole["n_documents"] and not documents:
        raise BadInput(f"{found.name} has no record of a document, only their sums; make it without --summary")
    for name, value in sums.items():
        if _count(whole, name, where) != value:
            raise BadInput(f"{where} counts {whole[name]} {name}, and its documents make {value}: some are missing or "
                           "were changed; run gpt2 overlap again")
    if not isinstance(whole["train"], dict) or not isinstance(whole["method"], str | dict):
        raise BadInput(f"{where} does not say in what form it was measured (train, method)")
    seen: dict[str, Measured] = {}
    for each in documents:
        if seen.setdefault(each.id, each) != each:
            raise BadInput(f"{found.name}: the text {each.id[:12]} has two different overlaps; it was changed")


def _several(found: OverlapFile, record: Record) -> str:
    lengths = " and ".join(f"{str(each['n'])[:20]}-grams" for each in (found.whole, record))
    return f"{found.name} holds two overlap sets ({lengths}); one file is what one run of gpt2 overlap wrote"


def _check_share(record: Record, part: int, whole: int, where: str) -> None:
    share = record["overlap"]
    expected = part / whole if whole else 0.0
    if part > whole or isinstance(share, bool) or not isinstance(share, int | float) or (
            abs(share - expected) > _ROUNDING):
        raise BadInput(f"{where}: overlap is {str(share)[:20]}, and {part} of {whole} n-grams make {expected:.6g}")


def _count(record: Record, name: str, where: str) -> int:
    value: Any = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise BadInput(f"{where}: {name} is no count: {str(value)[:40]}")
    return value


def _record_digest(record: Record, name: str) -> bytes:
    try:
        return bytes.fromhex(json_sha256(record))
    except UnicodeEncodeError:
        raise BadInput(f"{name} holds half a surrogate pair, which is no character") from None
    except RecursionError:
        raise BadInput(f"{name}: JSON nested too deeply") from None


def texts_in_order(documents: list[Measured]) -> Iterator[Measured]:
    """Yield the documents that have a character, as an evaluation meets them."""
    empty = hashlib.sha256().hexdigest()
    return (each for each in documents if each.id != empty)
