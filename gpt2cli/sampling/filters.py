"""What reshapes a distribution before a token is drawn: temperature, top-k, top-p, min-p, typical-p, in this order.

Each equals the logits processor of the same name in `transformers`, but that tokens as probable as the last one kept
stay too. No filter sorts the vocabulary. Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpt2cli.sampling.decoding import Decoding

_HALVINGS = 14
_IMPOSSIBLE = -1e4


def scale_temperature(logits_BV: Tensor, temperature: float) -> Tensor:
    """Return logits divided by `temperature` > 0: below 1 sharper, above 1 flatter."""
    return logits_BV / temperature


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """Return logits with all but the `k` largest of each row at -inf (Fan et al. 2018); ties with the k-th stay."""
    if k >= logits_BV.shape[1]:
        return logits_BV
    smallest_kept = logits_BV.topk(k, dim=1).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < smallest_kept, -torch.inf)


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """Return logits with each row's nucleus kept, the rest at -inf (Holtzman et al. 2020).

    The nucleus is every token with less than `p` of probability strictly above it: the smallest set of most probable
    tokens whose probabilities sum to at least `p`, and what ties with its last. It is never empty.
    """
    if p >= 1.0:
        return logits_BV
    return _keep_each(logits_BV, lambda logits_V: -logits_V, p)


def keep_min_p(logits_BV: Tensor, min_p: float) -> Tensor:
    """Return logits with tokens less probable than `min_p` times the most probable one at -inf (Nguyen et al. 2024)."""
    probabilities_BV = logits_BV.softmax(dim=1)
    return logits_BV.masked_fill(probabilities_BV < min_p * probabilities_BV.amax(dim=1, keepdim=True), -torch.inf)


def keep_typical(logits_BV: Tensor, p: float) -> Tensor:
    """Return logits with the locally typical tokens kept, the rest at -inf (Meister et al. 2023).

    Those are the tokens whose information content is nearest to the distribution's entropy, that together have at
    least probability `p`.
    """
    return logits_BV if p >= 1.0 else _keep_each(logits_BV, surprise, p)


def surprise(logits_V: Tensor) -> Tensor:
    """Return how far each token's information content is from the entropy, in nats [V]; infinite for one at -inf."""
    logprobs_V = logits_V.log_softmax(dim=0)
    entropy = -torch.dot(logprobs_V.exp(), logprobs_V.clamp(min=_IMPOSSIBLE))
    return (-logprobs_V - entropy).abs()


def apply_filters(logits_BV: Tensor, decoding: Decoding) -> Tensor:
    """Return the logits of what is drawn from: temperature, then each filter that `decoding` asks for."""
    if decoding.temperature != 1.0:
        logits_BV = scale_temperature(logits_BV, decoding.temperature)
    if decoding.top_k is not None:
        logits_BV = keep_top_k(logits_BV, decoding.top_k)
    if decoding.top_p is not None:
        logits_BV = keep_top_p(logits_BV, decoding.top_p)
    if decoding.min_p is not None:
        logits_BV = keep_min_p(logits_BV, decoding.min_p)
    if decoding.typical_p is not None:
        logits_BV = keep_typical(logits_BV, decoding.typical_p)
    return logits_BV


def _keep_each(logits_BV: Tensor, rank: Callable[[Tensor], Tensor], mass: float) -> Tensor:
    kept = []
    for logits_V in logits_BV:
        rank_V = rank(logits_V)
        last = last_rank(rank_V, logits_V.softmax(dim=0), mass)
        kept.append(logits_V.masked_fill(rank_V > last, -torch.inf))
    return torch.stack(kept)


def last_rank(rank_V: Tensor, weights_V: Tensor, mass: float) -> Tensor:
    """Return the largest rank (a number) that has less than `mass` of the weights at ranks strictly below it.

    Weights sum to 1; ranks may be infinite where the weight is 0. The range of ranks is halved until few tokens are
    left, and only those are sorted.
    """
    low, high = float(rank_V.amin()), float(rank_V.masked_fill(rank_V.isinf(), -torch.inf).amax())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        # what is at the middle itself counts half: too much or too little, the answer stays in [low, high]
        if (1 + float(torch.dot(torch.sign(middle - rank_V), weights_V))) / 2 < mass:
            low = middle
        else:
            high = middle
    reach = (high - low) * 0.501 + 1e-6 * (abs(low) + abs(high))
    near = ((rank_V - (low + high) / 2).abs() <= reach).nonzero()[:, 0]
    ranks, order = rank_V[near].sort()
    below = torch.dot(before(rank_V, ranks[0]), weights_V).double()
    weights = weights_V[near][order].double()
    ahead = (below + weights.cumsum(0) - weights)[torch.searchsorted(ranks, ranks)]  # ties count from their first
    return ranks[(torch.count_nonzero(ahead < mass) - 1).clamp(min=0)]


def before(rank_V: Tensor, rank: Tensor) -> Tensor:
    """Return 1 where rank_V is less than `rank`, else 0 [V]; to compare and to convert takes four times as long."""
    return torch.sign(rank - rank_V).clamp_(min=0)
