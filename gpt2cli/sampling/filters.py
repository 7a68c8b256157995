"""What reshapes a distribution before a token is drawn: temperature, top-k, top-p, in this order.

Each equals the logits processor of the same name in `transformers`. Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor


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

    The nucleus is the smallest set of most probable tokens whose probabilities sum to at least `p`; it is never empty.
    """
    if p >= 1.0:
        return logits_BV
    ascending, order = logits_BV.sort(dim=1)
    outside = ascending.softmax(dim=1).cumsum(dim=1) <= 1.0 - p
    outside[:, -1] = False
    return logits_BV.masked_fill(torch.zeros_like(outside).scatter(1, order, outside), -torch.inf)


def apply_filters(logits_BV: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Return what is drawn from: temperature, then top-k, then top-p; None leaves a filter out."""
    if temperature != 1.0:
        logits_BV = scale_temperature(logits_BV, temperature)
    if top_k is not None:
        logits_BV = keep_top_k(logits_BV, top_k)
    if top_p is not None:
        logits_BV = keep_top_p(logits_BV, top_p)
    return logits_BV
