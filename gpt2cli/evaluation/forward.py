"""GPT-2 up to its head, where only some positions' final states are wanted.

Shapes: B batch, T positions, C width, N positions that are wanted.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2, Block


@torch.inference_mode()
def hidden_states(model: GPT2, ids_BT: Tensor, wanted_N: Tensor | None) -> Tensor:
    """Return final hidden states (N, C) at `wanted_N`, indices into the B x T positions; None: all of them.

    The last block's MLP and norms run on those alone: nothing after it looks at the others.
    """
    if wanted_N is None:
        return model(ids_BT).flatten(0, 1)
    x_BTC = model.wte(ids_BT) + model.wpe.weight[: ids_BT.shape[1]]
    *blocks, final = model.h
    for block in blocks:
        x_BTC = block(x_BTC, 0.0, None)
    last = cast(Block, final)
    x_NC = (x_BTC + last.attn(last.ln_1(x_BTC), 0.0, None)).flatten(0, 1)[wanted_N]
    return model.ln_f(x_NC + last.mlp(last.ln_2(x_NC)))
