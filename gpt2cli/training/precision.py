"""Which arithmetic a run uses: matrix products in fp32, bf16 or fp16 over fp32 weights, or bf16 throughout.

With bf16 weights all between them is bf16 too, the sums inside a kernel excepted; losses and sums over micro-batches
are fp32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gpt2cli.model.device import DTYPES
from gpt2cli.training.config import TrainConfig


def prepare(model: nn.Module, config: TrainConfig) -> None:
    """Give a model whose numbers are yet to come the type of its weights.

    Gradients are of that type too, but where several micro-batches are added up: each would be rounded into a sum that
    is larger than it, so that sum is fp32.
    """
    if config.weights == "fp32":
        return
    model.to(DTYPES[config.weights])
    if config.micro_batches > 1:
        for parameter in model.parameters():
            parameter.grad_dtype = torch.float32


def autocast(
    device: torch.device, dtype: str, weights: torch.dtype = torch.float32
) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a network of `weights` computes with `dtype`."""
    if DTYPES[dtype] == weights:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[dtype])


def total_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the 2-norm of all tensors together, an fp32 scalar whatever their type."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor, dtype=torch.float32)
                                                 for tensor in tensors]))
