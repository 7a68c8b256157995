"""Repetition inside each document: words that came before, n-grams that came before, and loops at the end."""

from __future__ import annotations

import numpy as np

from gpt2cli.quality.ngrams import NgramCounts

SPANS = (16, 128)
"""Lengths of the stretch before a unit in which rep-l looks for it."""
LOOP_COPIES = 3
LOOP_LENGTH = 2


def seq_rep(counts: NgramCounts) -> tuple[np.ndarray, np.ndarray]:
    """Return seq-rep-n of every document, float64 [D], and whether it has one: it must have n units.

    1 - different n-grams / n-grams of the document (Welleck et al. 2020, Neural Text Generation with Unlikelihood
    Training, whose headline is n = 4; Su et al. 2022 call it rep-n).
    """
    defined = counts.sizes_D > 0
    return np.where(defined, 1 - counts.distinct_D / np.maximum(counts.sizes_D, 1), 0.0), defined


def n_repeated(units: np.ndarray, span: int) -> int:
    """Return how many units of a document are among the `span` units before them.

    Over all units of all documents this is rep-l (Welleck et al. 2020) of the text itself; they also take it of a
    model's likeliest next tokens.
    """
    if len(units) < 2:
        return 0
    order = np.argsort(units, kind="stable")
    same = units[order[1:]] == units[order[:-1]]
    return int((same & (np.diff(order) <= span)).sum())


def loop_length(units: np.ndarray) -> int:
    """Return the length of the shortest phrase that a document ends in three or more copies of; 0: no loop.

    Holtzman et al. 2020: a generation is repetitive when a phrase of at least 2 units is there three times at its end.
    (The script they published asks for another thing.) A copy must be whole and the document's last unit its last.
    """
    units = units[::-1]
    limit = len(units) // LOOP_COPIES
    if limit < LOOP_LENGTH:
        return 0
    # a loop of period p at the end means that the last unit is also p before it: few periods are left to look at
    for period in np.flatnonzero(units[LOOP_LENGTH : limit + 1] == units[0]) + LOOP_LENGTH:
        copies = units[: LOOP_COPIES * period]
        if np.array_equal(copies[period:], copies[:-period]):
            return int(period)
    return 0
