"""Drawing tokens, exactly and without sorting the vocabulary.

A token is drawn by inverse CDF: one uniform number, and the first token whose cumulated weight passes it. Top-p and
typical-p are drawn by rejection: draw from all that may be in the set, keep the token if what stands strictly before it
weighs less than the set should. A token that fails bounds the set, and the next draw is from what stands before it.
Every number comes from the row's own stream, and each row is drawn by itself: its weights stay in a core's cache.
Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.filters import before, keep_min_p, keep_top_k, keep_top_p, scale_temperature, surprise
from gpt2cli.sampling.streams import SampleStream

_BLOCK = 64


def draw_filtered(logits_BV: Tensor, decoding: Decoding, streams: Sequence[SampleStream]) -> list[int]:
    """Return an id for each row, distributed as apply_filters(logits_BV, decoding) says."""
    return [_draw_row(logits_V, decoding, stream) for logits_V, stream in zip(logits_BV, streams, strict=True)]


def draw_weighted(weights_V: Tensor, uniform: float) -> int:
    """Return the first id whose cumulated weight passes `uniform` in [0, 1) times the sum of weights [V].

    Weights are not negative and not all zero; a token of weight 0 is never drawn. Blocks are summed in fp32, which is
    as exact as the weights are, and cumulated in fp64.
    """
    whole = len(weights_V) - len(weights_V) % _BLOCK
    blocks = weights_V[:whole].view(-1, _BLOCK).sum(dim=1).cpu().numpy().cumsum(dtype=np.float64)
    last = float(blocks[-1]) if whole else 0.0
    total = last + float(weights_V[whole:].sum())
    aim = _below(uniform * total, total)
    block = int(blocks.searchsorted(aim, side="right"))
    inside = weights_V[block * _BLOCK : (block + 1) * _BLOCK].cpu().numpy().cumsum(dtype=np.float64)
    rest = _below(aim - (blocks[block - 1] if block else 0.0), inside[-1])
    return block * _BLOCK + int(inside.searchsorted(rest, side="right"))


def _draw_row(logits_V: Tensor, decoding: Decoding, stream: SampleStream) -> int:
    if decoding.temperature != 1.0:
        logits_V = scale_temperature(logits_V, decoding.temperature)
    if decoding.top_k is not None and decoding.top_k < len(logits_V):
        best = logits_V.topk(decoding.top_k + 1)
        rest = dataclasses.replace(decoding, temperature=1.0, top_k=None)
        if best.values[-1] == best.values[-2]:  # ties with the last stay, so there are more than k
            return _draw_row(keep_top_k(logits_V[None], decoding.top_k)[0], rest, stream)
        ids, order = best.indices[:-1].sort()  # by id: rounding may change the order by weight, and the draw with it
        return int(ids[_draw_row(best.values[:-1][order], rest, stream)])
    if decoding.typical_p is not None and decoding.typical_p < 1.0:
        return _draw_typical(logits_V, decoding, decoding.typical_p, stream)
    weights_V = logits_V.softmax(dim=0)
    allowed_V = weights_V
    if decoding.min_p is not None:
        least = float(decoding.min_p * weights_V.max())
        allowed_V = F.threshold(weights_V, float(np.nextafter(np.float32(least), np.float32(0))), 0.0)
    token = draw_weighted(allowed_V, stream.uniform())
    if decoding.top_p is None or decoding.top_p >= 1.0:
        return token
    while True:
        weight = float(weights_V[token])
        if float(F.threshold(weights_V, weight, 0.0).sum()) < decoding.top_p:
            return token
        allowed_V = F.threshold(allowed_V, weight, 0.0)
        token = draw_weighted(allowed_V, stream.uniform())


def _draw_typical(logits_V: Tensor, decoding: Decoding, mass: float, stream: SampleStream) -> int:
    if decoding.top_p is not None:
        logits_V = keep_top_p(logits_V[None], decoding.top_p)[0]
    if decoding.min_p is not None:
        logits_V = keep_min_p(logits_V[None], decoding.min_p)[0]
    weights_V, rank_V = logits_V.softmax(dim=0), surprise(logits_V)
    allowed_V = weights_V
    while True:
        token = draw_weighted(allowed_V, stream.uniform())
        allowed_V = before(rank_V, rank_V[token]) * weights_V
        if float(allowed_V.sum()) < mass:
            return token


def _below(value: float, bound: float) -> float:
    """Return `value`, or the number just below `bound` where rounding brought it there."""
    return min(value, float(np.nextafter(bound, 0.0)))
