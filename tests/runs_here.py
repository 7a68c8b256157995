"""Tiny runs trained in the test's own process, that can be stopped at any poll and fed windows that spike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt2cli.errors import Interrupted
from gpt2cli.records.shard_set import load_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.tokens.vocabulary import vocabulary_from_canonical
from gpt2cli.training import step as step_module
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.trainer import TrainPlan, TrainSummary, train

SMALL = {"layers": 1, "embd": 16, "heads": 2, "context": 32, "batch_tokens": 128, "micro_batch": 1, "steps": 12,
         "lr": 1e-2, "dtype": "fp32", "eval_tokens": 256, "eval_every": 4, "checkpoint_every": 3}


class StopsAt(Silent):
    """Asks to stop at its `poll`-th poll (from 1), None: never."""

    def __init__(self, poll: int | None = None) -> None:
        super().__init__()
        self.poll, self.polls = poll, 0

    def stopping(self) -> bool:
        self.polls += 1
        return self.polls == self.poll


def plan_of(shards: Path, directory: Path, *, how: dict[str, Any] | None = None, **options: object) -> TrainPlan:
    """A plan of SMALL with `options` on one thread; `how` goes to TrainPlan."""
    found = load_shard_set(shards)
    config = config_of(shards, **options)
    assert found.vocabulary is not None
    return TrainPlan(config, found, vocabulary_from_canonical(found.vocabulary, "shards"), directory,
                     torch.device("cpu"), **(how or {}))


def config_of(shards: Path, **options: object) -> TrainConfig:
    """SMALL with `options` on these shards."""
    found = load_shard_set(shards)
    return resolve(TrainOptions(**{**SMALL, **options}), n_vocab=found.n_vocab,  # type: ignore[arg-type]
                   train_tokens=found.n_tokens("train"), native_bf16=False)


def train_through_stops(make: Callable[[], TrainPlan], every: int) -> tuple[TrainSummary, int]:
    """Train, stopped at every `every`-th poll and begun again until done; return the summary and how often."""
    stops = 0
    while True:
        try:
            return train(make(), StopsAt(every)), stops
        except Interrupted:
            stops += 1
            assert stops < 500


def records_of(run: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind in metrics.jsonl."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    return [line for line in lines if line["schema"].startswith(f"{kind}/")]


def outcome(run: Path) -> dict[str, bytes]:
    """Everything of a finished run that must come out the same again."""
    last = sorted((run / "checkpoints").iterdir())[-1]
    names = ("model.safetensors", "training/optimizer.safetensors", "training/state.json")
    return {name: (run / name).read_bytes() for name in ("run.json", "metrics.jsonl")} | {
        name: (last / name).read_bytes() for name in names}


def poison(patch: pytest.MonkeyPatch, rows: list[torch.Tensor], factor: float, *, loss: bool = True) -> None:
    """Multiply the gradients of every micro-batch that holds one of `rows` (T,) by `factor`, and its loss if `loss`."""
    real = step_module.micro_batch_gradient

    def poisoned(model: Any, inputs: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        nll = real(model, inputs, *others, **named)
        if not any(torch.equal(row, bad) for row in inputs for bad in rows):
            return nll
        for parameter in model.parameters():
            parameter.grad.mul_(factor)
        return nll * factor if loss else nll

    patch.setattr(step_module, "micro_batch_gradient", poisoned)
