"""What a verdict is worth: the share of flagged texts that are generated, by Bayes' rule from measured rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

OF = 10_000
"""Texts that a sentence counts out of."""


def share_generated(found: float, false_positives: float, prevalence: float) -> float | None:
    """Return the share of flagged texts that are generated; None when none is flagged."""
    flagged = prevalence * found + (1 - prevalence) * false_positives
    return prevalence * found / flagged if flagged else None


def evidence_of(thresholds: Sequence[dict[str, Any]], prevalences: Sequence[float]) -> list[dict[str, Any]]:
    """Return for each threshold that has a score, and each share of generated texts, what a flag means there.

    The interval takes both rates at the ends of their intervals that are worst, then best, for the detector, so it is
    wider than 95 %.
    """
    rows = []
    for threshold in thresholds:
        if threshold["score"] is None:
            continue
        false, found = threshold["false_positives_interval"], threshold["found_interval"]
        for prevalence in prevalences:
            rows.append({
                "max_false_positives": threshold["max_false_positives"], "prevalence": prevalence,
                "flagged_generated": share_generated(threshold["found"], threshold["false_positives"], prevalence),
                "interval": [share_generated(found[0], false[1], prevalence),
                             share_generated(found[1], false[0], prevalence)],
            })
    return rows


def statement(record: dict[str, Any]) -> list[str]:
    """Return in plain words, a line each, how weak the evidence on a single text is, from a record over all texts."""
    rows = [row for row in record["evidence"] if row["flagged_generated"] is not None]
    if not rows:
        return ["No threshold could be shown to keep any of the false-positive rates: on a single text this detector "
                "is no evidence."]
    strictest = min(row["max_false_positives"] for row in rows)
    row = min((row for row in rows if row["max_false_positives"] == strictest), key=lambda row: row["prevalence"])
    threshold = next(one for one in record["thresholds"] if one["max_false_positives"] == strictest)
    generated = row["prevalence"] * OF
    found, false = threshold["found"] * generated, threshold["false_positives"] * (OF - generated)
    low, high = map(_percent, row["interval"])
    return [
        f"On a single text this is weak evidence. At the threshold for {_percent(strictest)} false positives, "
        f"{_percent(threshold['found'])} of generated and {_percent(threshold['false_positives'])} of human texts are "
        "flagged here.",
        f"Where {_percent(row['prevalence'])} of texts are generated, of {OF:,} texts {_count(found)} generated and "
        f"{_count(false)} human ones are flagged: a flagged text is generated with probability "
        f"{_percent(row['flagged_generated'])} (between {low} and {high} by these measurements).",
        "These rates hold for texts like the ones tested: from this model, sampled so, of this length and subject. "
        "Other models, settings, edits or writers (such as learners of English) change them without a sign. No verdict "
        "on a person should rest on it.",
    ]


def _percent(share: float) -> str:
    """Return a share as "4.1 %"; a small one is not called 0."""
    return f"{100 * share:.3g} %"


def _count(texts: float) -> str:
    """Return how many texts: whole ones, unless it is less than one."""
    return f"{texts:,.0f}" if texts >= 1 else f"{texts:.1g}"
