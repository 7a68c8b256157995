"""A task's summary for people, as lines."""

from __future__ import annotations

from typing import Any

from gpt2cli.cli.beside_published import two_decimals
from gpt2cli.cli.exclusion import lines_of_exclusion
from gpt2cli.errors import counted


def lines_of_task(record: dict[str, Any]) -> list[str]:
    """Return a gpt2.task record's lines: what was asked, then a metric a line with its standard error."""
    shots = f"{record['num_fewshot']}-shot" if record["num_fewshot"] else "zero-shot"
    lines = [f"{record['task']}: {record['type']}, {counted(record['n_items'], 'item')}, {shots}",
             *(f"  {line}" for line in lines_of_exclusion(record))]
    differences = record.get("exclusion", {}).get("difference", {})
    width = max(map(len, record["metrics"]))
    for name, measure in record["metrics"].items():
        method = measure["stderr_method"]
        error = "" if measure["stderr"] is None else f" +- {_number(measure['stderr'])} ({method})"
        better = "higher" if measure["higher_is_better"] else "lower"
        lines.append(f"  {name:<{width}}  {_number(measure['value'])}{error}, {better} is better"
                     + _difference(differences.get(name)))
    if record["n_truncated_items"]:
        lost = f"{counted(record['n_truncated_items'], 'item')} lost {counted(record['n_dropped_tokens'], 'token')}"
        lines.append(f"  {lost}: the model reads {record['protocol']['context']:,}; {record['protocol']['too_long']}")
    for row in record.get("published", ()):
        paper = "  ".join(f"{size} {value:g}" for size, value in row["paper"].items())
        lines.append(f"  {row['data']}, {row['unit']}: here {two_decimals(row['own'])}; the GPT-2 paper: {paper}")
    return lines


def _difference(found: dict[str, float | None] | None) -> str:
    if found is None or found["value"] is None:
        return ""
    sign = "+" if found["value"] >= 0 else ""
    error = "" if found["stderr"] is None else f" +- {_number(found['stderr'])}"
    return f"; {sign}{_number(found['value'])}{error} against all"


def _number(value: float | None) -> str:
    return two_decimals(value) if value is None or abs(value) >= 100 else f"{value:.4f}"
