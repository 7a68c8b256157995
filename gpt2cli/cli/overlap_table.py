"""What gpt2 overlap found, for people: a test file a row, in per cent as the GPT-2 paper has it, and passages."""

from __future__ import annotations

from typing import Any

from gpt2cli.errors import counted

SHOWN = 400
"""Characters of a passage on the screen."""


def lines_of_set(record: dict[str, Any]) -> list[str]:
    """Return a gpt2.overlap-set record's lines: the train side, then a row for each test file, one for all of several.
    """
    n, train = record["n"], record["train"]
    rate = record["false_positive_rate"]
    how = "exact" if record["method"] == "exact" else f"Bloom filter, false positives {rate:.1e}"
    lines = [f"train: {counted(train['documents'], 'document')}, {counted(train['words'], 'word')}; {n}-grams, {how}"]
    rows = [("test", "overlap", f"of {n}-grams", "distinct", "documents"), *map(_row, record["tests"])]
    if len(record["tests"]) > 1:
        rows.append(_row({**record, "test": "all"}))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells))
    return lines


def _row(counts: dict[str, Any]) -> tuple[str, ...]:
    distinct = counts["n_distinct_overlap"] / counts["n_distinct"] if counts["n_distinct"] else 0.0
    return (counts["test"], f"{100 * counts['overlap']:.2f} %", f"{counts['n_grams']:,}", f"{100 * distinct:.2f} %",
            f"{counts['n_documents_with_overlap']:,} of {counts['n_documents']:,}")


def lines_of_passage(record: dict[str, Any]) -> list[str]:
    """Return a gpt2.overlap-passage record's lines: where it stands on both sides, and its text on one line."""
    what = f"item {record['item']} of task {record['task']}" if "task" in record else f"document {record['document']}"
    text = " ".join(record["text"].split())
    text = text if len(text) <= SHOWN else text[:SHOWN] + " ..."
    lines = [f"{record['test']}, {what}: {record['n_words']:,} words from character {record['start']:,}", f"  {text}"]
    if record["train"]:
        others = record["n_train_documents"] - len(record["train"])
        places = ", ".join(f"{source['where']} ({source['n_grams']:,})" for source in record["train"])
        lines.append(f"  train: {places}" + (f" and {others:,} more" if others else ""))
    return lines
