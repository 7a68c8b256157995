"""Two stages of a network beside the whole: one gradient, and an end in the middle of a schedule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_processes import on_ranks

from gpt2cli.errors import Interrupted
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.divided import divided
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.rendezvous import joined
from gpt2cli.training.step import micro_batch_gradient


def _config() -> TrainConfig:
    """24 micro-batches: more than go through two stages at once."""
    asked = TrainOptions(layers=3, embd=16, heads=2, context=8, batch_tokens=192, micro_batch=1, steps=2, dtype="fp32")
    return replace(resolve(asked, n_vocab=64, train_tokens=1 << 12, native_bf16=False), compile="off")


def _stages() -> dict[str, Any]:
    torch.set_num_threads(1)
    config = _config()
    rows = torch.randint(0, 64, (24, 9), generator=torch.Generator().manual_seed(1))
    micro_batches = [(row[:, :-1], row[:, 1:]) for row in rows.split(1)]
    with joined() as ranks:
        ranks = divided(ranks, "pp=2")
        model = ranks.build(config, torch.device("cpu"))
        optimizer = AdamW(model, config)
        whole = ranks.whole(model, optimizer, config)
        if whole is not None:
            whole[0].initialise(3)
        ranks.spread(whole, model, optimizer, 0)
        assert ranks.pipeline is not None
        seen: list[int] = []

        def stop_after_six(tokens: int, nll: float) -> bool:
            seen.append(tokens)
            return tokens == 48 and ranks.leader

        interrupted = False
        try:
            ranks.pipeline.gradient(micro_batches, 1.0, stop_after_six)
        except Interrupted:
            interrupted = True
        ranks.any(False)
        ranks.store.delete_key("gpt2/stop")
        ranks._next_poll = 0.0
        model.zero_grad()
        nlls = ranks.pipeline.gradient(micro_batches, 1.0, lambda tokens, nll: False)
        ranks.add_up([], False)
        norms = ranks.squared_norms({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        found: dict[str, Any] = {"interrupted": interrupted, "seen": seen, "nlls": nlls, "names": sorted(
            name for name, _ in model.named_parameters()), "tied": model.wte.weight.grad.double().sum().item()}
        if whole is not None:
            expected = [float(micro_batch_gradient(whole[0], *each, config, config.batch_tokens))
                        for each in micro_batches]
            assert torch.allclose(torch.tensor(nlls), torch.tensor(expected), rtol=1e-5)
            assert torch.allclose(model.wte.weight.grad, whole[0].wte.weight.grad, rtol=1e-4, atol=1e-7)
            for name, parameter in whole[0].named_parameters():
                assert norms[name] ** 0.5 == pytest.approx(float(parameter.grad.norm()), rel=1e-5, abs=1e-7)
        return found


def test_two_stages_compute_what_the_whole_does_and_stop_within_a_micro_batch(tmp_path: Path) -> None:
    last, first = on_ranks(2, _stages, tmp_path)
    assert last["interrupted"] and max(last["seen"]) < 192
    assert len(last["nlls"]) == 24 and first["nlls"] == []
    assert last["tied"] == first["tied"]
    assert set(last["names"]) & set(first["names"]) == {"wte.weight"}
    assert "wpe.weight" in first["names"] and "ln_f.weight" in last["names"]
