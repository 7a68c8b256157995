"""A run that does not fit the memory there is: computed again where that is enough, else refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from runs_here import config_of, outcome, plan_of

from gpt2cli.errors import Gpt2Error
from gpt2cli.records.shard_set import load_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.training import memory_choice
from gpt2cli.training.memory_choice import choose_recompute, reader_bytes
from gpt2cli.training.peak_estimate import peak_memory
from gpt2cli.training.process_memory import available_bytes, rss_bytes
from gpt2cli.training.ranks import ALONE
from gpt2cli.training.trainer import train

LARGE = {"layers": 12, "embd": 256, "heads": 4, "context": 256, "batch_tokens": 8192, "micro_batch": 32,
         "dtype": "bf16"}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say that so many bytes are available."""
    return lambda size: monkeypatch.setattr(memory_choice, "available_bytes", lambda: int(size))


def choice(shards: Path, asked: bool | None = None, device: str = "cpu", **options: object) -> tuple[bool, list[str]]:
    reporter = Silent()
    found = choose_recompute(config_of(shards, **{**LARGE, **options}), load_shard_set(shards), torch.device(device),
                             ALONE, asked, reporter)
    return found, reporter.notes


def need(shards: Path, recompute: bool, **options: object) -> int:
    return peak_memory(config_of(shards, **{**LARGE, **options}), reader_bytes(load_shard_set(shards)), recompute).total


def test_activations_are_computed_again_only_where_memory_is_short(shard_directory: Path, memory: Any) -> None:
    whole, again = need(shard_directory, False), need(shard_directory, True)
    assert again < 0.8 * whole
    memory(whole)
    assert choice(shard_directory) == (False, [])
    assert choice(shard_directory, asked=True) == (True, [])
    memory(whole - 1)
    chosen, (note,) = choice(shard_directory)
    assert chosen and "with --activation-checkpointing" in note
    assert f"about {whole / 2**30:.1f} GiB at the peak" in note


def test_what_does_not_fit_is_refused_with_the_options_that_would_do(shard_directory: Path, memory: Any) -> None:
    for changed in ({"micro_batch": 1}, {"weights": "bf16", "moments": "bf16", "micro_batch": 1}):
        memory(need(shard_directory, True, **changed))
        with pytest.raises(Gpt2Error) as refusal:
            choice(shard_directory)
        (named,) = re.findall(r"are available; (.*) would do", str(refusal.value))
        words = [f"--{name.replace('_', '-')} {value}" for name, value in changed.items()]
        assert set(re.findall(r"--\S+ \S+", named)) <= set(words) and "--micro-batch 1" in named
    memory(1 << 20)
    with pytest.raises(Gpt2Error, match=r"the least that it can do with is .* train a smaller model"):
        choice(shard_directory)
    memory(need(shard_directory, True))
    with pytest.raises(Gpt2Error, match="; --activation-checkpointing would do"):
        choice(shard_directory, asked=False)


def test_what_cannot_be_foretold_is_taken_to_fit(shard_directory: Path, memory: Any) -> None:
    memory(1)
    assert choice(shard_directory, device="meta") == (False, [])


def test_a_run_that_is_refused_leaves_nothing_that_stands_in_the_way(
    shard_directory: Path, tmp_path: Path, memory: Any
) -> None:
    run = tmp_path / "run"
    memory(1 << 20)
    with pytest.raises(Gpt2Error, match="training this takes about"):
        train(plan_of(shard_directory, run), Silent())
    assert [path.name for path in run.iterdir()] == ["lock"]
    memory(1 << 40)
    train(plan_of(shard_directory, run, moments="bf16"), Silent())
    before = outcome(run)
    memory(1 << 20)
    assert train(plan_of(shard_directory, run, moments="bf16"), Silent()).already_done
    assert outcome(run) == before


def test_the_system_tells_its_memory() -> None:
    found, held = available_bytes(), rss_bytes()
    if held is not None:
        assert found is not None and held < found < 1 << 50
