"""Drawing tokens, exactly and without sorting the vocabulary.

A token is drawn by inverse CDF: one uniform number, and the first token whose cumulated weight passes it. Sums run
over blocks first, so that fp64 costs little. Top-p and typical-p are drawn by rejection: draw from all that may be in
the set, keep the token if what stands strictly before it weighs less than the set should. A token that fails bounds
the set, and the next draw is from what stands before it. Every number comes from the row's own stream.
Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.filters import keep_min_p, keep_top_k, keep_top_p, scale_temperature, surprise
from gpt2cli.sampling.streams import SampleStream

_BLOCK = 64


def draw(logits_BV: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Return ids (B,), each the first whose cumulated probability passes its uniform; a token at -inf never."""
    return draw_weighted(logits_BV.softmax(dim=1), uniforms)


def draw_weighted(weights_BV: Tensor, uniforms: Sequence[float]) -> Tensor:
    """Return ids (B,): row b's token is the first whose cumulated weight passes uniforms[b] of the row's sum.

    Weights are not negative and no row is all zero; a token of weight 0 is never drawn. Cumulated sums are fp64 (fp32
    where the device has no fp64).
    """
    exact = torch.float32 if weights_BV.device.type == "mps" else torch.float64
    B, V = weights_BV.shape
    blocks_BNM = F.pad(weights_BV, (0, -V % _BLOCK)).view(B, -1, _BLOCK)
    cdf_BN = blocks_BNM.sum(dim=2, dtype=exact).cumsum(dim=1)
    share_B1 = torch.tensor(uniforms, dtype=exact, device=weights_BV.device)[:, None]
    aim_B1 = _below(share_B1 * cdf_BN[:, -1:], cdf_BN[:, -1:])
    block_B1 = torch.searchsorted(cdf_BN, aim_B1, right=True)
    before_B1 = F.pad(cdf_BN, (1, 0)).gather(1, block_B1)
    rows_B = torch.arange(B, device=weights_BV.device)
    inside_BM = blocks_BNM[rows_B, block_B1[:, 0]].to(exact).cumsum(dim=1)
    rest_B1 = _below(aim_B1 - before_B1, inside_BM[:, -1:])
    return (block_B1 * _BLOCK + torch.searchsorted(inside_BM, rest_B1, right=True))[:, 0]


def draw_filtered(logits_BV: Tensor, decoding: Decoding, streams: Sequence[SampleStream]) -> list[int]:
    """Return an id for each row, distributed as apply_filters(logits_BV, decoding) says."""
    if decoding.temperature != 1.0:
        logits_BV = scale_temperature(logits_BV, decoding.temperature)
    if decoding.top_k is not None:
        logits_BV = keep_top_k(logits_BV, decoding.top_k)
    if decoding.typical_p is not None and decoding.typical_p < 1.0:
        if decoding.top_p is not None:
            logits_BV = keep_top_p(logits_BV, decoding.top_p)
        if decoding.min_p is not None:
            logits_BV = keep_min_p(logits_BV, decoding.min_p)
        return [_draw_typical(logits_V, decoding.typical_p, stream)
                for logits_V, stream in zip(logits_BV, streams, strict=True)]
    weights_BV = logits_BV.softmax(dim=1)
    allowed_BV = weights_BV
    if decoding.min_p is not None:
        least_B1 = decoding.min_p * weights_BV.amax(dim=1, keepdim=True)
        allowed_BV = weights_BV.masked_fill(weights_BV < least_B1, 0.0)
    ids = draw_weighted(allowed_BV, [stream.uniform() for stream in streams]).tolist()
    if decoding.top_p is None or decoding.top_p >= 1.0:
        return ids
    return [_in_nucleus(weights_BV[row], allowed_BV[row], token, decoding.top_p, streams[row])
            for row, token in enumerate(ids)]


def _in_nucleus(weights_V: Tensor, allowed_V: Tensor, token: int, p: float, stream: SampleStream) -> int:
    """Return `token` if less than `p` stands strictly above it, else draw on, from what does."""
    while True:
        weight = float(weights_V[token])
        if float(F.threshold(weights_V, weight, 0.0).sum()) < p:
            return token
        allowed_V = F.threshold(allowed_V, weight, 0.0)
        token = int(draw_weighted(allowed_V[None], [stream.uniform()])[0])


def _draw_typical(logits_V: Tensor, p: float, stream: SampleStream) -> int:
    weights_V, rank_V = logits_V.softmax(dim=0), surprise(logits_V)
    allowed_V = weights_V
    while True:
        token = int(draw_weighted(allowed_V[None], [stream.uniform()])[0])
        before_V = weights_V.masked_fill(rank_V >= rank_V[token], 0.0)
        if float(before_V.sum()) < p:
            return token
        allowed_V = before_V


def _below(value: Tensor, bound: Tensor) -> Tensor:
    """Return `value`, or the number just below `bound` where rounding brought it there."""
    return torch.minimum(value, torch.nextafter(bound, torch.zeros_like(bound)))
