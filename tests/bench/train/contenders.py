"""One contender of tests/bench/train/run, as a process: contenders.py NAME MODEL THREADS, then numbers of steps.

It makes the model, takes its first two steps, writes "ready SECONDS" (of those steps: compiling) and answers every line
with seconds a step and the peak of its resident memory in bytes. A step is all that training does on one batch of
random tokens: gradients to none, forward, backward, clipping at 1, AdamW. Exits with 3 and the name of what is missing.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MODELS = {"small": (12, 12, 768, 1024, 1), "ladder": (6, 6, 384, 256, 4),
          **{f"tiny-{width}": (2, width // 8, width, 32, 16) for width in (16, 32, 64, 128)}}
"""Layers, heads, width, context, sequences of a batch. tiny-N are what gpt2 fit-scaling plan trains."""
LR, BETAS, DECAY = 6e-4, (0.9, 0.95), 0.1
Step = Callable[[torch.Tensor, torch.Tensor], None]


def vocabulary(model: str) -> int:
    """Return how many ids a model knows."""
    return 512 if model.startswith("tiny") else 50257


def batch(model: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random inputs and targets (B, T)."""
    context, sequences = MODELS[model][3:]
    rows = torch.randint(vocabulary(model), (sequences, context + 1), generator=torch.Generator().manual_seed(seed))
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def ours(model: str, dtype: str, how: str, weights: str = "fp32") -> Step:
    """Return a step as `gpt2 train` takes it."""
    from gpt2cli.model.freed_memory import freed_memory_kept, freed_memory_returned
    from gpt2cli.model.gpt2 import GPT2
    from gpt2cli.training import compiling
    from gpt2cli.training.config import TrainOptions, resolve
    from gpt2cli.training.optimizer import AdamW
    from gpt2cli.training.precision import prepare
    from gpt2cli.training.step import clip_gradient, micro_batch_gradient

    layers, heads, width, context, sequences = MODELS[model]
    count = context * sequences
    options = TrainOptions(layers=layers, heads=heads, embd=width, context=context, batch_tokens=count, steps=1000,
                           micro_batch=sequences, dtype=dtype, weights=weights)
    config = resolve(options, n_vocab=vocabulary(model), train_tokens=1 << 30, native_bf16=True)
    config = compiling.with_compiling(config, how, torch.device("cpu"), False)
    kept = freed_memory_kept() if weights == "fp32" else freed_memory_returned()
    kept.__enter__()
    network = GPT2(config.shape).train()
    prepare(network, config)
    compiling.use_compiled(network, config)
    optimizer = AdamW(network, config)
    optimizer.take_weights(network.initial_weights(1))

    def step(inputs: torch.Tensor, targets: torch.Tensor, _kept: object = kept) -> None:
        network.zero_grad(set_to_none=True)
        float(micro_batch_gradient(network, inputs, targets, config, count))
        clip_gradient(network, 1.0)
        optimizer.step(LR)

    return step


