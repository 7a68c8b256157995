"""Matrices of 8 or 4 bits a weight, multiplied as they are: integers and scales, activations in bf16.

The integers and scales come from quantised.py. Kernels by row count: see linear.py.
Shapes: N rows, I in, O out, G groups of a row of inputs, V vocabulary, C width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2cli.model.linear import linear

FEW_ROWS_INT8 = 12
"""Up to here the int8 kernel is faster than widening W to bf16."""
FEW_ROWS_INT4 = 64
"""Up to here the int4 kernel is faster than widening W to bf16."""


def kernels_exist() -> bool:
    """Whether this torch has the kernels."""
    return hasattr(torch, "_weight_int8pack_mm") and hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")


class Int8Linear(nn.Module):
    """y = x W^T + b, W one int8 a weight with a bf16 scale for every output."""

    def __init__(self, q_OI: Tensor, scale_O: Tensor, bias_O: Tensor | None) -> None:
        super().__init__()
        # The kernel faults on memory that is not aligned, and a tensor in a mapped file need not be: copies are.
        self._q_OI, self._scale_O, self._bias_O = q_OI.clone(), scale_O.bfloat16().clone(), bias_O

    @property
    def integers(self) -> Tensor:
        """W's integers (O, I)."""
        return self._q_OI

    def infer(self, x_NI: Tensor, *, gelu: bool = False) -> Tensor:
        """Map (N, in) to (N, out), then GELU if `gelu`."""
        x = x_NI.bfloat16()
        if len(x) <= FEW_ROWS_INT8:
            y = torch._weight_int8pack_mm(x, self._q_OI, self._scale_O)
        else:
            y = linear(x, self._q_OI.bfloat16()).mul_(self._scale_O)
        return _finish(y, self._bias_O, gelu)


class Int4Linear(nn.Module):
    """y = x W^T + b, W two weights a byte; a group of inputs has a bf16 scale and offset for every output."""

    def __init__(self, nibbles_OI: Tensor, scale_OG: Tensor, offset_OG: Tensor, bias_O: Tensor) -> None:
        """nibbles_OI: (O, I / 2) uint8, the even input in the low bits; W = (nibble - 8) scale + offset."""
        super().__init__()
        self._nibbles_OI, self._scale_OG, self._offset_OG, self._bias_O = nibbles_OI, scale_OG, offset_OG, bias_O
        self._group = 2 * nibbles_OI.shape[1] // scale_OG.shape[1]
        self._packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(unpack(nibbles_OI).int(), 1)
        self._scales_GO2 = torch.stack([scale_OG.T, offset_OG.T], dim=2).bfloat16().contiguous()

    def infer(self, x_NI: Tensor, *, gelu: bool = False) -> Tensor:
        """Map (N, in) to (N, out), then GELU if `gelu`."""
        x = x_NI.bfloat16()
        if len(x) <= FEW_ROWS_INT4:
            y = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self._packed, self._group, self._scales_GO2)
        else:
            y = linear(x, widen_int4(self._nibbles_OI, self._scale_OG, self._offset_OG).bfloat16())
        return _finish(y, self._bias_O, gelu)


class Int8Table(nn.Module):
    """The token embedding, its rows in int8, and the head tied to it. Rows are given less their mean: see narrow.py."""

    def __init__(self, q_VC: Tensor, scale_V: Tensor, mean_C: Tensor) -> None:
        super().__init__()
        self._head = Int8Linear(q_VC, scale_V, None)
        self._scale_V, self._mean_C = scale_V, mean_C

    @property
    def weight(self) -> Tensor:
        """The integers (V, C)."""
        return self._head.integers

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of `ids`, (..., C) fp32."""
        return F.embedding(ids, self.weight).float().mul_(self._scale_V[ids][..., None])

    def logits(self, x: Tensor) -> Tensor:
        """Return logits (..., V) of hidden states (..., C)."""
        rows = x.reshape(-1, x.shape[-1])
        return (self._head.infer(rows) + (rows @ self._mean_C)[:, None]).view(*x.shape[:-1], -1)


def unpack(nibbles_OI: Tensor) -> Tensor:
    """Return (O, I) uint8 of 0 to 15 from two to a byte."""
    return torch.stack([nibbles_OI & 15, nibbles_OI >> 4], dim=2).flatten(1)


def widen_int4(nibbles_OI: Tensor, scale_OG: Tensor, offset_OG: Tensor) -> Tensor:
    """Return W (O, I) in fp32."""
    out, groups = scale_OG.shape
    q_OGI = unpack(nibbles_OI).view(out, groups, -1).float()
    return q_OGI.sub_(8).mul_(scale_OG.float()[..., None]).add_(offset_OG.float()[..., None]).view(out, -1)


def _finish(y: Tensor, bias_O: Tensor | None, gelu: bool) -> Tensor:
    if bias_O is not None:
        y = y + bias_O
    return F.gelu(y, approximate="tanh") if gelu else y
