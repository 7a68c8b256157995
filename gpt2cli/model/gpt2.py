"""GPT-2, to be read in one sitting.

Radford et al. 2019 and OpenAI's released code: pre-norm blocks, learned positions, tanh GELU, biases everywhere,
attention scaled by 1/sqrt(head size), the head tied to the token embedding. Parameters carry Hugging Face's names and
OpenAI's layout (matrices stored [in, out]), so a state dict is the file format.

Shape suffixes: B batch, T positions, C width (n_embd), H heads, D head size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2cli.model.document_mask import document_mask
from gpt2cli.model.linear import PackedLinear, linear
from gpt2cli.sizes import ModelShape

if TYPE_CHECKING:
    from gpt2cli.model.native_gradient import NativeGradient
    from gpt2cli.model.small_network import SmallNetwork

LAYER_NORM_EPS = 1e-5
PROJECTIONS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
"""The matrices of a block, by their names in it."""
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

    def infer(self, x_NC: Tensor, *, gelu: bool = False) -> Tensor:
        """Map (N, in) to (N, out) by the fastest kernel, without gradients; then GELU if `gelu`."""
        return linear(x_NC, self.weight.T, self.bias, gelu=gelu)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.n_head = shape.n_head
        self.c_attn = Projection(shape.n_embd, 3 * shape.n_embd)
        self.c_proj = Projection(shape.n_embd, shape.n_embd)

    def forward(self, x_BTC: Tensor, dropout: float, mask_B1TT: Tensor | None = None) -> Tensor:
        """Map (B, T, C) to (B, T, C); a mask (document_mask.py) stands for the causal one."""
        B, T, C = x_BTC.shape
        q, k, v = self.c_attn(x_BTC).chunk(3, dim=2)
        # as many heads as c_attn has here: training/tensor_parts.py divides them
        q_BHTD, k_BHTD, v_BHTD = (p.view(B, T, -1, C // self.n_head).transpose(1, 2) for p in (q, k, v))
        y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, attn_mask=mask_B1TT, dropout_p=dropout,
                                                is_causal=mask_B1TT is None)
        return self.c_proj(y_BHTD.transpose(1, 2).reshape(B, T, -1))


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

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.n_embd, eps=LAYER_NORM_EPS)
        self.attn = Attention(shape)
        self.ln_2 = nn.LayerNorm(shape.n_embd, eps=LAYER_NORM_EPS)
        self.mlp = MLP(shape)

    def forward(self, x_BTC: Tensor, dropout: float, mask_B1TT: Tensor | None = None) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        x_BTC = x_BTC + _drop(self.attn(self.ln_1(x_BTC), dropout, mask_B1TT), dropout)
        return x_BTC + _drop(self.mlp(self.ln_2(x_BTC)), dropout)


class TokenTable(nn.Embedding):
    """The token embedding and the head tied to it. mean_C: the mean row, if rows are stored less it (narrow.py).

    head: for inference, the same matrix as a kernel likes it best.
    """

    def __init__(self, n_vocab: int, width: int) -> None:
        super().__init__(n_vocab, width, _weight=torch.empty(n_vocab, width))
        self.mean_C: Tensor | None = None
        self.head: PackedLinear | None = None

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (..., V) of hidden states (..., C)."""
        logits = linear(x, self.weight) if self.head is None else self.head.infer(x)
        return logits if self.mean_C is None else logits + (x @ self.mean_C)[..., None]


class GPT2(nn.Module):
    """The network from token ids to final hidden states; `logits` applies the tied head.

    Weights are uninitialised until `initialise` or a checkpoint fills them. For training: separator is the id between
    documents that attention is kept within, None where it isn't; with `recompute` a block keeps its input alone and is
    computed once more in the backward pass, to the same bits; native is the pass by compiled kernels where they are.
    """

    def __init__(self, shape: ModelShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = dropout
        self.separator: int | None = None
        self.recompute = False
        self.native: NativeGradient | SmallNetwork | None = None
        self.wte = TokenTable(shape.n_vocab, shape.n_embd)
        self.wpe = nn.Embedding(shape.n_ctx, shape.n_embd, _weight=torch.empty(shape.n_ctx, shape.n_embd))
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd, eps=LAYER_NORM_EPS)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As Module's, whose walk through all modules takes a tenth of a small network's step where nothing changes."""
        return super().parameters(recurse) if self.native is None else iter(self.native.parameters)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Return final hidden states (B, T, C) of ids (B, T). Inference runs the same in packed.py and decoder.py.

        Raises ValueError when the positions pass n_ctx.
        """
        return self.ln_f(self.through_blocks(self.embed(ids_BT), ids_BT))

    def embed(self, ids_BT: Tensor) -> Tensor:
        """Return what the first block gets, (B, T, C), of ids (B, T). Raises as forward() does."""
        T = ids_BT.shape[1]
        if self.shape.n_ctx < T:
            raise ValueError(f"{T} positions do not fit a context of {self.shape.n_ctx}")
        return _drop(self.wte(ids_BT) + self.wpe.weight[:T], self.dropout if self.training else 0.0)

    def through_blocks(self, x_BTC: Tensor, ids_BT: Tensor) -> Tensor:
        """Return what the last block gives, (B, T, C), of what the first gets; ids (B, T) say where documents end."""
        dropout = self.dropout if self.training else 0.0
        mask_B1TT = None if self.separator is None else document_mask(ids_BT, self.separator)
        recompute = self.recompute and torch.is_grad_enabled()
        for block in self.h:
            x_BTC = _recomputed(block, x_BTC, dropout, mask_B1TT) if recompute else block(x_BTC, dropout, mask_B1TT)
        return x_BTC

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (..., V) of hidden states (..., C)."""
        return self.wte.logits(x)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Fill the parameters with initial_weights()."""
        for parameter, (_, weights) in zip(self.parameters(), self.initial_weights(seed), strict=True):
            parameter.copy_(weights)

    def initial_weights(self, seed: int) -> Iterator[tuple[str, Tensor]]:
        """Draw fp32 weights from `seed`, parameter by parameter: (name, tensor).

        N(0, 0.02), positions N(0, 0.01), residual projections times 1/sqrt(2 n_layer); biases 0, norms 1.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                yield name, torch.zeros(parameter.shape)
            elif ".ln_" in name or name.startswith("ln_"):
                yield name, torch.ones(parameter.shape)
            else:
                std = INIT_STD_POSITIONS if name.startswith("wpe") else INIT_STD
                if name.endswith("c_proj.weight"):
                    std /= math.sqrt(2 * self.shape.n_layer)
                yield name, torch.empty(parameter.shape).normal_(0.0, std, generator=generator)


def _recomputed(block: nn.Module, x_BTC: Tensor, dropout: float, mask_B1TT: Tensor | None) -> Tensor:
    from torch.utils.checkpoint import checkpoint  # it imports torch's compiler, which takes a second

    return cast(Tensor, checkpoint(block, x_BTC, dropout, mask_B1TT, use_reentrant=False,
                                   preserve_rng_state=dropout > 0))


def _drop(x: Tensor, dropout: float) -> Tensor:
    return F.dropout(x, dropout) if dropout else x


def replace_projections(model: GPT2, make: Callable[[str, nn.Module], nn.Module]) -> None:
    """Put make(name, projection) in the place of every block's matrices; a name is such as h.0.attn.c_attn."""
    for layer, block in enumerate(model.h):
        for path in PROJECTIONS:
            part, _, name = path.partition(".")
            owner = getattr(block, part)
            setattr(owner, name, make(f"h.{layer}.{path}", getattr(owner, name)))
