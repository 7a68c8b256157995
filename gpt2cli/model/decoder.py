"""GPT-2 as generation runs it: a few new positions a row on top of a KV cache, with as few operations as will do.

The same network as gpt2.py with the same parameters.

Shapes: B rows, T new positions, N = B x T, S positions attended to, C width, H heads, D head size, V vocabulary.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2, LAYER_NORM_EPS, Block
from gpt2cli.model.kv_cache import CacheWindow, KVCache
from gpt2cli.model.linear import attention_dtype
from gpt2cli.model.packed import hidden_states


class Decoder:
    """Reads prompts and further tokens of a model into caches."""

    def __init__(self, model: GPT2) -> None:
        self._model = model
        self._layers = [_Layer(cast(Block, block), number) for number, block in enumerate(model.h)]
        self._wte, self._wpe = model.wte, model.wpe.weight
        self.device = self._wpe.device
        self._attend = attention_dtype(model.wte.weight.dtype, self.device)

    def cache(self, batch: int, capacity: int) -> KVCache:
        """Return an empty cache for `batch` rows of up to `capacity` positions."""
        return KVCache(self._model.shape, batch, capacity, device=self.device, dtype=self._attend)

    def begin(self, prompts: list[tuple[int, ...]], cache: KVCache) -> Tensor:
        """Read prompts of any lengths into the rows of an empty cache; return the final states (B, C) of their ends."""
        lengths = [len(prompt) for prompt in prompts]
        self._check(max(lengths))
        ids_N = torch.tensor([token for prompt in prompts for token in prompt], device=self.device)
        ends_B = torch.tensor(lengths, device=self.device).cumsum(0) - 1
        runs: list[tuple[int, int]] = []
        for length in lengths:
            if runs and runs[-1][1] == length:
                runs[-1] = runs[-1][0] + 1, length
            else:
                runs.append((1, length))
        return hidden_states(self._model, ids_N, runs, ends_B, cache)

    @torch.inference_mode()
    def read(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        """Read T more ids of every row; return final hidden states (B, T, C).

        Raises ValueError when positions pass the cache's capacity or n_ctx.
        """
        B, T = ids_BT.shape
        self._check(max(cache.lengths) + T)
        window = cache.window(T)
        x_NC = (self._wte(ids_BT) + window.positions(self._wpe)).view(B * T, -1)
        for layer in self._layers:
            x_NC = layer(x_NC, B, T, window, self._attend)
        window.advance()
        return cast(Tensor, self._model.ln_f(x_NC)).view(B, T, -1)

    @torch.inference_mode()
    def logits(self, x: Tensor) -> Tensor:
        """Return logits (..., V) of hidden states (..., C)."""
        return self._model.logits(x)

    def _check(self, positions: int) -> None:
        if positions > self._model.shape.n_ctx:
            raise ValueError(f"{positions} positions do not fit a context of {self._model.shape.n_ctx}")


class _Layer:
    """One block with its parameters at hand: looking them up in modules costs more than small kernels take."""

    def __init__(self, block: Block, number: int) -> None:
        self._number, self._n_head = number, block.attn.n_head
        self._width = (block.ln_1.weight.shape[0],)
        self._ln_1, self._ln_2 = ((norm.weight, norm.bias, LAYER_NORM_EPS) for norm in (block.ln_1, block.ln_2))
        self._qkv, self._out = block.attn.c_attn.infer, block.attn.c_proj.infer
        self._up, self._down = block.mlp.c_fc.infer, block.mlp.c_proj.infer

    def __call__(self, x_NC: Tensor, B: int, T: int, window: CacheWindow, attend: torch.dtype) -> Tensor:
        qkv_N3C = self._qkv(torch.layer_norm(x_NC, self._width, *self._ln_1)).to(attend)
        q_BTHD, k_BTHD, v_BTHD = qkv_N3C.view(B, T, 3, self._n_head, -1).unbind(2)
        k_BHSD, v_BHSD = window.append(self._number, k_BTHD, v_BTHD)
        y_BHTD = F.scaled_dot_product_attention(q_BTHD.transpose(1, 2), k_BHSD, v_BHSD, attn_mask=window.mask,
                                                is_causal=window.causal)
        x_NC += self._out(y_BHTD.transpose(1, 2).reshape(x_NC.shape))
        x_NC += self._down(self._up(torch.layer_norm(x_NC, self._width, *self._ln_2), gelu=True))
        return x_NC
