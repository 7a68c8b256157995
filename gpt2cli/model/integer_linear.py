"""Matrices of 8 or 4 bits a weight, multiplied as they are: integers and scales.

The integers and scales come from quantised.py. How long the kernels take: see linear.py.
Shapes: N rows, I in, O out, G groups of a row of inputs, V vocabulary, C width.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt2cli.model.linear import linear

FEW_ROWS_INT4 = 64
"""Up to here the int4 kernel is faster than widening W to bf16."""
_HALF, _STEPS = 0x8080, 127 * 256
"""A row's activations become _STEPS steps to either side of zero; _HALF added, both bytes of each are unsigned."""


@cache
def kernels_exist() -> bool:
    """Whether this torch has the kernels, and they multiply here."""
    if not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu") or not torch.backends.mkldnn.is_available():
        return False
    try:
        product = Int8Linear(torch.full((2, 32), -3, dtype=torch.int8), torch.ones(2), None).infer(torch.ones(1, 32))
    except (RuntimeError, AttributeError):
        return False
    return bool((product + 96).abs().max() < 0.01)


class Int8Linear(nn.Module):
    """y = x W^T + b, W one int8 a weight with a scale for every output.

    A row x of activations is 16-bit integers times a scale, and its two bytes are two rows of an integer product, which
    reads W once and adds exactly: y is as near as x in 15 bits, a hundred times nearer than in bf16.
    """

    def __init__(self, q_OI: Tensor, scale_O: Tensor, bias_O: Tensor | None) -> None:
        super().__init__()
        self._packed = torch.ops.onednn.qlinear_prepack(q_OI, None)
        self._scale_O, self._no_offset_O = scale_O.float(), torch.zeros(len(scale_O), dtype=torch.int64)
        self._bias_O = torch.zeros(len(scale_O)) if bias_O is None else bias_O
        self._middle, self._least = torch.tensor(_HALF + 0.5), torch.tensor(1e-30)

    def infer(self, x_NI: Tensor, *, gelu: bool = False) -> Tensor:
        """Map (N, in) to (N, out) fp32, then GELU if `gelu`."""
        rows, width = x_NI.shape
        largest_N1 = torch.linalg.vector_norm(x_NI, torch.inf, 1, keepdim=True)
        scale_N1 = torch.add(self._least, largest_N1, alpha=1 / _STEPS)
        steps_NI = torch.addcdiv(self._middle, x_NI, scale_N1).to(torch.int32, memory_format=torch.contiguous_format)
        # little-endian: the lower byte of all rows, then the upper one
        bytes_2NI = steps_NI.view(torch.uint8).as_strided((2, rows, width), (1, 4 * width, 4))
        bytes_MI = bytes_2NI.reshape(2 * rows, width)
        low_NO, high_NO = torch.ops.onednn.qlinear_pointwise(
            bytes_MI, 1.0, 128, self._packed, self._scale_O, self._no_offset_O, None, 1.0, 0, torch.float32, "none",
            [], "").split(rows)  # fmt: skip
        y_NO = torch.addcmul(self._bias_O, torch.add(low_NO, high_NO, alpha=256), scale_N1)
        return F.gelu(y_NO, approximate="tanh") if gelu else y_NO


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
        y = y + self._bias_O
        return F.gelu(y, approximate="tanh") if gelu else y


class Int8Table(nn.Module):
    """The token embedding, its rows in int8, and the head tied to it. Rows are given less their mean: see narrow.py."""

    def __init__(self, q_VC: Tensor, scale_V: Tensor, mean_C: Tensor) -> None:
        super().__init__()
        self._head = Int8Linear(q_VC, scale_V, None)
        self.weight, self._scale_V, self._mean_C = q_VC, scale_V, mean_C

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
