"""The table of gpt2 eval-diff for people: a metric a line, what it was, how it changed, how sure that is."""

from __future__ import annotations

from typing import Any

from gpt2cli.cli.console import Console

HEADER = ("task", "metric", "A", "B", "B - A", "std. error", "interval", "pairs", "McNemar")
_LEFT = 2
FEW_PAIRS = 20
"""Below this many a percentile interval is clearly too narrow: no better or worse is read off it."""


def show_differences(records: list[dict[str, Any]], reporter: Console) -> None:
    """Show gpt2.eval-diff records, and what was left without a partner."""
    level = f"{100 * records[0]['bootstrap']['level']:g} % interval"
    header = tuple(level if name == "interval" else name for name in HEADER)
    rows = [header, *(_row(record) for record in records)]
    kept = [column for column in range(len(header)) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in kept}
    for row in rows:
        cells = (row[column].ljust(widths[column]) if column < _LEFT else row[column].rjust(widths[column])
                 for column in kept)
        reporter.note("  ".join(cells).rstrip())
    for line in dict.fromkeys(line for record in records for line in _alone(record)):
        reporter.warn(line)


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    test, interval, stderr = record.get("mcnemar"), record["interval"], record["stderr"]
    return (
        record["task"] or "documents", record["metric"], _number(record["a"]), _number(record["b"]),
        _signed(record["difference"]) + _verdict(record), "" if stderr is None else _number(stderr),
        "" if interval is None else f"{_signed(interval[0])} to {_signed(interval[1])}", f"{record['n_pairs']:,}",
        "" if test is None else f"{test['only_a']:,} : {test['only_b']:,}, p {_p_value(test['p_value'])}",
    )


def _verdict(record: dict[str, Any]) -> str:
    """Return "better" or "worse" where the interval leaves zero out and the direction is known."""
    interval, higher = record["interval"], record["higher_is_better"]
    if interval is None or higher is None or interval[0] <= 0 <= interval[1] or record["n_pairs"] < FEW_PAIRS:
        return ""
    return " better" if (interval[0] > 0) == higher else " worse"


def _alone(record: dict[str, Any]) -> list[str]:
    what, of = ("document", "") if record["task"] is None else ("item", f" of task {record['task']}")
    lines = []
    if record["interval"] is not None and record["n_pairs"] < FEW_PAIRS:
        lines.append(f"{record['n_pairs']} {what}s{of} are few: their interval is narrower than its level says")
    for side in ("a", "b"):
        if number := record[f"n_only_{side}"]:
            ending, verbs = ("", ("is", "was")) if number == 1 else ("s", ("are", "were"))
            lines.append(f"{number:,} {what}{ending}{of} {verbs[0]} only in {side.upper()} and {verbs[1]} left out")
    return lines


def _number(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.2f}"


def _signed(value: float) -> str:
    return f"+{_number(value)}" if value > 0 else _number(value)


def _p_value(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 else f"{value:.1e}"
