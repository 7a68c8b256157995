"""Branches of a WSD trunk: bit for bit the run that would have decayed there, and refusals where there is no trunk."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from in_process import gpt2_here  # noqa: F401  (a fixture)

from gpt2cli.errors import UsageFault
from gpt2cli.training.branch import branch_config
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
SETTINGS = ("--layers", 1, "--embd", 16, "--context", 32, "--batch-tokens", 256, "--dtype", "fp32", "--threads", 1,
            "--eval-tokens", 512, "--eval-every", 100, "--schedule", "wsd", "--warmup", 3)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def trunk(gpt2_here: Run, shard_directory: Path, tmp_path: Path) -> Path:  # noqa: F811
    gpt2_here("train", shard_directory, *SETTINGS, "--steps", 20, "--decay-tokens", 0, "--checkpoint-every", 8,
              "--keep", 9, "-o", tmp_path / "trunk", check=True)
    return tmp_path / "trunk"


def state(run: Path, step: int) -> dict[str, bytes]:
    place = run / "checkpoints" / f"step-{step:08d}"
    return {name: (place / name).read_bytes() for name in ("model.safetensors", "training/optimizer.safetensors")}


def records(run: Path, kind: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    return [line for line in lines if line["schema"].startswith(f"{kind}/")]


def test_a_branch_is_the_run_that_decays_there(
    gpt2_here: Run, shard_directory: Path, trunk: Path, tmp_path: Path  # noqa: F811
) -> None:
    assert {record["lr_phase"] for record in records(trunk, "gpt2.step")} == {"warmup", "stable"}
    assert records(trunk, "gpt2.eval")[-1]["lr_phase"] == "stable", "a trunk's end is not a decayed one"
    branch, whole = tmp_path / "branch", tmp_path / "whole"
    command = ("train", shard_directory, "--branch-from", trunk, "--at", 8, "--decay-tokens", 1000, "--threads", 1,
               "--checkpoint-every", 2, "-o", branch)
    assert gpt2_here(*command, "--max-time", 1e-9).returncode == 75
    assert b"going on after step 9 of 12" in gpt2_here(*command, check=True).stderr
    gpt2_here("train", shard_directory, *SETTINGS, "--steps", 12, "--decay-tokens", 1000, "-o", whole, check=True)
    assert state(branch, 12) == state(whole, 12)
    assert [step["loss_nats"] for step in records(branch, "gpt2.step")] == [
        step["loss_nats"] for step in records(whole, "gpt2.step")[8:]]
    end, expected = records(branch, "gpt2.eval")[-1], records(whole, "gpt2.eval")[-1]
    assert end["lr_phase"] == "done"
    assert {name: end[name] for name in end if name != "run"} == {name: expected[name] for name in end if name != "run"}
    parent = json.loads((trunk / "run.json").read_text())["run"]
    found = json.loads((branch / "run.json").read_text())
    assert (found["parent_run"], found["parent_step"]) == (parent, 8)
    assert b"already done" in gpt2_here(*command, check=True).stderr
    other = gpt2_here(*("16" if word == 8 else word for word in command))
    assert other.returncode == 2 and b"parent_step: 8 there, 16 asked" in other.stderr


def test_a_branch_of_bf16_weights_has_the_bits_of_the_run_that_decays_there(
    gpt2_here: Run, shard_directory: Path, tmp_path: Path  # noqa: F811
) -> None:
    trunk, branch, whole = (tmp_path / name for name in ("trunk", "branch", "whole"))
    narrow = ("train", shard_directory, *SETTINGS, "--dtype", "bf16", "--weights", "bf16", "--moments", "bf16")
    gpt2_here(*narrow, "--steps", 8, "--decay-tokens", 0, "--checkpoint-every", 4, "-o", trunk, check=True)
    gpt2_here("train", shard_directory, "--branch-from", trunk, "--at", 4, "--decay-tokens", 512, "--threads", 1,
              "-o", branch, check=True)
    gpt2_here(*narrow, "--steps", 6, "--decay-tokens", 512, "-o", whole, check=True)
    assert state(branch, 6) == state(whole, 6)
    assert json.loads((branch / "run.json").read_text())["config"]["weights"] == "bf16"


def test_refusals(gpt2_here: Run, shard_directory: Path, trunk: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "out"

    def refused(*words: object, status: int = 2) -> str:
        result = gpt2_here("train", shard_directory, *words, "-o", out)
        assert result.returncode == status and not (out / "run.json").exists()
        return result.stderr.decode()

    assert "keeps those of steps 8, 16, 20" in refused("--branch-from", trunk, "--at", 9)
    assert "is held from step 4 to 20" in refused("--branch-from", trunk, "--at", 2)
    assert "is held from step 4 to 20" in refused("--branch-from", trunk, "--at", 21)
    assert "leave out --embd and --lr" in refused("--branch-from", trunk, "--at", 8, "--lr", 1, "--embd", 16)
    assert "--decay-tokens more than 0" in refused("--branch-from", trunk, "--at", 8, "--decay-tokens", 0)
    assert "go together" in refused("--at", 8)
    assert "no run in it" in refused("--branch-from", tmp_path / "nowhere", "--at", 8)
    assert "goes with --schedule wsd" in refused(*SETTINGS[:6], "--batch-tokens", 256, "--decay-tokens", 256)
    assert "give less" in refused(*SETTINGS, "--steps", 10, "--decay-tokens", "1Mi")
    shutil.copytree(trunk, tmp_path / "damaged")
    weights = tmp_path / "damaged" / "checkpoints" / "step-00000008" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert "is damaged" in refused("--branch-from", tmp_path / "damaged", "--at", 8, status=65)
    run = json.loads((trunk / "run.json").read_text())
    run["config"]["schedule"] = "cosine"
    (trunk / "run.json").write_text(json.dumps(run))
    assert "only a run of --schedule wsd" in refused("--branch-from", trunk, "--at", 8)
    del run["config"]["lr"]
    (trunk / "run.json").write_text(json.dumps(run))
    assert "does not hold the configuration" in refused("--branch-from", trunk, "--at", 8, status=65)


def wsd(**options: object) -> TrainConfig:
    asked = {"layers": 1, "embd": 16, "context": 32, "batch_tokens": 256, "steps": 100, "schedule": "wsd", **options}
    return resolve(TrainOptions(**asked), n_vocab=512, train_tokens=50_000, native_bf16=False)  # type: ignore[arg-type]


def test_a_fifth_decays_unless_told_otherwise() -> None:
    trunk = wsd()
    assert (trunk.decay_steps, wsd(decay_tokens=1000).decay_steps, wsd(decay_tokens=0).last_phase) == (20, 4, "stable")
    branch = branch_config(trunk, 80, None, eval_every=7)
    assert (branch.steps, branch.decay_steps, branch.eval_every, branch.last_phase) == (100, 20, 7, "done")
    assert branch.learning_rate().at(80)[1] == "stable" and branch.learning_rate().at(81)[1] == "decay"
    assert branch_config(trunk, 80, 257).steps == 82
    with pytest.raises(UsageFault, match="there to decay"):
        branch_config(trunk, 80, 0)
