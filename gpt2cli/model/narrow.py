"""A model's parameters in fewer bits: matrices in bf16 or fp16, everything added up in fp32.

Norms, positions and the residual stream stay fp32. The token embedding is stored less its mean row: what all logits of
a position share, which in GPT-2's published weights is far larger than their differences, is then added in fp32, after
the product was rounded. The mean goes into the position embedding, so that tokens are looked up as before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpt2cli.model.number_range import check_range


def narrowed(tensors: dict[str, Tensor], dtype: torch.dtype, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Return parameters for inference in `dtype`, and the mean row of the token embedding (C,).

    Raises UsageFault where a weight is too large for `dtype`.
    """
    mean_C = tensors["wte.weight"].float().mean(0)
    if not bool(torch.isfinite(mean_C).all()):  # their sum is too large for fp32, not they
        mean_C = tensors["wte.weight"].mean(0, dtype=torch.float64).float()
    placed = {}
    for name, tensor in tensors.items():
        tensor = tensor.to(device, torch.float32)
        if name == "wte.weight":
            tensor = tensor - mean_C.to(device)
        elif name == "wpe.weight":
            tensor = tensor + mean_C.to(device)
        if name != "wpe.weight" and not name.removesuffix(".weight").removesuffix(".bias").endswith(
                ("ln_1", "ln_2", "ln_f")):
            tensor = _rounded(name, tensor, dtype)
        placed[name] = tensor
    return placed, mean_C.to(device)


def _rounded(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    check_range(name, tensor, dtype)
    rounded = tensor.to(dtype)
    if dtype == torch.float16 and tensor.dim() == 2 and name != "wte.weight" and tensor.device.type == "cpu":
        return rounded.T.contiguous().T  # [out, in] in memory: see linear.py
    return rounded
