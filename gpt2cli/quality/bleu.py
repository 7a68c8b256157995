"""BLEU from its counts, many at once: sacrebleu's formula and default smoothing (Papineni et al. 2002; Post 2018)."""

from __future__ import annotations

import numpy as np

from gpt2cli.quality.ngrams import MAX_ORDER


def bleu_of_counts(matched_B4: np.ndarray, totals_B4: np.ndarray, length_B: np.ndarray, reference_B: np.ndarray, *,
                   effective_order: bool) -> np.ndarray:
    """Return BLEU, 0 to 100, float64 [B].

    matched_B4, totals_B4: n-grams of orders 1 to 4 that a reference has too (clipped), and all. length_B,
    reference_B: units of the text, and of its reference. An order without a match counts 1 / 2^k matches, k the orders
    without one so far ("exp"). effective_order: a text of fewer than 4 units is measured by the orders it has, else
    it scores 0. Without any match BLEU is 0.
    """
    matched, totals = matched_B4.astype(np.float64), totals_B4.astype(np.float64)
    there = np.logical_and.accumulate(totals > 0, axis=1)
    missed = there & (matched == 0)
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=1), matched)
    logs = np.log(np.where(there, smoothed, 1.0) / np.where(there, totals, 1.0))
    n_orders = there.sum(axis=1)
    precision = np.exp(logs.sum(axis=1) / np.maximum(n_orders if effective_order else MAX_ORDER, 1))
    length, reference = length_B.astype(np.float64), reference_B.astype(np.float64)
    short = length < reference
    penalty = np.where(short, np.exp(1 - np.where(short, reference, 1) / np.maximum(length, 1)), 1.0)
    scored = (matched > 0).any(axis=1) & (length > 0)
    if not effective_order:
        scored &= n_orders == MAX_ORDER
    return np.where(scored, 100 * penalty * precision, 0.0)
