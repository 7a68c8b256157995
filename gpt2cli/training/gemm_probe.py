"""How fast this machine multiplies matrices, measured: what a model's FLOP utilisation (MFU) is a share of."""

from __future__ import annotations

from time import perf_counter

import torch

from gpt2cli.model.device import DTYPES

_SECONDS = 0.15
_SIDE_CPU, _SIDE_CPU_FP16, _SIDE_GPU = 1024, 256, 8192
"""Few CPUs multiply fp16 themselves: the others take seconds for a product of 1,024, each."""
_LEAST = 3


def gemm_flops_per_second(device: torch.device, dtype: str) -> float:
    """Return the FLOP a second of the fastest of many square matrix products in `dtype`, in about 0.15 s.

    Of several, since a product that another process interrupts says nothing about the machine.
    """
    side = _SIDE_GPU if device.type != "cpu" else _SIDE_CPU_FP16 if dtype == "fp16" else _SIDE_CPU
    a = torch.full((side, side), 0.01, device=device, dtype=DTYPES[dtype])
    out = torch.empty_like(a)
    fastest, began, count = float("inf"), perf_counter(), 0
    while count < _LEAST or perf_counter() - began < _SECONDS:
        start = _now(device)
        torch.mm(a, a, out=out)
        fastest = min(fastest, _now(device) - start)
        count += 1
    return 2 * side**3 / fastest


def _now(device: torch.device) -> float:
    """Return the time, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return perf_counter()
