"""Files as gpt2 overlap writes them, of texts whose overlap is given, for tests of clean scores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from gpt2cli.records.jsonl import RecordWriter

Record = dict[str, Any]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def overlap_records(texts: list[str], counts: dict[int, int], items: list[Record] | None = None) -> list[Record]:
    """What gpt2 overlap would say of texts whose documents have ten n-grams each."""
    records: list[Record] = [
        {"kind": "gpt2.overlap", "document": number, "id": sha(text), "n_grams": 10, "n_overlap": counts[number],
         "overlap": counts[number] / 10, **(items[number] if items else {})} for number, text in enumerate(texts)]
    n_overlap = sum(record["n_overlap"] for record in records)
    return [*records, {
        "kind": "gpt2.overlap-set", "n": 8, "n_documents": len(records), "n_grams": 10 * len(records),
        "n_overlap": n_overlap, "overlap": n_overlap / (10 * len(records) or 1), "n_distinct": 9,
        "n_distinct_overlap": 3, "n_documents_with_overlap": sum(record["n_overlap"] > 0 for record in records),
        "train": {"documents": 7, "words": 70}, "method": "exact"}]


def save(path: Path, records: list[Record]) -> str:
    with open(path, "wb") as stream:
        writer = RecordWriter(stream)
        for record in records:
            writer.write(record["kind"], {name: value for name, value in record.items() if name != "kind"})
    return str(path)


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def of(output: bytes, *kinds: str) -> list[Record]:
    """Return the records of these kinds in a command's output."""
    return [record for record in map(json.loads, output.splitlines()) if record["schema"].rpartition("/")[0] in kinds]
