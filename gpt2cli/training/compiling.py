"""What --compile means here: which compiled form of the network a run trains, and its preparation.

native: the pass of native_gradient.py, for bf16 on a CPU that has its instructions, or that of small_network.py, for
small networks in fp32 on any CPU; their kernels are compiled in seconds. torch: torch.compile of
a block, in a minute on a CPU; wherever torch has a backend. All change the last bits, so the choice is part of a run's
configuration.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from gpt2cli.errors import UsageFault
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.config import TrainConfig

if TYPE_CHECKING:
    from gpt2cli.model.native_gradient import NativeGradient
    from gpt2cli.model.small_network import SmallNetwork

CHOICES = ("auto", "native", "torch", "off")


def with_compiling(config: TrainConfig, asked: str, device: torch.device, divided: bool) -> TrainConfig:
    """Return `config` with the choice that `asked`, one of CHOICES, means on this machine.

    auto: native where it can be. divided: the model is shared out among ranks. Raises UsageFault where it cannot.
    """
    why_not = None if asked in ("off", "torch") else _why_not_native(config, device, divided)
    if asked == "native" and why_not is not None:
        raise UsageFault(f"--compile native cannot be here: {why_not}; --compile off trains without")
    if asked == "torch" and divided:
        raise UsageFault("--compile torch and --parallel do not go together; leave one of them out")
    chosen = asked if asked != "auto" else "off" if why_not is not None else "native"
    return replace(config, compile=chosen)


def use_compiled(model: GPT2, config: TrainConfig) -> None:
    """Give the model the form that its configuration names. Raises UsageFault where it cannot be had."""
    if config.compile == "native":
        from gpt2cli.model.native_kernels import NoKernelsError

        try:
            model.native = _native_pass(model, config)
        except NoKernelsError as error:
            raise UsageFault(f"this run trains with --compile native, and {error}; --compile off --override goes on "
                             "without") from None
    elif config.compile == "torch":
        for block in model.h:
            block.compile(dynamic=False)


def _native_pass(model: GPT2, config: TrainConfig) -> NativeGradient | SmallNetwork:
    if config.dtype == "fp32":
        from gpt2cli.model.small_network import SmallNetwork, small_network_library

        return SmallNetwork(model, small_network_library(), reuse=not config.deterministic)
    from gpt2cli.model.native_gradient import NativeGradient
    from gpt2cli.model.native_kernels import native_kernels

    return NativeGradient(model, native_kernels())


def _why_not_native(config: TrainConfig, device: torch.device, divided: bool) -> str | None:
    """Return why the native pass cannot train this, None if it can."""
    from gpt2cli.model import native_gradient, small_network
    from gpt2cli.model.native_kernels import NoKernelsError, native_kernels

    small = config.dtype == "fp32"
    reasons = {
        f"it is for CPUs, not {device.type}": device.type != "cpu",
        f"it is for --dtype bf16 and fp32, not {config.dtype}": config.dtype not in ("bf16", "fp32"),
        "it has no dropout": config.dropout > 0,
        "it has no --doc-mask": config.doc_mask,
        "it is for whole models, not for --parallel": divided,
        "width and head size are to be multiples of 16": not (small or native_gradient.computes(config.shape)),
        small_network.LIMITS: small and not small_network.computes(config.shape),
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is None:
        try:
            small_network.small_network_library() if small else native_kernels()
        except NoKernelsError as error:
            reason = str(error)
    return reason
