"""How much memory training will hold at its peak on a CPU, term by term, before it starts.

The terms follow what the code allocates; the coefficients were fitted to peaks measured with torch 2.13 under glibc,
whose allocator keeps some of what is freed. N parameters, L layers, C width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from gpt2cli.model.nll import HEAD_CHUNK
from gpt2cli.training.config import TrainConfig

_PROCESS = 264 * 10**6
"""Python, torch and its kernels."""
_PER_LAYER = {"fp32": 17.0, "bf16": 10.2, "fp16": 10.2}
_ONE_LAYER = {"fp32": 17.0, "bf16": 16.0, "fp16": 16.0}
"""Activations of B T C fp32 numbers: what each layer keeps, and what the one at work needs besides."""


@dataclass(frozen=True)
class PeakMemory:
    """Bytes at the peak. head: the chunk of logits and the head's gradient; process: code and the token buffer."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    head: int
    process: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(astuple(self))


def peak_memory(config: TrainConfig, data_bytes: int = 0) -> PeakMemory:
    """Return what a run of `config` on one CPU process will hold at its peak, from its second step on.

    The peak is where the head of the last micro-batch is computed, with all activations there and the gradients of the
    micro-batches before, or at the end of the backward pass, with all gradients. Without activation checkpointing.
    data_bytes: what the shards' reader keeps decoded.
    """
    shape, dtype = config.shape, config.dtype
    n, table = shape.n_params, shape.n_vocab * shape.n_embd
    unit = 4 * config.micro_batch * shape.n_ctx * shape.n_embd
    positions = config.micro_batch * shape.n_ctx
    # of several chunks the one before is still held
    logits = (12 if positions > HEAD_CHUNK else 8) * min(HEAD_CHUNK, positions) * shape.n_vocab
    narrow = 0 if dtype == "fp32" else 8 * table + 24 * shape.n_layer * shape.n_embd**2  # copies and kernels' reorders
    at_head = PeakMemory(4 * n, 4 * n if config.micro_batches > 1 else 0, 8 * n,
                         int(unit * (_PER_LAYER[dtype] * shape.n_layer + _ONE_LAYER[dtype])),
                         4 * table + logits + narrow, _PROCESS + data_bytes)
    at_end = PeakMemory(4 * n, 4 * n, 8 * n, int(unit * _ONE_LAYER[dtype]), 4 * table, _PROCESS + data_bytes)
    return max(at_head, at_end, key=lambda each: each.total)
