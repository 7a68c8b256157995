"""gpt2.detection-report records as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def lines_of(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a report: by length, by setting, calibration, thresholds, and how weak the evidence is."""
    from gpt2cli.detection.evidence import statement

    whole = records[-1]
    head = ("human", "generated", "accuracy %  (95 % interval)", "AUC  (95 % interval)")
    rows = [(_name(record), f"{record['n_human']:,}", f"{record['n_generated']:,}", _percent(record), _auc(record))
            for record in records]
    yield from _table(("texts", *head), rows)
    yield ""
    yield f"Calibration (Platt): expected calibration error {whole['calibration_error']:.3f}"
    yield from _table(("said", "texts", "mean said", "generated"), [
        (f"{one['low']:.1f} to {one['high']:.1f}", f"{one['n']:,}", f"{one['mean_probability']:.2f}",
         f"{one['generated']:.2f}") for one in whole["calibration_bins"]])
    yield ""
    yield from _table(("false positives at most", "probability above", "human flagged", "generated flagged"),
                      [_threshold(one) for one in whole["thresholds"]])
    yield ""
    yield from statement(whole)


def _name(record: dict[str, Any]) -> str:
    if record["group"] == "length":
        return f"first {record['words']} words"
    if record["group"] == "all":
        return "all"
    return setting_name(record)


def setting_name(record: dict[str, Any]) -> str:
    """Return how a group's texts were sampled, in words."""
    if record["temperature"] is None:
        return "sampling unknown"
    extras = [f"top-{name} {record[f'top_{name}']:g}" for name in ("k", "p") if record[f"top_{name}"] is not None]
    return ", ".join([f"temperature {record['temperature']:g}", *extras])


def _percent(record: dict[str, Any]) -> str:
    low, high = record["accuracy_interval"]
    return f"{100 * record['accuracy']:.1f}  ({100 * low:.1f} to {100 * high:.1f})"


def _auc(record: dict[str, Any]) -> str:
    low, high = record["auc_interval"]
    return f"{record['auc']:.3f}  ({low:.3f} to {high:.3f})"


def _threshold(one: dict[str, Any]) -> tuple[str, ...]:
    rate = f"{100 * one['max_false_positives']:g} %"
    if one["score"] is None:
        return rate, "too few texts to tell", "", ""
    shares = [f"{100 * one[name]:.1f} %  ({100 * one[f'{name}_interval'][0]:.1f} to "
              f"{100 * one[f'{name}_interval'][1]:.1f})" for name in ("false_positives", "found")]
    return rate, f"{one['probability']:.3f}", *shares


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
