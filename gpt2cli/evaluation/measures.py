"""From sums to measures: perplexities, bits per byte and character, and the standard error. Sums are fp64.

Sums are additive: those of disjoint sets of documents add up to those of all, the standard error's too.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gpt2cli.evaluation.units import Units


@dataclass(frozen=True)
class Moments:
    """Sums over documents with a scored token: how many, and of nll x nll, nll x tokens and tokens x tokens."""

    n: int
    nll_nll: float
    nll_tokens: float
    tokens_tokens: int


@dataclass(frozen=True)
class Sums:
    """All that the measures of a text depend on. nll in nats; n_documents counts the empty ones too."""

    nll_nats: float
    n_tokens: int
    units: Units
    n_documents: int
    n_empty_documents: int
    moments: Moments

    def standard_error(self) -> float | None:
        """Return the standard error of nll a token over documents, by the delta method; None for a single document.

        A ratio of two sums over n independent documents: var = n / (n - 1) sum (nll_d - mean tokens_d)^2 / tokens^2.
        """
        n, moments = self.moments.n, self.moments
        if n < 2:
            return None
        mean = self.nll_nats / self.n_tokens
        squares = math.fsum([moments.nll_nll, -2 * mean * moments.nll_tokens, mean * mean * moments.tokens_tokens])
        return math.sqrt(max(0.0, squares) * n / (n - 1)) / self.n_tokens

    def as_fields(self) -> dict[str, Any]:
        """Return the measures of a gpt2.eval/1 record. A measure without a denominator, or too large, is None."""
        return {
            "nll_nats_per_token": self.nll_nats / self.n_tokens,
            "stderr": self.standard_error(),
            **ratios(self.nll_nats, self.n_tokens, self.units),
            "nll_nats": self.nll_nats,
            "n_tokens": self.n_tokens,
            **asdict(self.units),
            "n_documents": self.n_documents,
            "n_empty_documents": self.n_empty_documents,
            "document_moments": asdict(self.moments),
        }


@dataclass
class DocumentSums:
    """A column for each quantity, an entry for each document that has text."""

    nll: array[float] = field(default_factory=lambda: array("d"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    words: array[int] = field(default_factory=lambda: array("q"))
    bytes: array[int] = field(default_factory=lambda: array("q"))
    characters: array[int] = field(default_factory=lambda: array("q"))

    def add(self, nll_nats: float, n_tokens: int, units: Units) -> None:
        """Append one document."""
        self.nll.append(nll_nats)
        self.tokens.append(n_tokens)
        self.words.append(units.n_words)
        self.bytes.append(units.n_bytes)
        self.characters.append(units.n_characters)

    def total(self, n_empty: int = 0, units_elsewhere: Units | None = None, units_of_empty: Units = Units()) -> Sums:
        """Return the sums, each rounded once. units_elsewhere: counted in another text, taken instead of the columns'.

        n_empty: documents without text, each of `units_of_empty`.
        """
        scored = [(nll, count) for nll, count in zip(self.nll, self.tokens, strict=True) if count]
        moments = Moments(len(scored), math.fsum(nll * nll for nll, _ in scored),
                          math.fsum(nll * count for nll, count in scored), sum(count * count for _, count in scored))
        units = units_elsewhere or Units(sum(self.words) + n_empty * units_of_empty.n_words, sum(self.bytes),
                                         sum(self.characters))
        return Sums(math.fsum(self.nll), sum(self.tokens), units, len(self.nll) + n_empty, n_empty, moments)


def add_sums(parts: Sequence[Sums]) -> Sums:
    """Return the sums of several disjoint sets of documents together."""
    moments = [part.moments for part in parts]
    return Sums(
        math.fsum(part.nll_nats for part in parts), sum(part.n_tokens for part in parts),
        sum((part.units for part in parts), Units()), sum(part.n_documents for part in parts),
        sum(part.n_empty_documents for part in parts),
        Moments(sum(m.n for m in moments), math.fsum(m.nll_nll for m in moments),
                math.fsum(m.nll_tokens for m in moments), sum(m.tokens_tokens for m in moments)),
    )


def ratios(nll_nats: float, n_tokens: int, units: Units) -> dict[str, float | None]:
    """Return the perplexities and bits of a summed nll; None without a denominator, or beyond what a float holds.

    All are None where no token was scored, which would else look like a perfect prediction.
    """
    if not n_tokens:
        return dict.fromkeys(("ppl", "word_ppl", "byte_ppl", "bits_per_byte", "bits_per_character"))
    bits = nll_nats / math.log(2)
    return {
        "ppl": perplexity(nll_nats, n_tokens),
        "word_ppl": perplexity(nll_nats, units.n_words),
        "byte_ppl": perplexity(nll_nats, units.n_bytes),
        "bits_per_byte": bits / units.n_bytes if units.n_bytes else None,
        "bits_per_character": bits / units.n_characters if units.n_characters else None,
    }


def perplexity(nll_nats: float, count: int) -> float | None:
    """Return exp(nll / count); None for no units, or beyond what a float holds."""
    if not count:
        return None
    try:
        return math.exp(nll_nats / count)
    except OverflowError:
        return None