def plain_step(network: Any, loss_of: Callable[..., torch.Tensor], optimizers: list[Any], bf16: bool) -> Step:
    """Return the step of an ordinary loop with the faster of `optimizers`, by one step each."""
    chosen: list[Any] = []

    def step(inputs: torch.Tensor, targets: torch.Tensor, optimizer: Any = None) -> None:
        optimizer = optimizer or chosen[0]
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_of(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        float(loss)

    def first(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        taken = []
        for optimizer in optimizers if not chosen else []:
            step(inputs, targets, optimizer)
            start = time.perf_counter()
            optimizer.step()
            taken.append(time.perf_counter() - start)
            if optimizer is not optimizers[-1]:
                optimizer.state.clear()
        if not chosen:
            chosen.append(optimizers[min(range(len(taken)), key=taken.__getitem__)])
            for optimizer in optimizers:
                if optimizer is not chosen[0]:
                    optimizer.state.clear()
        step(inputs, targets)

    return first


def nanogpt(model: str, bf16: bool, compiled: bool) -> Step:
    """Return a step of nanoGPT's train.py (NANOGPT: its directory), its vocabulary padded to 64 as there."""
    if not (Path(os.environ.get("NANOGPT", "/")) / "model.py").exists():
        missing("nanoGPT (NANOGPT=DIR)")
    sys.path.insert(0, os.environ["NANOGPT"])
    sys.stdout = sys.stderr  # it prints
    module = importlib.import_module("model")
    layers, heads, width, context, _ = MODELS[model]
    padded = -(-vocabulary(model) // 64) * 64
    network = module.GPT(module.GPTConfig(block_size=context, vocab_size=padded, n_layer=layers, n_head=heads,
                                          n_embd=width, dropout=0.0, bias=True))
    own = network.configure_optimizers(DECAY, LR, BETAS, "cpu")
    run = torch.compile(network) if compiled else network
    return plain_step(network, lambda inputs, targets: run(inputs, targets)[1], [own, fused(network)], bf16)


def transformers(model: str, bf16: bool, compiled: bool) -> Step:
    """Return a step of transformers' GPT2LMHeadModel in a plain loop."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        missing("transformers")
    layers, heads, width, context, _ = MODELS[model]
    network = GPT2LMHeadModel(GPT2Config(n_layer=layers, n_head=heads, n_embd=width, n_positions=context,
                                         vocab_size=vocabulary(model), resid_pdrop=0.0, embd_pdrop=0.0,
                                         attn_pdrop=0.0)).train()
    run = torch.compile(network) if compiled else network

    def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = run(inputs, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    return plain_step(network, loss_of, [fused(network)], bf16)


def fused(network: Any) -> torch.optim.AdamW:
    """Return torch's fused AdamW with decay on matrices."""
    groups = [{"params": [each for each in network.parameters() if (each.ndim > 1) == matrix],
               "weight_decay": DECAY * matrix} for matrix in (True, False)]
    return torch.optim.AdamW(groups, lr=LR, betas=BETAS, fused=True)


def missing(what: str) -> None:
    """End as one that cannot run here."""
    sys.stderr.write(what)
    sys.exit(3)


CONTENDERS: dict[str, Callable[[str], Step]] = {
    "gpt2cli bf16 native": lambda model: ours(model, "bf16", "native"),
    "gpt2cli bf16": lambda model: ours(model, "bf16", "off"),
    "gpt2cli bf16 weights native": lambda model: ours(model, "bf16", "native", "bf16"),
    "gpt2cli bf16 weights": lambda model: ours(model, "bf16", "off", "bf16"),
    "gpt2cli fp32 native": lambda model: ours(model, "fp32", "native"),
    "gpt2cli fp32": lambda model: ours(model, "fp32", "off"),
    "nanoGPT bf16 compiled": lambda model: nanogpt(model, True, True),
    "nanoGPT bf16": lambda model: nanogpt(model, True, False),
    "nanoGPT fp32 compiled": lambda model: nanogpt(model, False, True),
    "nanoGPT fp32": lambda model: nanogpt(model, False, False),
    "transformers bf16 compiled": lambda model: transformers(model, True, True),
    "transformers bf16": lambda model: transformers(model, True, False),
    "transformers fp32": lambda model: transformers(model, False, False),
}


def peak_bytes() -> int:
    """Return the most resident memory that this process has had (VmHWM)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def main() -> None:
    """Serve."""
    name, model, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    answer = sys.stdout
    step = CONTENDERS[name](model)
    rows = batch(model, 1)
    start = time.perf_counter()
    step(*rows)
    step(*rows)
    answer.write(f"ready {time.perf_counter() - start}\n")
    answer.flush()
    for line in sys.stdin:
        start = time.perf_counter()
        for number in range(int(line)):
            step(*batch(model, number))
        answer.write(f"{(time.perf_counter() - start) / int(line)} {peak_bytes()}\n")
        answer.flush()


if __name__ == "__main__":
    main()
