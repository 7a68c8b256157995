"""What a run would cost: FLOP, memory and time, and money where an hour has a price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpt2cli.errors import UsageFault
from gpt2cli.sizes import ModelShape, train_memory

HEAD_CHUNK_POSITIONS = 512
"""Positions whose logits exist at once in training."""


@dataclass(frozen=True)
class RunSpeed:
    """Seconds of one sequence forward and backward, and of one optimizer step; where the numbers come from."""

    sequence_seconds: float
    update_seconds: float
    source: str


@dataclass(frozen=True)
class RunCost:
    """Steps, FLOP (exact, causal attention), bytes at the peak by part, seconds, device-hours, and money or None."""

    shape: ModelShape
    tokens: int
    steps: int
    batch_tokens: int
    flops: float
    memory: dict[str, int]
    seconds: float
    device_hours: float
    price: float | None
    flops_per_second: float


def speed_of_rate(shape: ModelShape, flops_per_second: float) -> RunSpeed:
    """Return the speed of a machine that computes so many FLOP of the model a second: its peak times its utilisation.

    The optimizer's step is taken to be in the rate.
    """
    seconds = shape.train_flops_per_token() * shape.n_ctx / flops_per_second
    return RunSpeed(seconds, 0.0, f"{flops_per_second:.3g} FLOP a second and device, as given")


def run_cost(
    shape: ModelShape, tokens: int, batch_tokens: int, speed: RunSpeed, *, devices: int = 1, micro_batch: int = 1,
    price_per_hour: float | None = None,
) -> RunCost:  # fmt: skip
    """Return the cost of training `shape` on `tokens` tokens on devices that lose nothing by working together.

    price_per_hour: of one device. Raises UsageFault when the tokens are less than one batch, or a batch less than a
    sequence.
    """
    if batch_tokens < shape.n_ctx:
        raise UsageFault(f"--batch-tokens {batch_tokens} is less than one context of {shape.n_ctx} tokens")
    steps = tokens // batch_tokens
    if steps < 1:
        raise UsageFault(f"{tokens:,} tokens are less than one batch of {batch_tokens:,}")
    seconds = (steps * batch_tokens / shape.n_ctx * speed.sequence_seconds) / devices + steps * speed.update_seconds
    flops = float(tokens * shape.train_flops_per_token())
    memory = train_memory(shape, micro_batch, 4, HEAD_CHUNK_POSITIONS)
    parts = {name: getattr(memory, name) for name in ("parameters", "gradients", "optimizer", "activations", "total")}
    hours = seconds * devices / 3600
    return RunCost(shape, tokens, steps, batch_tokens, flops, parts, seconds, hours,
                   None if price_per_hour is None else hours * price_per_hour, flops / seconds)  # fmt: skip


def cost_record(cost: RunCost, speed: RunSpeed) -> dict[str, Any]:
    """Return the fields of a gpt2.plan record of kind "run"."""
    shape = cost.shape
    return {
        "kind": "run", "source": speed.source, "n_layer": shape.n_layer, "n_head": shape.n_head,
        "n_embd": shape.n_embd, "n_ctx": shape.n_ctx, "n_vocab": shape.n_vocab, "n": float(shape.n_params),
        "n_params_non_embedding": shape.n_params_non_embedding, "d": float(cost.tokens), "steps": cost.steps,
        "batch_tokens": cost.batch_tokens, "flops": cost.flops,
        "flops_per_token": shape.train_flops_per_token(), "memory_bytes": cost.memory, "seconds": cost.seconds,
        "device_hours": cost.device_hours, "price": cost.price, "flops_per_second": cost.flops_per_second,
    }  # fmt: skip
