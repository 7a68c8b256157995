from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2cli.errors import Interrupted
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.tokens.order import data_order
from gpt2cli.training.batches import TrainingBatches
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.step import batch_gradient, clip_gradient

CPU = torch.device("cpu")


class Stream:
    """Bigram-like tokens in memory: something that can be learned."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        steps = rng.integers(0, 4, 20_000).cumsum() % 97
        self.ids = steps.astype(np.uint16)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.ids[start:stop]


def config(**options: object) -> TrainConfig:
    asked = {"layers": 2, "embd": 32, "heads": 2, "context": 32, "batch_tokens": 256, "steps": 50, "lr": 1e-2}
    return resolve(TrainOptions(**{**asked, **options}), n_vocab=97, train_tokens=20_000, native_bf16=False)  # type: ignore[arg-type]


def started(settings: TrainConfig) -> tuple[GPT2, AdamW, TrainingBatches]:
    model = GPT2(settings.shape, settings.dropout)
    model.initialise(settings.seed)
    batches = TrainingBatches(Stream(), n_ctx=settings.n_ctx, batch=settings.batch,
                              micro_batch=settings.micro_batch, seed=settings.seed, device=CPU)
    return model.train(), AdamW(model, settings), batches


def losses(settings: TrainConfig, steps: int) -> list[float]:
    model, optimizer, batches = started(settings)
    out = []
    for step in range(1, steps + 1):
        loss = batch_gradient(model, batches, step, settings, lambda tokens, nll: False)
        clip_gradient(model, settings.clip)
        optimizer.step(settings.learning_rate().at(step)[0])
        out.append(loss)
    return out


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batch_changes_memory_and_not_the_losses(micro_batch: int) -> None:
    assert losses(config(micro_batch=micro_batch), 10) == pytest.approx(losses(config(micro_batch=4), 10), rel=1e-5)


def test_it_learns_as_transformers_does_under_torchs_adamw() -> None:
    """Same data order, same initial weights, a plain loop: the same fifty losses."""
    settings = config()
    ours = losses(settings, 50)
    model, _, _ = started(settings)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=97, n_positions=32, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0,
                                        embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0))
    theirs.transformer.load_state_dict(model.state_dict())
    theirs.train()
    matrices = [p for n, p in theirs.named_parameters() if p.ndim == 2 and "wte" not in n and "wpe" not in n]
    others = [p for p in theirs.parameters() if all(p is not m for m in matrices)]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=1.0, betas=(0.9, 0.95), eps=1e-8)
    stream, reference = Stream(), []
    order = data_order(settings.seed, 20_000, 32)
    for step in range(1, 51):
        windows = order.windows((step - 1) * settings.batch, settings.batch)
        rows = torch.from_numpy(np.stack([stream.ids[i * 32 : i * 32 + 33] for i in windows]).astype(np.int64))
        logits = theirs(rows[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate().at(step)[0]
        optimizer.step()
        reference.append(loss.item())
    assert ours == pytest.approx(reference, abs=1e-4)
    assert ours[-1] < ours[0] - 1.0


def test_bf16_follows_fp32() -> None:
    assert losses(config(dtype="bf16"), 10) == pytest.approx(losses(config(dtype="fp32"), 10), abs=0.05)


def test_dropout_is_a_function_of_seed_and_step() -> None:
    settings = config(dropout=0.2)
    assert losses(settings, 5) == losses(settings, 5)
    assert losses(settings, 5) != losses(config(dropout=0.2, seed=1), 5)
    model, _, batches = started(settings)
    torch.manual_seed(123)
    first = batch_gradient(model, batches, 3, settings, lambda tokens, nll: False)
    torch.manual_seed(456)
    assert batch_gradient(model, batches, 3, settings, lambda tokens, nll: False) == first


def test_a_wish_to_stop_is_obeyed_within_one_micro_batch() -> None:
    settings = config(micro_batch=1)
    model, _, batches = started(settings)
    seen: list[int] = []
    with pytest.raises(Interrupted):
        batch_gradient(model, batches, 1, settings, lambda tokens, nll: seen.append(tokens) or len(seen) == 2)
    assert seen == [32, 64]
    assert all(p.grad is None for p in model.parameters())
