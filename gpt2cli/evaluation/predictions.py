"""What a model expected at each position: its likeliest tokens, and what the tokens it would draw itself would be like.

A token drawn from the prediction has rank up to k with the probability of all tokens of such a rank, and an nll whose
mean is the entropy: so the model's own samples are compared with without sampling.

Shapes: S positions of a strip, N positions, V vocabulary, K likeliest tokens, B bounds of ranks, F parts of [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Wanted:
    """Which predictions: the `top` likeliest tokens; the probability of a rank up to each of `bounds`, ascending; and
    that of p / p_max in each of `fractions` equal parts of [0, 1]."""

    top: int
    bounds: tuple[int, ...]
    fractions: int


@dataclass(frozen=True)
class Predictions:
    """A row a position. top_nll_NK is in nats, ascending; nll_variance_N that of a drawn token's nll, in square nats.

    within_NB: the probability of a rank up to each bound. fraction_NF: of p / p_max in each part.
    """

    top_id_NK: Tensor
    top_nll_NK: Tensor
    within_NB: Tensor
    fraction_NF: Tensor
    nll_variance_N: Tensor

    def rows(self, which: slice) -> Predictions:
        """Return some of the positions, on the CPU."""
        return Predictions(*(column[which].cpu() for column in _columns(self)))


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Return the positions of all parts, in order."""
    return Predictions(*(torch.cat(columns) for columns in zip(*map(_columns, parts), strict=True)))


def _columns(predictions: Predictions) -> tuple[Tensor, ...]:
    return (predictions.top_id_NK, predictions.top_nll_NK, predictions.within_NB, predictions.fraction_NF,
            predictions.nll_variance_N)


class Foremost:
    """The likeliest tokens of a strip, told by its logits, as ranks are: log-probabilities may tie by rounding."""

    def __init__(self, logits_SV: Tensor, wanted: Wanted) -> None:
        size = logits_SV.shape[1]
        top = logits_SV.topk(min(size, max(wanted.top, *wanted.bounds)))
        self._ids_SK = top.indices[:, : wanted.top]
        # Equals share a rank, so all of the size of the last one within a bound are within it.
        self._within = [logits_SV >= top.values[:, min(bound, size) - 1, None] for bound in wanted.bounds]
        self._fractions = wanted.fractions

    def predictions(self, log_p_SV: Tensor, p_SV: Tensor, entropy_S: Tensor) -> Predictions:
        """Return the strip's predictions, given its log-probabilities, probabilities and entropies."""
        top_nll_SK = -log_p_SV.gather(1, self._ids_SK)
        within_SB = torch.stack([torch.where(mask, p_SV, 0).sum(1) for mask in self._within], 1)
        of_max_SV = (p_SV / p_SV.amax(1, keepdim=True)).mul_(self._fractions)
        part_SV = of_max_SV.to(torch.int64).clamp_(0, self._fractions - 1)
        fraction_SF = p_SV.new_zeros(len(p_SV), self._fractions).scatter_add_(1, part_SV, p_SV)
        square_S = torch.where(p_SV > 0, p_SV * log_p_SV.square(), 0).sum(1)
        return Predictions(self._ids_SK, top_nll_SK, within_SB, fraction_SF, (square_S - entropy_S.square()).clamp_(0))
