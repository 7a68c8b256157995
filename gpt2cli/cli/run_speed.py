"""How fast this machine would train a model: one and two of its layers with its whole head, by the training step."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gpt2cli.sizes import ModelShape

if TYPE_CHECKING:
    from gpt2cli.scaling.run_cost import RunSpeed

_ROUNDS = 3


def measure(shape: ModelShape, device: str, dtype: str, threads: int | None) -> RunSpeed:
    """Time a sequence and an update of `shape` cut to one layer and to two; each further layer costs the difference.

    device, dtype, threads: as gpt2 train takes them. Seconds are the least of three rounds.
    """
    from gpt2cli.model.device import choose_device, native_bf16, use_threads
    from gpt2cli.scaling.run_cost import RunSpeed

    use_threads(threads)
    chosen = choose_device(device)
    named = ("bf16" if native_bf16(chosen) else "fp32") if dtype == "auto" else dtype
    one, two = (_times(shape, layers, chosen, named) for layers in (1, 2))
    sequence, update = (
        first + (shape.n_layer - 1) * max(0.0, second - first) for first, second in zip(one, two, strict=True)
    )
    return RunSpeed(sequence, update, f"measured here on {chosen.type} in {named}")


def _times(shape: ModelShape, layers: int, device: Any, dtype: str) -> tuple[float, float]:
    """Return the seconds of a sequence and of an update of the model cut to `layers` layers."""
    import torch

    from gpt2cli.model.gpt2 import GPT2
    from gpt2cli.training.config import TrainOptions, resolve
    from gpt2cli.training.optimizer import AdamW
    from gpt2cli.training.step import clip_gradient, micro_batch_gradient

    options = TrainOptions(layers=layers, embd=shape.n_embd, heads=shape.n_head, context=shape.n_ctx,
                           batch_tokens=shape.n_ctx, steps=1, dtype=dtype)  # fmt: skip
    config = resolve(options, n_vocab=shape.n_vocab, train_tokens=shape.n_ctx + 1, native_bf16=False)
    model = GPT2(config.shape)
    model.initialise(0)
    model.to(device).train()
    optimizer = AdamW(model, config)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(shape.n_vocab, (1, shape.n_ctx + 1), generator=generator).to(device)
    least = [float("inf"), float("inf")]
    for _ in range(_ROUNDS):
        clock = [_now(device)]
        float(micro_batch_gradient(model, ids[:, :-1], ids[:, 1:], config, shape.n_ctx))
        clock.append(_now(device))
        clip_gradient(model, 1.0)
        optimizer.step(1e-6)
        clock.append(_now(device))
        model.zero_grad(set_to_none=True)
        least = [min(old, end - start) for old, start, end in zip(least, clock, clock[1:], strict=False)]
    return least[0], least[1]


def _now(device: Any) -> float:
    """Return the time, once the device has done what it was given."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()
