"""From sums to measures: perplexities, bits per byte and the standard error. Sums are kept a document, in fp64."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Totals:
    """What was counted over documents. `nll` (nats) and `tokens` hold one entry for each document with tokens."""

    nll: array[float] = field(default_factory=lambda: array("d"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    n_words: int = 0
    n_bytes: int = 0
    n_empty: int = 0

    @property
    def n_tokens(self) -> int:
        """Scored tokens."""
        return sum(self.tokens)

    @property
    def nll_nats(self) -> float:
        """Summed nll in nats, rounded once."""
        return math.fsum(self.nll)

    def standard_error(self) -> float | None:
        """Return the standard error of nll a token over documents, by the delta method; None for a single document.

        A ratio of two sums over n independent documents: var = n / (n - 1) sum (nll_d - mean tokens_d)^2 / tokens^2.
        """
        n = len(self.nll)
        if n < 2:
            return None
        total = self.n_tokens
        mean = self.nll_nats / total
        squares = math.fsum((nll - mean * count) ** 2 for nll, count in zip(self.nll, self.tokens, strict=True))
        return math.sqrt(squares * n / (n - 1)) / total

    def as_fields(self) -> dict[str, Any]:
        """Return the measures of a gpt2.eval/1 record. A measure without a denominator, or too large, is None."""
        nll, n_tokens = self.nll_nats, self.n_tokens
        return {
            "nll_nats_per_token": nll / n_tokens,
            "stderr": self.standard_error(),
            "ppl": perplexity(nll, n_tokens),
            "word_ppl": perplexity(nll, self.n_words),
            "bits_per_byte": nll / math.log(2) / self.n_bytes if self.n_bytes else None,
            "nll_nats": nll,
            "n_tokens": n_tokens,
            "n_words": self.n_words,
            "n_bytes": self.n_bytes,
            "n_documents": len(self.nll) + self.n_empty,
            "n_empty_documents": self.n_empty,
        }


def perplexity(nll_nats: float, count: int) -> float | None:
    """Return exp(nll / count); None for no units, or beyond what a float holds."""
    if not count:
        return None
    try:
        return math.exp(nll_nats / count)
    except OverflowError:
        return None
