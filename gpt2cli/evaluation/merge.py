"""Records of pieces of a text, made one: sums add up, and what the sums say of the whole is said anew.

Where the pieces bring clean scores too (those of an exclusion), these are made one apart from the scores of all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.bootstrap import percentile_intervals
from gpt2cli.evaluation.clean_documents import exclusion_fields
from gpt2cli.evaluation.exclusion import is_clean
from gpt2cli.evaluation.measures import DocumentSums, Moments, Sums, add_sums
from gpt2cli.evaluation.paper import compare
from gpt2cli.evaluation.units import Units
from gpt2cli.records.jsonl import ReadTally, Record, read_records
from gpt2cli.records.streams import display_name
from gpt2cli.reporter import Reporter

SAME = ("run", "step", "tokens", "flops", "n_params", "lr_phase", "split", "protocol", "dtype",
        "model_sha256", "tokenizer_sha256")
"""What the records must agree in; the merged one repeats it."""
_DIGEST = re.compile("[0-9a-f]{64}")
_MOST = 1 << 53


@dataclass
class _Piece:
    where: str
    record: Record
    sums: Sums
    documents: list[Record] = field(default_factory=list)

    @property
    def has_documents(self) -> bool:
        """Whether a record of each document with text came before the piece's."""
        return len(self.documents) == self.sums.n_documents - self.sums.n_empty_documents


def merge_records(paths: Sequence[str], bootstrap: int, reporter: Reporter) -> list[dict[str, Any]]:
    """Return the fields of the gpt2.eval/1 record of all texts together; `-` is standard input.

    With pieces that bring a clean score each, a second record is that of all clean documents. The text's digest is
    that of the whole when every piece brought its document records, else over the pieces'. bootstrap: resamples, for
    which the document records are needed. Raises UsageFault for records that are not of one model, tokenizer, dtype
    and protocol, and for clean scores that some pieces lack, BadInput for records that hold no sums.
    """
    pieces = [piece for path in paths for piece in _pieces(path, reporter)]
    whole = [piece for piece in pieces if not is_clean(piece.record)]
    clean = [piece for piece in pieces if is_clean(piece.record)]
    records = [_merged(group, bootstrap) for group in (whole, clean) if group]
    if len(records) == 2:
        _check_partners(pieces)
        digests = [_exclusion_digest(piece) for piece in clean]
        exclusion = {"overlap_sha256": digests[0] if len(set(digests)) == 1 else _over(digests)}
        sums = [add_sums([piece.sums for piece in group]) for group in (whole, clean)]
        records[1]["exclusion"] = {**exclusion, **exclusion_fields(*sums)}
    return records


def _merged(pieces: list[_Piece], bootstrap: int) -> dict[str, Any]:
    _compare(pieces)
    first = pieces[0].record
    whole = all(piece.has_documents for piece in pieces)
    documents = [record for piece in pieces for record in piece.documents]
    digests = [record["id"] for record in documents] if whole else [piece.record["text_sha256"] for piece in pieces]
    record = {
        **{name: first.get(name) for name in SAME[:7]}, **add_sums([piece.sums for piece in pieces]).as_fields(),
        **{name: first[name] for name in SAME[7:]}, "text_sha256": _over(digests),
        "merged": {"pieces": len(pieces), "text_sha256": "over documents" if whole else "over pieces"},
    }
    protocol = first["protocol"]
    if isinstance(protocol, dict):
        record |= compare(str(protocol.get("name")), record)
    if "units_sha256" in first:
        record["units_sha256"] = _over([piece.record["units_sha256"] for piece in pieces])
    if bootstrap:
        if not whole:
            raise UsageFault("--bootstrap draws documents: make the records to be merged with --per-doc")
        record["bootstrap"] = percentile_intervals(_columns(documents), bootstrap,
                                                   own_units="units_sha256" not in first)
    return record


def _check_partners(pieces: list[_Piece]) -> None:
    """Raise UsageFault unless each score of all is followed by its clean one, and BadInput unless that is a part."""
    for number, piece in enumerate(pieces):
        partner = pieces[number + 1] if number + 1 < len(pieces) else None
        if number % 2:
            continue
        if is_clean(piece.record) or partner is None or not is_clean(partner.record):
            missing = "score of all" if is_clean(piece.record) else "clean score"
            raise UsageFault(f"{piece.where} has no {missing} beside it, and others do; make all pieces with "
                             "--exclude-overlap, or none")
        ours, all_of_it = partner.sums, piece.sums
        if any(part > whole for part, whole in (
                (ours.n_tokens, all_of_it.n_tokens), (ours.n_documents, all_of_it.n_documents),
                (ours.units.n_words, all_of_it.units.n_words), (ours.units.n_bytes, all_of_it.units.n_bytes))):
            raise BadInput(f"{partner.where} counts more than all of its text; it belongs to another one")


