"""How a score changes when documents or items are left out: clean less all, with its standard error.

Both scores are of the same documents, so the error is that of the difference itself, by the delta method. Whether a
document is clean is taken as given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gpt2cli.evaluation.measures import Sums

MEASURES = ("nll_nats_per_token", "ppl", "word_ppl", "byte_ppl", "bits_per_byte", "bits_per_character")


def text_difference(whole: Sums, clean: Sums) -> dict[str, float | None]:
    """Return each measure of the clean documents less that of all, and the standard error of the nats a token.

    None: one of the two is none. stderr is None where fewer than two documents have a scored token.
    """
    ours, theirs = clean.as_fields(), whole.as_fields()
    found = {name: _less(ours[name], theirs[name]) for name in MEASURES}
    return {**found, "stderr": _error_of_ratios(whole, clean)}


def metric_difference(metric: Mapping[str, Any], clean: Mapping[str, Any], values: Sequence[Any], kept: Sequence[bool]
                      ) -> dict[str, float | None]:
    """Return a metric's value over the clean items less that over all, and the standard error of that.

    metric, clean: the entries of the two gpt2.task records; values: those of all items; kept: which are clean. stderr
    is None but for means and perplexity, and for a single item.
    """
    error = _error_of_means(metric, clean, values, kept)
    return {"value": _less(clean["value"], metric["value"]), "stderr": error}


def _less(clean: float | None, whole: float | None) -> float | None:
    return None if clean is None or whole is None else clean - whole


def _error_of_ratios(whole: Sums, clean: Sums) -> float | None:
    """Return the error of nll / tokens over clean documents less that over all.

    A document adds (nll - r tokens) / T to the error of a ratio r over T tokens: to both if it is clean, else to that
    of all alone. The squares of it are sums of the documents' moments.
    """
    n = whole.moments.n
    if n < 2:
        return None
    r, r_clean = whole.nll_nats / whole.n_tokens, clean.nll_nats / clean.n_tokens
    of_clean = _squares(1 / clean.n_tokens - 1 / whole.n_tokens, r_clean / clean.n_tokens - r / whole.n_tokens,
                        clean.moments.nll_nll, clean.moments.nll_tokens, clean.moments.tokens_tokens)
    of_others = _squares(1 / whole.n_tokens, r / whole.n_tokens, whole.moments.nll_nll - clean.moments.nll_nll,
                         whole.moments.nll_tokens - clean.moments.nll_tokens,
                         whole.moments.tokens_tokens - clean.moments.tokens_tokens)
    return math.sqrt(max(0.0, of_clean + of_others) * n / (n - 1))


def _squares(a: float, b: float, nll_nll: float, nll_tokens: float, tokens_tokens: float) -> float:
    """Return the sum of (a nll - b tokens)^2."""
    return math.fsum([a * a * nll_nll, -2 * a * b * nll_tokens, b * b * tokens_tokens])


def _error_of_means(metric: Mapping[str, Any], clean: Mapping[str, Any], values: Sequence[Any], kept: Sequence[bool]
                    ) -> float | None:
    n, n_clean = len(values), sum(kept)
    if n < 2 or metric["aggregation"] not in ("mean", "perplexity") or None in (metric["value"], clean["value"]):
        return None
    mean = math.fsum(values) / n
    mean_clean = math.fsum(value for value, keep in zip(values, kept, strict=True) if keep) / n_clean
    slopes = (1.0, 1.0) if metric["aggregation"] == "mean" else (-metric["value"], -clean["value"])
    squares = math.fsum((slopes[1] * keep * (value - mean_clean) / n_clean - slopes[0] * (value - mean) / n) ** 2
                        for value, keep in zip(values, kept, strict=True))
    return math.sqrt(squares * n / (n - 1))
