"""One stage of a pipeline: a run of GPT-2's blocks, the embedding before the first, norm and head after the last.

Parameters carry the names that they have in the whole. The embedding's table is the head's too, so the first and the
last stage both hold it: the sum of both gradients moves both alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sizes import ModelShape
from gpt2cli.training.layout import layers_of_stages
from gpt2cli.training.precision import autocast


class Elsewhere(nn.Module):
    """In the place of a module that another stage has: it gives what it gets."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        """Return x."""
        return x


class Stage(GPT2):
    """Stage `number` of `stages` of a network, which computes in `dtype`. Shapes: B batch, T positions, C width.

    idle: it computes nothing and gives something of the right shape, for the stages that wait for it.
    """

    def __init__(self, shape: ModelShape, number: int, stages: int, dtype: str) -> None:
        super().__init__(shape)
        self.number, self.stages, self._computes_in = number, stages, dtype
        self.first, self.last = number == 0, number == stages - 1
        self.idle = False
        mine = layers_of_stages(shape, stages)[number]
        for layer in range(shape.n_layer):
            if layer not in mine:
                self.h[layer] = Elsewhere()
        if not self.first:
            self.wpe = Elsewhere()  # type: ignore[assignment]
        if not self.last:
            self.ln_f = Elsewhere()  # type: ignore[assignment]
        if not (self.first or self.last):
            self.wte = Elsewhere()  # type: ignore[assignment]

    def forward(self, x: Tensor, ids_BT: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return what the next stage gets, (B, T, C), of what the one before gave; the first gets the ids (B, T).

        ids_BT: the same ids on every stage, since they say where documents end.
        """
        if self.idle:
            return self._nothing(x)
        with autocast(x.device, self._computes_in):
            x_BTC = self.embed(x) if self.first else x
            y_BTC: Tensor = self.ln_f(self.through_blocks(x_BTC, x if ids_BT is None else ids_BT))
        return y_BTC

    def _nothing(self, x: Tensor) -> Tensor:
        if self.first:
            return torch.zeros(*x.shape, self.shape.n_embd, device=x.device, requires_grad=torch.is_grad_enabled())
        return x * 1.0