def _exclusion_digest(piece: _Piece) -> str:
    exclusion = piece.record.get("exclusion")
    digest = exclusion.get("overlap_sha256") if isinstance(exclusion, dict) else None
    _check_digest(digest, f"{piece.where}: overlap_sha256")
    return str(digest)


def _pieces(path: str, reporter: Reporter) -> Iterator[_Piece]:
    tally, name = ReadTally(), display_name(path)
    documents: list[Record] = []
    before: list[Record] = []
    number = 0
    for record in read_records(path, tally, kinds=("gpt2.eval", "gpt2.eval-document")):
        if record["schema"] == "gpt2.eval-document/1":
            _check_document(record, name)
            documents.append(record)
            continue
        number += 1
        where = f"{name}: gpt2.eval record {number}"
        if is_clean(record) and documents:
            raise BadInput(f"{where} is a clean score, and documents stand between it and the score of all")
        if is_clean(record):
            documents = [each for each in before if each.get("excluded") is False]
        yield _Piece(where, record, _sums(record, where), documents)
        before, documents = documents, []
    if documents:
        raise BadInput(f"{name} ends with records of documents and no gpt2.eval record after them: it was cut short")
    if not number:
        raise BadInput(f"{name} holds no gpt2.eval record")
    for line in tally.warnings:
        reporter.warn(line)


def _sums(record: Record, where: str) -> Sums:
    moments = record.get("document_moments")
    if not isinstance(moments, dict):
        raise BadInput(f"{where} has no document_moments; only what gpt2 eval-ppl writes can be merged")
    units = Units(*(_count(record, name, where) for name in ("n_words", "n_bytes", "n_characters")))
    sums = Sums(
        _number(record, "nll_nats", where), _count(record, "n_tokens", where), units,
        _count(record, "n_documents", where), _count(record, "n_empty_documents", where),
        Moments(_count(moments, "n", where), _number(moments, "nll_nll", where), _number(moments, "nll_tokens", where),
                _count(moments, "tokens_tokens", where)),
    )
    if not sums.n_tokens:
        raise BadInput(f"{where} counts no token")
    for name in ("text_sha256", *(("units_sha256",) if "units_sha256" in record else ())):
        _check_digest(record.get(name), f"{where}: {name}")
    for name in SAME[7:]:
        if name not in record:
            raise BadInput(f"{where} does not say its {name}; only what gpt2 eval-ppl writes can be merged")
    return sums


def _check_document(record: Record, name: str) -> None:
    where = f"{name}: document {str(record['document'])[:20]}"
    _check_digest(record["id"], f"{where}: id")
    _number(record, "nll_nats", where)
    for count in ("n_tokens", "n_words", "n_bytes", "n_characters"):
        _count(record, count, where)


def _check_digest(value: object, where: str) -> None:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise BadInput(f"{where} is no sha256")


def _number(record: Record, name: str, where: str) -> float:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e100:
        raise BadInput(f"{where}: {name} is no sum: {str(value)[:40]}")
    return float(value)


def _count(record: Record, name: str, where: str) -> int:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise BadInput(f"{where}: {name} is no count: {str(value)[:40]}")
    return value


def _compare(pieces: list[_Piece]) -> None:
    first, *rest = pieces
    for piece in rest:
        for name in SAME:
            if piece.record.get(name) != first.record.get(name):
                raise UsageFault(f"{first.where} and {piece.where} differ in "
                                 f"{_differences(name, first.record.get(name), piece.record.get(name))}; "
                                 "only pieces of one evaluation can be merged")
    counted = [piece.record.get("units_sha256") for piece in pieces]
    if None in counted and any(counted):
        raise UsageFault("some records were made with --count-from and others not; they have no units in common")
    for digests, what in ((counted, "counted their units in the same file"),
                          ([piece.record["text_sha256"] for piece in pieces], "are of the same text")):
        seen: dict[str, str] = {}
        for piece, digest in zip(pieces, digests, strict=True):
            if digest is not None and digest in seen:
                raise UsageFault(f"{seen[digest]} and {piece.where} {what}; the merged record would count it twice")
            seen[str(digest)] = piece.where


def _differences(name: str, one: object, other: object) -> str:
    """Return what two values of a field are, of objects the entries that differ."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return f"{name}: {_short(one)} and {_short(other)}"
    missing = "nothing"
    return f"{name}: " + ", ".join(f"{key} ({_short(one.get(key, missing))} and {_short(other.get(key, missing))})"
                                   for key in [*one, *(key for key in other if key not in one)]
                                   if key not in one or key not in other or one[key] != other[key])


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _over(digests: list[str]) -> str:
    whole = hashlib.sha256()
    for digest in digests:
        whole.update(bytes.fromhex(digest))
    return whole.hexdigest()


def _columns(documents: list[Record]) -> DocumentSums:
    columns = DocumentSums()
    for record in documents:
        columns.add(float(record["nll_nats"]), record["n_tokens"],
                    Units(record["n_words"], record["n_bytes"], record["n_characters"]))
    return columns
