"""Our AdamW takes the steps of torch's own, bit for bit, and goes on from saved moments as if it had never stopped."""

from __future__ import annotations

import subprocess
import sys

import torch

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.optimizer import ADAM_EPS, AdamW


def settings() -> TrainConfig:
    return resolve(TrainOptions(layers=2, embd=32, heads=2, context=16, batch_tokens=64, steps=9), n_vocab=97,
                   train_tokens=20_000, native_bf16=False)


def model() -> GPT2:
    made = GPT2(settings().shape)
    made.initialise(0)
    return made


def put_gradients(network: GPT2, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def same(one: GPT2, other: GPT2) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_steps_are_torchs_bit_for_bit() -> None:
    config, ours, theirs = settings(), model(), model()
    mine = AdamW(ours, config)
    matrices = [p for name, p in theirs.named_parameters() if p.ndim == 2 and name not in {"wte.weight", "wpe.weight"}]
    rest = [p for p in theirs.parameters() if all(p is not matrix for matrix in matrices)]
    assert len(matrices) == 8
    reference = torch.optim.AdamW([{"params": matrices, "weight_decay": config.weight_decay},
                                   {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.95), eps=ADAM_EPS, fused=True)
    for step in range(1, 8):
        put_gradients(ours, step)
        put_gradients(theirs, step)
        mine.step(0.01 / step)
        for group in reference.param_groups:
            group["lr"] = 0.01 / step
        reference.step()
        assert same(ours, theirs)
    moments = mine.moments()
    assert all(torch.equal(moments[f"exp_avg_sq.{name}"], reference.state[p]["exp_avg_sq"])
               for name, p in theirs.named_parameters())


def test_saved_moments_go_on_exactly() -> None:
    whole, half = model(), model()
    one, other = AdamW(whole, settings()), AdamW(half, settings())
    assert one.moments() == {}
    for step in range(1, 7):
        put_gradients(whole, step)
        one.step(0.01)
        if step <= 3:
            put_gradients(half, step)
            other.step(0.01)
    again = AdamW(half, settings())
    again.restore({name: moment.clone() for name, moment in other.moments().items()}, 3)
    for step in range(4, 7):
        put_gradients(half, step)
        again.step(0.01)
    assert same(whole, half)


def test_no_step_imports_torchs_compiler() -> None:
    code = ("import sys, torch\n"
            "from gpt2cli.model.gpt2 import GPT2\n"
            "from gpt2cli.training.config import TrainOptions, resolve\n"
            "from gpt2cli.training.optimizer import AdamW\n"
            "c = resolve(TrainOptions(layers=1, embd=16, heads=1, context=8, batch_tokens=8, steps=1), n_vocab=9,\n"
            "            train_tokens=100, native_bf16=False)\n"
            "m = GPT2(c.shape)\n"
            "m.initialise(0)\n"
            "for p in m.parameters(): p.grad = torch.ones_like(p)\n"
            "AdamW(m, c).step(0.1)\n"
            "print('torch._dynamo' in sys.modules)\n")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"
