"""How much memory training will hold at its peak on a CPU, term by term, before it starts.

The terms follow what the code allocates; the coefficients were fitted to peaks measured with torch 2.13 under glibc,
whose allocator keeps some of what is freed. N parameters, L layers, C width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from gpt2cli.model.native_gradient import NATIVE_CHUNK
from gpt2cli.model.nll import HEAD_CHUNK
from gpt2cli.training.config import TrainConfig

_PROCESS = 264 * 10**6
"""Python, torch and its kernels."""
_PER_LAYER = {"fp32": 17.0, "bf16": 10.2, "fp16": 10.2, "narrow": 8.5, "native": 6.0}
_ONE_LAYER = {"fp32": 17.0, "bf16": 16.0, "fp16": 16.0, "narrow": 12.0, "native": 9.0}
_INPUT = {"fp32": 1.0, "bf16": 1.0, "fp16": 1.0, "narrow": 0.5, "native": 1.0}
"""Activations of B T C fp32 numbers: what each layer keeps, what the one at work needs besides, and what is kept of a
layer that is computed again. narrow: bf16 weights; native: the kernels of native_gradient.py."""


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


def peak_memory(config: TrainConfig, data_bytes: int = 0, recompute: bool = False) -> PeakMemory:
    """Return what a run of `config` on one CPU process will hold at its peak, from its second step on.

    The peak is where the head of the last micro-batch is computed, with all activations there and the gradients of the
    micro-batches before, or at the end of the backward pass, with all gradients.
    data_bytes: what the shards' reader keeps decoded. recompute: whether blocks are computed again.
    """
    shape, kind = config.shape, _kind(config)
    n, table = shape.n_params, shape.n_vocab * shape.n_embd
    unit = 4 * config.micro_batch * shape.n_ctx * shape.n_embd
    positions = config.micro_batch * shape.n_ctx
    state = 4 * n, (4 if config.moments == "bf16" else 8) * n
    narrow_gradients = config.weights == "bf16" and config.micro_batches == 1
    gradients = (2 if narrow_gradients else 4) * n
    body = _PER_LAYER[kind] + shape.n_layer * _INPUT[kind] if recompute else _PER_LAYER[kind] * shape.n_layer
    if kind == "native":
        copies = 2 * max(4 * shape.n_embd**2, min(shape.n_vocab, 8192) * shape.n_embd)
        copies += 4 * table if narrow_gradients else 0 if config.weights == "bf16" else 2 * n
        logits = 2 * min(NATIVE_CHUNK, positions) * shape.n_vocab
        return PeakMemory(state[0], gradients, state[1], int(unit * (body + _ONE_LAYER[kind])), copies + logits,
                          _PROCESS + data_bytes)
    # of several chunks the one before is still held
    logits = (12 if positions > HEAD_CHUNK else 8) * min(HEAD_CHUNK, positions) * shape.n_vocab
    at_head = PeakMemory(state[0], gradients if config.micro_batches > 1 else 0, state[1],
                         int(unit * (body + _ONE_LAYER[kind])),
                         4 * table + logits + _copies(config, kind, recompute), _PROCESS + data_bytes)
    # the table's gradient by the head and by the embedding, in fp32 and in bf16, and their sum
    tables = 4 if kind != "narrow" else 10 if config.micro_batches == 1 else 15
    at_end = PeakMemory(state[0], gradients, state[1], int(unit * _ONE_LAYER[kind]), tables * table,
                        _PROCESS + data_bytes)
    return max(at_head, at_end, key=lambda each: each.total)


def _kind(config: TrainConfig) -> str:
    if config.compile == "native":
        return "native"
    return "narrow" if config.weights == "bf16" else config.dtype


def _copies(config: TrainConfig, kind: str, recompute: bool) -> int:
    """Return the bytes of narrow copies of weights, and of the kernels' reorders."""
    shape = config.shape
    if kind in ("fp32", "narrow"):
        return 0
    matrices = 0 if recompute else 24 * shape.n_layer * shape.n_embd**2
    return 8 * shape.n_vocab * shape.n_embd + matrices
