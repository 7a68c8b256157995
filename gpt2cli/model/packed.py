"""GPT-2 up to its head on sequences laid end to end without padding: for scoring, and to read prompts into a cache.

The same network as gpt2.py with the same parameters; final states are computed where asked for.

Shapes: N positions of all sequences, B sequences of one length T, C width, H heads, D head size, M positions asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2, Block
from gpt2cli.model.kv_cache import KVCache
from gpt2cli.model.linear import attention_dtype

Runs = Sequence[tuple[int, int]]
"""(sequences, length of each) of neighbours of one length, in order: they attend in one call."""


@torch.inference_mode()
def hidden_states(
    model: GPT2, ids_N: Tensor, runs: Runs, wanted_M: Tensor | None = None, cache: KVCache | None = None
) -> Tensor:
    """Return final hidden states (M, C) at positions `wanted_M` of the N; None: all of them.

    The last block's MLP and norms run on those alone: nothing after it looks at the others.
    cache: an empty one, whose rows take the sequences' keys and values in order.
    """
    positions_N = torch.cat([torch.arange(length, device=ids_N.device).repeat(count) for count, length in runs])
    x_NC = model.wte(ids_N) + model.wpe(positions_N)
    attend = attention_dtype(model.wte.weight.dtype, ids_N.device)
    for number, module in enumerate(model.h):
        block = cast(Block, module)
        qkv_N3C = block.attn.c_attn.infer(block.ln_1(x_NC)).to(attend)
        attended_NC = _attend(qkv_N3C, block.attn.n_head, runs)
        if cache is not None:
            _store(cache, number, qkv_N3C, block.attn.n_head, runs)
        if number == len(model.h) - 1 and wanted_M is not None:
            x_NC, attended_NC = x_NC[wanted_M], attended_NC[wanted_M]
        x_NC += block.attn.c_proj.infer(attended_NC)
        x_NC += block.mlp.c_proj.infer(block.mlp.c_fc.infer(block.ln_2(x_NC), gelu=True))
    if cache is not None:
        cache.set_lengths([length for count, length in runs for _ in range(count)])
    return model.ln_f(x_NC)


def _attend(qkv_N3C: Tensor, n_head: int, runs: Runs) -> Tensor:
    """Return causal attention (N, C) inside each sequence, before its output projection."""
    C = qkv_N3C.shape[1] // 3
    y_NC = qkv_N3C.new_empty(len(qkv_N3C), C)
    at = 0
    for count, length in runs:
        rows = slice(at, at := at + count * length)
        q_BHTD, k_BHTD, v_BHTD = qkv_N3C[rows].view(count, length, 3, n_head, C // n_head).permute(2, 0, 3, 1, 4)
        y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, is_causal=True)
        y_NC[rows] = y_BHTD.transpose(1, 2).reshape(count * length, C)
    return y_NC


def _store(cache: KVCache, layer: int, qkv_N3C: Tensor, n_head: int, runs: Runs) -> None:
    lengths = [length for count, length in runs for _ in range(count)]
    for row, qkv_T3C in enumerate(qkv_N3C.split(lengths)):
        k_THD, v_THD = qkv_T3C.view(len(qkv_T3C), 3, n_head, -1).unbind(1)[1:]
        cache.fill(layer, row, k_THD, v_THD)
