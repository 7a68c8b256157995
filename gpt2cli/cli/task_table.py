"""A task's summary for people, as lines."""

from __future__ import annotations

from typing import Any

from gpt2cli.cli.beside_published import two_decimals


def lines_of_task(record: dict[str, Any]) -> list[str]:
    """Return a gpt2.task record's lines: what was asked, then a metric a line with its standard error."""
    shots = f"{record['num_fewshot']}-shot" if record["num_fewshot"] else "zero-shot"
    lines = [f"{record['task']}: {record['type']}, {record['n_items']:,} items, {shots}"]
    width = max(map(len, record["metrics"]))
    for name, measure in record["metrics"].items():
        method = measure["stderr_method"]
        error = "" if measure["stderr"] is None else f" +- {_number(measure['stderr'])} ({method})"
        better = "higher" if measure["higher_is_better"] else "lower"
        lines.append(f"  {name:<{width}}  {_number(measure['value'])}{error}, {better} is better")
    if record["n_truncated_items"]:
        lost = f"{record['n_truncated_items']:,} items lost {record['n_dropped_tokens']:,} tokens"
        lines.append(f"  {lost}: the model reads {record['protocol']['context']:,}; {record['protocol']['too_long']}")
    for row in record.get("published", ()):
        paper = "  ".join(f"{size} {value:g}" for size, value in row["paper"].items())
        lines.append(f"  {row['data']}, {row['unit']}: here {two_decimals(row['own'])}; the GPT-2 paper: {paper}")
    return lines


def _number(value: float | None) -> str:
    return two_decimals(value) if value is None or abs(value) >= 100 else f"{value:.4f}"
