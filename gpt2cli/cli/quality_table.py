"""The table of gpt2 eval-text for people: a measure a line, its interval, and with a second set both side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpt2cli.cli.console import Console
from gpt2cli.errors import counted

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
    return f"{counted(n, 'document')}{tail}, {counted(record['n_units'], record['unit'])}"


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
        if record["n_documents"] == 1:
            console.warn("one document tells nothing of others: there are no standard errors (--lines takes each line "
                         "of plain text as a document)")
        elif record["n_documents"] < FEW:
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


def _number(value: float | None, name: str = "", beside: float | None = None) -> str:
    """Return a number as a cell; `beside`: with as many decimals as that one."""
    if value is None:
        return "-"
    if name == "vocabulary":
        return f"{value:,.0f}"
    size = abs(value if beside is None else beside)
    if size and not 1e-3 <= size < 1e6:
        return f"{value:.3g}"
    return f"{value:.4f}" if size < 10 else f"{value:,.2f}"


def _signed(value: float | None, name: str = "", beside: float | None = None) -> str:
    return f"{'+' if value is not None and value > 0 else ''}{_number(value, name, beside)}"


def _error(measure: dict[str, Any]) -> str:
    return "" if measure["stderr"] is None else _number(measure["stderr"])


def _interval(measure: dict[str, Any], name: str, *, signed: bool = False) -> str:
    if measure["interval"] is None:
        return ""
    show, widest = _signed if signed else _number, max(measure["interval"], key=abs)
    return " to ".join(show(end, name, widest) for end in measure["interval"])
