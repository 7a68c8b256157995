"""Which kernel computes y = x W^T + b: chosen here, by dtype and row count, for everything that only infers.

Measured on two cores of a 2023 EPYC with AVX-512 and its bf16, ms for 768 x 3,072 at 1 / 8 / 128 rows:

    fp32   addmm on W stored [in, out]   0.35 / 1.8 / 16      oneDNN   0.73 / 1.1 / 11
    bf16   oneDNN, W packed              0.25 / 0.25 / 1.5    oneDNN on W as stored               0.3 / 0.35 / 1.6
    fp16   F.linear on W [out, in]       0.25 / 2.0 / 96      widened to fp32 for every product   0.5 / 1.1 / 16
    int8   oneDNN, in 15 bits, one core  0.13 / 0.3 / 3.8     _weight_int8pack_mm, one core       0.12 / 0.5 / 12
    int4   _weight_int4pack_mm_for_cpu   0.14 / 0.5 / 11

One row is a matrix times a vector and bound by reading W, so the narrowest weights win there. No CPU of that age
multiplies fp16 matrices itself: from four rows on, W is widened. The integer kernels are in integer_linear.py.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_ROWS = 2
"""Up to here fp32 products are addmm's."""
FEW_ROWS_FP16 = 3
"""Up to here fp16 products are computed from fp16 weights as they are."""


def linear(x: Tensor, weight_OI: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """Return x W^T + bias, with the tanh GELU of it if `gelu`. The result is in the type that the kernel gives.

    x may be of another floating-point type than W: the product runs in W's.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return _plain(x, weight_OI, bias, gelu)
    rows = x.numel() // x.shape[-1]
    if weight_OI.dtype == torch.float16:
        if rows <= FEW_ROWS_FP16:
            return _plain(x, weight_OI, bias, gelu)
        return linear(x.float(), weight_OI.float(), None if bias is None else bias.float(), gelu=gelu)
    if rows <= FEW_ROWS and weight_OI.dtype == torch.float32 and weight_OI.stride(0) == 1 and bias is not None:
        y = torch.addmm(bias, x.view(rows, -1), weight_OI.T).view(*x.shape[:-1], -1)
        return F.gelu(y, approximate="tanh") if gelu else y
    if has_onednn(weight_OI.dtype):
        return _onednn(x.to(weight_OI.dtype), weight_OI, bias, gelu)
    return _plain(x, weight_OI, bias, gelu)


class PackedLinear(nn.Module):
    """y = x W^T + b in bf16 by oneDNN, W laid out once as its kernels read it, which they else do for every product.

    The same bits, in two thirds of the time at 1 to 32 rows.
    """

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        super().__init__()
        self._packed, self._bias_O = torch.ops.mkldnn._reorder_linear_weight(weight_OI.contiguous(), None), bias_O

    def infer(self, x: Tensor, *, gelu: bool = False) -> Tensor:
        """Map (..., in) to (..., out) bf16, then GELU if `gelu`."""
        return _onednn(x.bfloat16(), self._packed, self._bias_O, gelu)


def _onednn(x: Tensor, weight_OI: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    kind = ("gelu", "tanh") if gelu else ("none", "")
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight_OI, bias, kind[0], [], kind[1]))


def _plain(x: Tensor, weight_OI: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    y = F.linear(x.to(weight_OI.dtype), weight_OI, bias)
    return F.gelu(y, approximate="tanh") if gelu else y


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies matrices of this type here."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def attention_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the type that keys and values are kept in: fp32 on a CPU, where its attention is fastest and exact."""
    return torch.float32 if device.type == "cpu" else dtype
