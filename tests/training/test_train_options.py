"""Options of gpt2 train that change how a step is computed or judged, from the command line to the run's files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from in_process import gpt2_here  # noqa: F401  (a fixture)
from runs_here import outcome, records_of

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
HOW = ("--layers", 2, "--embd", 16, "--context", 32, "--batch-tokens", 128, "--steps", 4, "--eval-tokens", 256,
       "--threads", 1, "-q")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_activation_checkpointing_changes_no_byte(
    gpt2_here: Run, shard_directory: Path, tmp_path: Path  # noqa: F811
) -> None:
    plain, lean = tmp_path / "plain", tmp_path / "lean"
    gpt2_here("train", shard_directory, *HOW, "--dropout", 0.1, "-o", plain, check=True)
    gpt2_here("train", shard_directory, *HOW, "--dropout", 0.1, "--activation-checkpointing", "-o", lean, check=True)
    assert outcome(lean) == outcome(plain)


def test_the_document_mask_is_recorded_and_another_run(
    gpt2_here: Run, shard_directory: Path, tmp_path: Path  # noqa: F811
) -> None:
    run = tmp_path / "run"
    gpt2_here("train", shard_directory, *HOW, "--doc-mask", "-o", run, check=True)
    assert records_of(run, "gpt2.eval")[-1]["protocol"]["doc_mask"] is True
    refused = gpt2_here("train", shard_directory, *HOW, "-o", run)
    assert refused.returncode == 2 and b"doc_mask: True there, False asked" in refused.stderr


def test_spikes_layers_and_fp16_by_their_options(
    gpt2_here: Run, shard_directory: Path, tmp_path: Path  # noqa: F811
) -> None:
    run = tmp_path / "run"
    options = ("--on-spike", "skip", "--spike-sigmas", 4, "--layers-every", 2, "--dtype", "fp16")
    gpt2_here("train", shard_directory, *HOW, *options, "-o", run, check=True)
    config = json.loads((run / "run.json").read_text())["config"]
    asked = {"on_spike": "skip", "spike_sigmas": 4, "layers_every": 2, "dtype": "fp16"}
    assert {name: config[name] for name in asked} == asked
    assert [record["step"] for record in records_of(run, "gpt2.layers")] == [2, 4]
    state = json.loads((run / "checkpoints/step-00000004/training/state.json").read_text())
    assert state["loss_scale"] == {"value": 65_536.0, "steps": 4} and len(state["spikes"]["losses"]) == 4
    for words in (("--spike-sigmas", 4), ("--keep", 1), ("--on-spike", "ignore")):
        assert gpt2_here("train", shard_directory, *HOW, *words, "-o", tmp_path / "other").returncode == 2, words
    assert not (tmp_path / "other").exists()


def test_a_branch_of_a_run_that_rolled_back_goes_on_with_the_batches_its_trunk_would_read(
    gpt2_here: Run, shard_directory: Path, tmp_path: Path  # noqa: F811
) -> None:
    trunk = tmp_path / "trunk"
    gpt2_here("train", shard_directory, *HOW, "--schedule", "wsd", "--decay-tokens", 0, "--warmup", 0,
              "--checkpoint-every", 2, "-o", trunk, check=True)
    refused = gpt2_here("train", shard_directory, "--branch-from", trunk, "--at", 2, "--init-from", trunk)
    assert refused.returncode == 2 and b"leave out --init-from" in refused.stderr
    checkpoint = trunk / "checkpoints" / "step-00000002"
    state = json.loads((checkpoint / "training/state.json").read_text())
    (checkpoint / "training/state.json").write_text(json.dumps({**state, "batches_left_out": 5}))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    from gpt2cli.records.checkpoint import list_files, write_manifest

    fields = {name: manifest[name] for name in ("run", "step", "tokens", "flops", "lr_phase")}
    write_manifest(checkpoint, "gpt2.checkpoint", fields, list_files(checkpoint))
    gpt2_here("train", shard_directory, "--branch-from", trunk, "--at", 2, "-q", "-o", tmp_path / "branch", check=True)
    (last,) = sorted((tmp_path / "branch" / "checkpoints").iterdir())[-1:]
    assert json.loads((last / "training/state.json").read_text())["batches_left_out"] == 5
