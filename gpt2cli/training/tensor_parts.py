"""A block whose matrices are split between the ranks of a group, after Shoeybi et al. 2019 (Megatron-LM).

The first matrix of attention and of the MLP is split by its outputs, whole heads or inner units each, the second by its
inputs. So a block communicates twice forward and twice backward: sums of (B, T, C) over the group.

Shapes: C width, W ranks of the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2, Block, Projection


@dataclass(frozen=True)
class Part:
    """Where a rank's part of a tensor is: `where` of the tensor seen in `shape`, laid out as `local`."""

    shape: tuple[int, ...]
    where: tuple[slice, ...]
    local: tuple[int, ...]

    @property
    def split(self) -> bool:
        """Whether it is less than the whole."""
        return bool(self.where)

    def take(self, full: Tensor) -> Tensor:
        """Return the part of a whole tensor."""
        return full.view(self.shape)[self.where].reshape(self.local) if self.where else full

    def put(self, full: Tensor, part: Tensor) -> None:
        """Write the part into the whole tensor."""
        seen = full.view(self.shape)[self.where]
        seen.copy_(part.view(seen.shape))


def part_of(name: str, shape: torch.Size, rank: int, width: int) -> Part:
    """Return which part of the parameter `name` of this shape number `rank` of `width` ranks has."""
    every = slice(None)
    if name.endswith(("attn.c_attn.weight", "attn.c_attn.bias")):
        # queries, keys and values lie side by side, each with every head
        *rows, columns = shape
        own = slice(columns // 3 * rank // width, columns // 3 * (rank + 1) // width)
        return Part((*rows, 3, columns // 3), (*(every for _ in rows), every, own), (*rows, columns // width))
    if name.endswith(("mlp.c_fc.weight", "mlp.c_fc.bias")):
        *rows, columns = shape
        own = slice(columns * rank // width, columns * (rank + 1) // width)
        return Part(tuple(shape), (*(every for _ in rows), own), (*rows, columns // width))
    if name.endswith("c_proj.weight"):
        own = slice(shape[0] * rank // width, shape[0] * (rank + 1) // width)
        return Part(tuple(shape), (own,), (shape[0] // width, shape[1]))
    return Part(tuple(shape), (), tuple(shape))


def split_blocks(model: GPT2, width: int, group: Any) -> None:
    """Replace the matrices of every block by one rank's part of them, uninitialised, on the model's device."""
    C = model.shape.n_embd
    for block in model.h:
        if not isinstance(block, Block):  # another stage's
            continue
        block.attn.c_attn = _SplitByOutputs(C, 3 * C // width, group)
        block.attn.c_proj = _SplitByInputs(C // width, C, group)
        block.mlp.c_fc = _SplitByOutputs(C, 4 * C // width, group)
        block.mlp.c_proj = _SplitByInputs(4 * C // width, C, group)


class _SplitByOutputs(Projection):
    def __init__(self, n_in: int, n_out: int, group: Any) -> None:
        super().__init__(n_in, n_out)
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to this rank's (..., out)."""
        return super().forward(_Enter.apply(x, self._group))


class _SplitByInputs(Projection):
    def __init__(self, n_in: int, n_out: int, group: Any) -> None:
        super().__init__(n_in, n_out)
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        """Map this rank's (..., in) to (..., out), the same on every rank."""
        own = torch.mm(x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)
        summed: Tensor = _Leave.apply(own, self._group)
        return summed + self.bias


class _Enter(torch.autograd.Function):
    """Nothing forward; backward the sum over the group, each of whose ranks saw a part of what depends on x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return _summed(grad_outputs[0], ctx.group), None


class _Leave(torch.autograd.Function):
    """The sum over the group forward; nothing backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        return _summed(x, group)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return grad_outputs[0], None


def _summed(x: Tensor, group: Any) -> Tensor:
    import torch.distributed as dist

    total = x.contiguous().clone()
    dist.all_reduce(total, group=group)
    return total
