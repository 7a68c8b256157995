"""Training over several buffers of the data order: damage met at the start and midway, other shards, an older order."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.shard_file import ShardFile
from gpt2cli.records.shard_set import load_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.tokens import order
from gpt2cli.tokens.pack import PackConfig, pack_shards
from gpt2cli.tokens.vocabulary import vocabulary_from_canonical
from gpt2cli.training.config import TrainOptions, resolve
from gpt2cli.training.trainer import TrainPlan, TrainSummary, train

STEPS = 40


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 windows, buffers of at most 128."""
    monkeypatch.setattr(order, "BLOCK_TOKENS", 16 * 32)
    monkeypatch.setattr(order, "BUFFER_BLOCKS", 8)
    monkeypatch.setattr(order.DataOrder.__init__, "__defaults__", (8,))


def run(shards: Path, directory: Path, **how: object) -> TrainSummary:
    found = load_shard_set(shards)
    options = TrainOptions(layers=1, embd=16, context=32, batch_tokens=512, steps=STEPS, checkpoint_every=1000, lr=1e-2,
                           dtype="fp32")
    config = resolve(options, n_vocab=found.n_vocab, train_tokens=found.n_tokens("train"), native_bf16=False)
    assert config.data_order == 2
    assert found.vocabulary is not None
    vocabulary = vocabulary_from_canonical(found.vocabulary, "shards")
    return train(TrainPlan(config, found, vocabulary, directory, torch.device("cpu"), **how), Silent())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def many_files(shard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in files of a single frame of some 3,000 tokens."""
    directory = tmp_path_factory.mktemp("many") / "shards"
    pack_shards([str(shard)], str(directory), PackConfig(val_fraction=0.1, shard_tokens=3000), Silent())
    return directory


@pytest.fixture
def shards(many_files: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(many_files, tmp_path / "shards"))


def test_damage_midway_is_named_the_state_saved_and_mending_it_leads_to_the_same_run(
    shards: Path, tmp_path: Path
) -> None:
    run(shards, tmp_path / "whole")
    found = load_shard_set(shards)
    rule = order.data_order(0, found.n_tokens("train"), 32)
    ends = np.cumsum([entry.tokens for entry in found.files("train")])
    first = {int(np.searchsorted(ends, at, "right")) for block in rule.buffer_at(0).blocks
             for at in range(int(block) * 512, min(int(block) * 512 + 513, len(found.open("train"))))}
    second = rule.buffer_at(rule.buffer_at(0).end).blocks * 512 + 100
    late = next(number for number in np.searchsorted(ends, second, "right").tolist() if number not in first)
    victim = shards / found.files("train")[late].name
    sound = victim.read_bytes()
    with ShardFile(victim) as file:
        frame = file.frames[0]
    damaged = bytearray(sound)
    damaged[frame.offset + frame.size // 2] ^= 8
    victim.write_bytes(damaged)
    before = set(threading.enumerate())
    with pytest.raises(BadInput) as error:
        run(shards, tmp_path / "run")
    assert f"{victim}: frame 0 at byte {frame.offset} is damaged" in str(error.value)
    steps = (tmp_path / "run" / "metrics.jsonl").read_bytes().count(b"gpt2.step/1")
    assert f"training stopped after step {steps} of {STEPS}; the same command goes on from there" in str(error.value)
    assert steps == rule.buffer_at(0).end // 16
    assert os.listdir(tmp_path / "run" / "checkpoints") == [f"step-{steps:08d}"]
    assert set(threading.enumerate()) <= before
    victim.write_bytes(sound)
    run(shards, tmp_path / "run")
    for name in ("metrics.jsonl", "manifest.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_of_the_older_order_is_told_so_and_changes_only_on_demand(shards: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    run(shards, directory)
    record = json.loads((directory / "run.json").read_text())
    del record["config"]["data_order"]  # as it was before there were versions
    (directory / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageFault, match="data_order: 1 there, 2 asked"):
        run(shards, directory)
    assert run(shards, directory, override=True).steps == STEPS


def test_no_thread_outlives_a_run(shards: Path, tmp_path: Path) -> None:
    before = threading.active_count()
    run(shards, tmp_path / "run")
    assert threading.active_count() == before


@pytest.mark.parametrize("where", ["header", "footer", "seek table"])
def test_damaged_structure_is_found_before_anything_is_written(shards: Path, tmp_path: Path, where: str) -> None:
    victim = sorted(shards.glob("train-*"))[-1]
    data = bytearray(victim.read_bytes())
    footer = data.rindex(b"gpt2.shard-footer/1")
    data[{"header": 60, "footer": footer + 40, "seek table": len(data) - 20}[where]] ^= 1
    victim.write_bytes(data)
    with pytest.raises(BadInput, match=f"{victim}.*{where}"):
        run(shards, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_its_tokenizer(shards: Path, tmp_path: Path) -> None:
    """Of a finished run too, and --override changes nothing; --force discards it."""
    directory = tmp_path / "run"
    run(shards, directory)
    record = json.loads((directory / "run.json").read_text())
    (directory / "run.json").write_text(json.dumps({**record, "tokenizer_sha256": "0" * 64}))
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.name != "lock"}
    for override in (False, True):
        with pytest.raises(UsageFault, match=f"sha256 {'0' * 12}.* is not that of"):
            run(shards, directory, override=override)
    assert before == {path: path.read_bytes() for path in before}
    assert not run(shards, directory, force=True).already_done
