"""Sequences that begin alike, read once: a row is a trunk and the branches that go on from it, told apart by a mask.

A branch sees the trunk and itself, and its positions go on where the trunk ends, so every token has the state that it
would have in its sequence alone. What all rows of a batch begin with may be read beforehand, for the whole batch once.

Shapes: B rows, T positions of a row, S positions attended to, P positions of what was read beforehand, C width,
N positions that are wanted, H heads, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2cli.model.decoder import Decoder
from gpt2cli.model.gpt2 import GPT2, Attention, Block
from gpt2cli.model.linear import attention_dtype


@dataclass(frozen=True)
class Row:
    """A trunk and its branches, as ids; the trunk begins at position `start` (what comes before is in a Prefix)."""

    trunk: np.ndarray
    branches: tuple[np.ndarray, ...] = ()
    start: int = 0

    @property
    def length(self) -> int:
        """Positions of the row."""
        return len(self.trunk) + sum(map(len, self.branches))


@dataclass(frozen=True)
class Prefix:
    """Keys and values, (1, H, P, D) for each layer, of ids that all rows of a batch begin with."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def length(self) -> int:
        """Positions of the prefix."""
        return int(self.keys[0].shape[2])


@torch.inference_mode()
def read_prefix(model: GPT2, ids: np.ndarray) -> Prefix:
    """Read what all rows begin with."""
    decoder = Decoder(model)
    cache = decoder.cache(1, len(ids))
    decoder.begin([tuple(ids.tolist())], cache)
    return Prefix(tuple(cache.k_LBHSD), tuple(cache.v_LBHSD))


@torch.inference_mode()
def branched_states(model: GPT2, rows: Sequence[Row], prefix: Prefix | None, wanted_N: np.ndarray) -> Tensor:
    """Return final hidden states (N, C) at `wanted_N`, indices into the B x T positions; T is the longest row's length.

    The last block's MLP and norms run on the wanted positions alone.
    """
    device = model.wte.weight.device
    T = max(row.length for row in rows)
    ids_BT, positions_BT, segments_BT = (np.zeros((len(rows), T), dtype=np.int64) for _ in range(3))
    for number, row in enumerate(rows):
        _lay_out(row, ids_BT[number], positions_BT[number], segments_BT[number])
    mask = None
    if prefix is not None or any(row.branches for row in rows):
        mask = _mask(torch.from_numpy(segments_BT).to(device), prefix)
    x_BTC = model.wte(torch.from_numpy(ids_BT).to(device)) + model.wpe(torch.from_numpy(positions_BT).to(device))
    wanted = torch.from_numpy(wanted_N).to(device)
    for layer, module in enumerate(model.h):
        block = cast(Block, module)
        y_BTC = _attend(block.attn, block.ln_1(x_BTC), mask, layer, prefix)
        if layer == len(model.h) - 1:
            x_BTC, y_BTC = x_BTC.flatten(0, 1)[wanted], y_BTC.flatten(0, 1)[wanted]
        x_BTC += block.attn.c_proj.infer(y_BTC)
        x_BTC += block.mlp.c_proj.infer(block.mlp.c_fc.infer(block.ln_2(x_BTC), gelu=True))
    final: Tensor = model.ln_f(x_BTC)
    return final


def _attend(attention: Attention, x_BTC: Tensor, mask_B1TS: Tensor | None, layer: int, prefix: Prefix | None) -> Tensor:
    """Return attention (B, T, C) to the prefix and, as the mask allows, the row, before its output projection."""
    B, T, C = x_BTC.shape
    qkv_BT3C = attention.c_attn.infer(x_BTC)
    qkv_BT3C = qkv_BT3C.to(attention_dtype(qkv_BT3C.dtype, x_BTC.device))
    qkv_BT3HD = qkv_BT3C.view(B, T, 3, attention.n_head, C // attention.n_head)
    q_BHTD, k_BHSD, v_BHSD = qkv_BT3HD.permute(2, 0, 3, 1, 4)
    if prefix is not None:
        k_BHSD = torch.cat([prefix.keys[layer].expand(B, -1, -1, -1), k_BHSD], dim=2)
        v_BHSD = torch.cat([prefix.values[layer].expand(B, -1, -1, -1), v_BHSD], dim=2)
    y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=mask_B1TS, is_causal=mask_B1TS is None)
    return y_BHTD.transpose(1, 2).reshape(B, T, C)


def _lay_out(row: Row, ids: np.ndarray, positions: np.ndarray, segments: np.ndarray) -> None:
    """Fill one row: segment 0 is the trunk, n its nth branch, -1 padding."""
    at = len(row.trunk)
    ids[:at] = row.trunk
    positions[:at] = np.arange(row.start, row.start + at)
    fork = row.start + at
    for number, branch in enumerate(row.branches, 1):
        place = slice(at, at + len(branch))
        ids[place], segments[place] = branch, number
        positions[place] = np.arange(fork, fork + len(branch))
        at += len(branch)
    segments[at:] = -1


def _mask(segments_BT: Tensor, prefix: Prefix | None) -> Tensor:
    """Return what each position may see, (B, 1, T, S): the prefix, the trunk before it and its own branch before it."""
    T = segments_BT.shape[1]
    query, key = segments_BT[:, None, :, None], segments_BT[:, None, None, :]
    before = torch.ones(T, T, dtype=torch.bool, device=segments_BT.device).tril()
    mask = ((key == 0) | (key == query)) & before
    if prefix is None:
        return mask
    seen = mask.new_ones((1, 1, 1, 1)).expand(len(mask), 1, T, prefix.length)
    return torch.cat([seen, mask], dim=3)
