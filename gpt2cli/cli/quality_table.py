"""The table of gpt2 eval-text for people: a measure a line, its interval, and with a second set both side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpt2cli.cli.console import Console

if TYPE_CHECKING:
    from gpt2cli.quality.evaluate import QualitySummary

_NONE = {"value": None, "interval": None}
ALIKE = 1.25
"""Sizes whose ratio is below this are compared without a word."""
FEW = 20
"""Below this many documents an interval is clearly too narrow."""


def show_quality(summary: QualitySummary, console: Console) -> None:
    """Show what was measured, or both sets and their difference."""
    text, other, less = summary.text, summary.against, summary.difference
    console.note(_facts(text))
    level = f"{100 * text['bootstrap']['level']:g} % interval"
    rows: list[tuple[str, ...]]
    if other is None or less is None:
        rows = [("", "value", "std. error", level)]
        rows += [(_label(name, text), _number(measure["value"], name), _error(measure), _interval(measure, name))
                 for name, measure in text["measures"].items()]
    else:
        console.note(f"against {_facts(other)}")
        rows = [("", "text", "against", "difference", level)]
        for name, measure in text["measures"].items():
            beside, change = other["measures"].get(name, _NONE), less["measures"].get(name, _NONE)
            rows.append((_label(name, text), _number(measure["value"], name), _number(beside["value"], name),
                         _signed(change["value"], name), _interval(change, name, signed=True)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        console.note("  ".join(cells).rstrip())
    _caveats(text, other, console)


def _facts(record: dict[str, Any]) -> str:
    n, empty = record["n_documents"], record["n_empty_documents"]
    tail = f", {empty:,} of them empty" if empty else ""
    return f"{n:,} {'document' if n == 1 else 'documents'}{tail}, {record['n_units']:,} {record['unit']}s"


def _label(name: str, record: dict[str, Any]) -> str:
    words = {"mean_length": f"mean length in {record['unit']}s", "vocabulary": f"different {record['unit']}s",
             "zipf": "Zipf coefficient", "self_bleu": f"self-BLEU, {record.get('self_bleu_references')} references",
             "loops": "end in a loop", "nll_nats_per_token": "nats a token", "ppl": "perplexity",
             "bits_per_byte": "bits a byte", "bleu": "BLEU"}
    if name in words:
        return words[name]
    if name.endswith("_at"):
        return f"distinct-{name.split('_')[1]} at {record['distinct_at']:,}"
    if name.startswith("rouge"):
        return f"ROUGE-{name.removeprefix('rouge')}"
    return name.replace("_", "-")


def _caveats(text: dict[str, Any], other: dict[str, Any] | None, console: Console) -> None:
    for record in filter(None, (text, other)):
        if 1 < record["n_documents"] < FEW:
            console.warn(f"{record['n_documents']} documents are few: their intervals are narrower than they should be")
    if other is None:
        return
    if _apart(text["n_units"], other["n_units"]):
        console.warn("the sets differ in size: distinct-n, the vocabulary and the Zipf coefficient depend on it; "
                     "distinct-n at a fixed size does not")
    if _apart(*(record["measures"]["mean_length"]["value"] for record in (text, other))):
        console.warn("the documents differ in length: repetition, loops and self-BLEU depend on it")


def _apart(one: float, other: float) -> bool:
    return not 1 / ALIKE < (one or 1) / (other or 1) < ALIKE


def _number(value: float | None, name: str = "") -> str:
    if value is None:
        return "-"
    if name == "vocabulary":
        return f"{value:,.0f}"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.2f}"


def _signed(value: float | None, name: str = "") -> str:
    return f"+{_number(value, name)}" if value is not None and value > 0 else _number(value, name)


def _error(measure: dict[str, Any]) -> str:
    return "" if measure["stderr"] is None else _number(measure["stderr"])


def _interval(measure: dict[str, Any], name: str, *, signed: bool = False) -> str:
    if measure["interval"] is None:
        return ""
    show = _signed if signed else _number
    return " to ".join(show(end, name) for end in measure["interval"])
