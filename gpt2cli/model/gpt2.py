"""GPT-2, to be read in one sitting.

Radford et al. 2019 and OpenAI's released code: pre-norm blocks, learned positions, tanh GELU, biases everywhere,
attention scaled by 1/sqrt(head size), the head tied to the token embedding. Parameters carry Hugging Face's names and
OpenAI's layout (matrices stored [in, out]), so a state dict is the file format.

Shape suffixes: B batch, T positions, S positions attended to, C width (n_embd), H heads, D head size, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2cli.model.kv_cache import KVCache
from gpt2cli.sizes import ModelShape

LAYER_NORM_EPS = 1e-5
INIT_STD = 0.02
INIT_STD_POSITIONS = 0.01


class Projection(nn.Module):
    """y = x W + b with W stored [in, out], as OpenAI and Hugging Face (Conv1D) store it."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.empty(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, shape: ModelShape, layer: int) -> None:
        super().__init__()
        self.n_head, self.layer = shape.n_head, layer
        self.c_attn = Projection(shape.n_embd, 3 * shape.n_embd)
        self.c_proj = Projection(shape.n_embd, shape.n_embd)

    def forward(self, x_BTC: Tensor, dropout: float, cache: KVCache | None) -> Tensor:
        """Return (B, T, C); with a cache, T new positions attend to all that came before."""
        B, T, C = x_BTC.shape
        q, k, v = self.c_attn(x_BTC).split(C, dim=2)
        q_BHTD, k_BHSD, v_BHSD = (p.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for p in (q, k, v))
        mask_TS = None
        if cache is not None:
            k_BHSD, v_BHSD = cache.append(self.layer, k_BHSD, v_BHSD)
            mask_TS = cache.mask(T)
        causal = cache is None or (T > 1 and mask_TS is None)
        y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=mask_TS, dropout_p=dropout,
                                                is_causal=causal)
        return self.c_proj(y_BHTD.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """The position-wise feed-forward block, four times as wide inside."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.c_fc = Projection(shape.n_embd, 4 * shape.n_embd)
        self.c_proj = Projection(4 * shape.n_embd, shape.n_embd)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        return self.c_proj(F.gelu(self.c_fc(x_BTC), approximate="tanh"))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, shape: ModelShape, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.n_embd, eps=LAYER_NORM_EPS)
        self.attn = Attention(shape, layer)
        self.ln_2 = nn.LayerNorm(shape.n_embd, eps=LAYER_NORM_EPS)
        self.mlp = MLP(shape)

    def forward(self, x_BTC: Tensor, dropout: float, cache: KVCache | None) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        x_BTC = x_BTC + _drop(self.attn(self.ln_1(x_BTC), dropout, cache), dropout)
        return x_BTC + _drop(self.mlp(self.ln_2(x_BTC)), dropout)


class GPT2(nn.Module):
    """The network from token ids to final hidden states; `logits` applies the tied head.

    Weights are uninitialised until `initialise` or a checkpoint fills them.
    """

    def __init__(self, shape: ModelShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = dropout
        self.wte = nn.Embedding(shape.n_vocab, shape.n_embd, _weight=torch.empty(shape.n_vocab, shape.n_embd))
        self.wpe = nn.Embedding(shape.n_ctx, shape.n_embd, _weight=torch.empty(shape.n_ctx, shape.n_embd))
        self.h = nn.ModuleList(Block(shape, layer) for layer in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd, eps=LAYER_NORM_EPS)

    def forward(self, ids_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Return final hidden states (B, T, C) of ids (B, T); positions go on where the cache ends.

        Raises ValueError when the positions pass n_ctx.
        """
        start = cache.length if cache is not None else 0
        T = ids_BT.shape[1]
        if start + T > self.shape.n_ctx:
            raise ValueError(f"{start + T} positions do not fit a context of {self.shape.n_ctx}")
        dropout = self.dropout if self.training else 0.0
        x_BTC = _drop(self.wte(ids_BT) + self.wpe.weight[start : start + T], dropout)
        for block in self.h:
            x_BTC = block(x_BTC, dropout, cache)
        if cache is not None:
            cache.advance(T)
        return self.ln_f(x_BTC)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (..., V) of hidden states (..., C)."""
        return F.linear(x, self.wte.weight)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw N(0, 0.02) weights from `seed`: positions N(0, 0.01), residual projections times 1/sqrt(2 n_layer)."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif ".ln_" in name or name.startswith("ln_"):
                parameter.fill_(1.0)
            else:
                std = INIT_STD_POSITIONS if name.startswith("wpe") else INIT_STD
                if name.endswith("c_proj.weight"):
                    std /= math.sqrt(2 * self.shape.n_layer)
                parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))


def _drop(x: Tensor, dropout: float) -> Tensor:
    return F.dropout(x, dropout) if dropout else x
