"""The optimum over networks that can be built: whole layers, widths and heads, with exact parameters and FLOP.

C = 6 N D leaves out the attention and counts the embeddings wrongly; here each network has its own FLOP per token
(gpt2cli.sizes), so each gets the tokens that the budget really pays, and the law the N that it counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpt2cli.errors import UsageFault
from gpt2cli.scaling.laws import Surface
from gpt2cli.sizes import ModelShape, default_heads

ASPECTS = (32.0, 128.0)
"""Width over depth of the networks tried: GPT-2's four have 33 to 64, GPT-3 has 128; inside, depth hardly matters."""
_WIDTHS = ((16, 128), (32, 512), (64, 2048), (128, 4096), (256, 8192), (512, 16384), (1024, 65536))
"""Step of the width up to a width."""


@dataclass(frozen=True)
class Candidate:
    """A network with the tokens that the budget pays for it, and the loss that the law then predicts."""

    shape: ModelShape
    n: float
    d: float
    flops_per_token: float
    loss: float


@dataclass(frozen=True)
class Flatness:
    """What stays within `share` of the best loss: how many networks, and the ranges of N, D, depth and width."""

    share: float
    networks: int
    n: tuple[float, float]
    d: tuple[float, float]
    n_layer: tuple[int, int]
    n_embd: tuple[int, int]


def networks(n_ctx: int, n_vocab: int, aspects: tuple[float, float] = ASPECTS) -> Iterator[ModelShape]:
    """Yield the grid of networks: widths 16 to 65,536, every depth whose width over depth lies in `aspects`."""
    width = 0
    for step, last in _WIDTHS:
        while width + step <= last:
            width += step
            heads = default_heads(width)
            for depth in range(max(1, math.ceil(width / aspects[1])), math.floor(width / aspects[0]) + 1):
                yield ModelShape(depth, heads, width, n_ctx, n_vocab)


def evaluate(
    law: Surface, flops: float, shapes: list[ModelShape], *, count: str, full_attention: bool
) -> list[Candidate]:
    """Return every network that the budget pays at least one context of tokens for, best loss first.

    count: what the law's N counts, "total" or "non-embedding". Raises UsageFault when the budget pays for none.
    """
    total = count == "total"
    n = np.array([shape.n_params if total else shape.n_params_non_embedding for shape in shapes], dtype=float)
    cost = np.array([shape.train_flops_per_token(full_attention=full_attention) for shape in shapes], dtype=float)
    d = flops / cost
    paid = d >= np.array([shape.n_ctx for shape in shapes])
    if not paid.any():
        raise UsageFault(f"{flops:.3g} FLOP pay for not one context of any network with width over depth in this range")
    with np.errstate(over="ignore"):
        loss = np.asarray(law.loss(n[paid], d[paid]), dtype=float)
    rows = np.flatnonzero(paid)
    order = np.lexsort((cost[rows], loss))
    return [Candidate(shapes[rows[i]], float(n[rows[i]]), float(d[rows[i]]), float(cost[rows[i]]), float(loss[i]))
            for i in order]  # fmt: skip


def flatness(candidates: list[Candidate], share: float) -> Flatness:
    """Return what `candidates` (best first) within `share` of the best loss span."""
    near = [one for one in candidates if one.loss <= candidates[0].loss * (1 + share)]
    n, d = [one.n for one in near], [one.d for one in near]
    depth, width = [one.shape.n_layer for one in near], [one.shape.n_embd for one in near]
    return Flatness(share, len(near), (min(n), max(n)), (min(d), max(d)), (min(depth), max(depth)),
                    (min(width), max(width)))  # fmt: skip
