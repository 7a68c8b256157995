"""Which arithmetic a run uses: fp32 weights always, matrix products in fp32 or bf16."""

from __future__ import annotations

import contextlib

import torch

from gpt2cli.model.device import DTYPES


def autocast(device: torch.device, dtype: str) -> contextlib.AbstractContextManager[object]:
    """Return the context in which the network runs: bf16 matrix products over fp32 weights, or plain fp32."""
    if dtype == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[dtype])
