"""Percentile intervals: documents are drawn anew with replacement, and the middle of the resampled measures is kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpt2cli.evaluation.measures import DocumentSums

LEVEL = 0.95
SEED = 0


def percentile_intervals(documents: DocumentSums, resamples: int, *, own_units: bool = True) -> dict[str, Any]:
    """Return the `bootstrap` field: how it was drawn, and [low, high] of every measure, None for a single document.

    own_units: the units are the documents' own, so the measures a word, byte and character can be resampled with them.
    """
    columns = {name: np.array(getattr(documents, name), dtype=np.float64)
               for name in ("nll", "tokens", *(("words", "bytes", "characters") if own_units else ()))}
    scored = columns["tokens"] > 0
    drawn = {name: np.empty(resamples) for name in columns}
    n = int(scored.sum())
    generator = np.random.Generator(np.random.PCG64(SEED))
    if n > 1:
        kept = {name: column[scored] for name, column in columns.items()}
        for number in range(resamples):
            chosen = np.bincount(generator.integers(0, n, n), minlength=n).astype(np.float64)
            for name, column in kept.items():
                drawn[name][number] = chosen @ column
    return {"method": "percentiles over resampled documents", "resamples": resamples, "seed": SEED, "level": LEVEL,
            "intervals": _intervals(drawn) if n > 1 else None}


def _intervals(drawn: dict[str, np.ndarray]) -> dict[str, list[float] | None]:
    nats = drawn["nll"] / drawn["tokens"]
    found = {"nll_nats_per_token": _middle(nats), "ppl": _middle(nats, exponential=True)}
    for name, denominator in (("word_ppl", "words"), ("byte_ppl", "bytes")):
        if denominator in drawn:
            found[name] = _middle(_divide(drawn["nll"], drawn[denominator]), exponential=True)
    for name, denominator in (("bits_per_byte", "bytes"), ("bits_per_character", "characters")):
        if denominator in drawn:
            found[name] = _middle(_divide(drawn["nll"] / np.log(2), drawn[denominator]))
    return found


def _divide(nll: np.ndarray, units: np.ndarray) -> np.ndarray:
    return np.divide(nll, units, out=np.full_like(nll, np.inf), where=units > 0)


def _middle(values: np.ndarray, *, exponential: bool = False) -> list[float] | None:
    """Return the two percentiles; exponentiated last, which keeps their order. None beyond what a float holds."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail], method="inverted_cdf")
    with np.errstate(over="ignore"):
        ends = np.exp([low, high]) if exponential else np.array([low, high])
    return [float(end) for end in ends] if np.isfinite(ends).all() else None
