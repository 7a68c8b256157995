"""Memory that runs out inside a run: its micro-batches halve, and a resumed run goes on with the smaller ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, clean_environment
from rank_runs import trained
from runs_here import outcome, plan_of, records_of, train_through_stops

from gpt2cli.errors import Gpt2Error, OutOfMemory, allocations_told, is_out_of_memory
from gpt2cli.reporter import Silent
from gpt2cli.training import step as step_module
from gpt2cli.training import trainer as trainer_module
from gpt2cli.training import validation as validation_module
from gpt2cli.training.trainer import train

EIGHT = {"batch_tokens": 256, "micro_batch": 8, "dropout": 0.1, "seed": 3}
"""Eight sequences a step, computed at once."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def fail() -> None:
    """Ask torch for what no machine has."""
    torch.empty(1 << 60)


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Let a micro-batch of more than so many sequences fail once its gradient is half there; return all sizes tried."""
    def limit(most: int, after: int = 0) -> list[int]:
        real, tried = step_module.micro_batch_gradient, list[int]()

        def limited(model: Any, inputs: torch.Tensor, *others: Any) -> torch.Tensor:
            nll = real(model, inputs, *others)
            tried.append(len(inputs))
            if len(inputs) > most and len(tried) > after:
                next(model.parameters()).grad.fill_(1e9)
                fail()
            return nll

        monkeypatch.setattr(step_module, "micro_batch_gradient", limited)
        return tried

    return limit


def losses(run: Path) -> list[float]:
    return [record["loss_nats"] for record in records_of(run, "gpt2.step")]


def test_what_libraries_say_is_known_and_holds_no_memory() -> None:
    with pytest.raises(OutOfMemory, match=r"^out of memory \(4611686018427387904 bytes were asked for\)$") as error, \
            allocations_told():
        fail()
    assert error.value.__cause__ is not None and error.value.__cause__.__traceback__ is None
    for other in (MemoryError(), RuntimeError("std::bad_alloc"), OSError(12, "Cannot allocate memory"),
                  torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
                  RuntimeError("can't start new thread"), RuntimeError("could not create a primitive")):
        assert is_out_of_memory(other)
    for other in (RuntimeError("shapes differ"), OSError(28, "No space left"), ValueError("out of memory")):
        assert not is_out_of_memory(other)
        with pytest.raises(type(other)), allocations_told():
            raise other


def test_micro_batches_halve_until_they_fit_and_the_run_is_that_of_the_smaller_ones(
    shard_directory: Path, tmp_path: Path, memory_for: Callable[..., list[int]]
) -> None:
    train(plan_of(shard_directory, tmp_path / "two", **{**EIGHT, "micro_batch": 2}), Silent())
    tried, reporter, run = memory_for(2), Silent(), tmp_path / "run"
    train(plan_of(shard_directory, run, **EIGHT), reporter)
    assert tried[:4] == [8, 4, 2, 2] and set(tried[2:]) == {2}
    assert losses(run) == losses(tmp_path / "two")
    weights = [outcome(at)["model.safetensors"] for at in (run, tmp_path / "two")]
    assert weights[0] == weights[1], "the same as if the smaller ones had been asked for: no half gradient, same masks"
    assert [record["config"]["micro_batch"] for record in records_of(run, "gpt2.run")] == [8, 4, 2]
    assert [record["config"]["batch_tokens"] for record in records_of(run, "gpt2.run")] == [256] * 3
    assert json.loads((run / "run.json").read_text())["config"]["micro_batch"] == 8, "what was asked for"
    first, second = reporter.warnings
    assert re.match(r"out of memory \(.*\) after step 0: on with micro-batches of 4 sequences in place of 8; ", first)
    assert "of 2 sequences in place of 4" in second and "bits are no longer" in second


@pytest.mark.parametrize("options", [{}, {"dtype": "bf16", "weights": "bf16"}, {"deterministic": True}],
                         ids=["plain", "bf16 weights", "deterministic"])
def test_a_step_that_fails_in_its_middle_begins_again_and_earlier_steps_stand(
    shard_directory: Path, tmp_path: Path, memory_for: Callable[..., list[int]], options: dict[str, Any]
) -> None:
    asked = {**EIGHT, "batch_tokens": 512, "steps": 6, **options}
    train(plan_of(shard_directory, tmp_path / "whole", **asked), Silent())
    run = tmp_path / "run"
    memory_for(4, after=1 + 2 * 2 + 1)  # one is timed before, then two steps of two, then the first half of the third
    train(plan_of(shard_directory, run, **asked), Silent())
    assert losses(run)[:2] == losses(tmp_path / "whole")[:2]
    assert losses(run) == pytest.approx(losses(tmp_path / "whole"), rel=0.02)
    assert losses(run)[2:] != losses(tmp_path / "whole")[2:], "dropout draws by the micro-batch"
    kinds = [json.loads(line)["schema"] for line in (run / "metrics.jsonl").read_text().splitlines()[:5]]
    assert kinds == ["gpt2.run/1", "gpt2.step/1", "gpt2.step/1", "gpt2.run/1", "gpt2.step/1"]


def test_a_resumed_run_goes_on_with_the_smaller_micro_batch_to_the_same_bits(
    shard_directory: Path, tmp_path: Path, memory_for: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(4)
    train(plan_of(shard_directory, tmp_path / "whole", **EIGHT), Silent())
    parts = tmp_path / "parts"
    _, stops = train_through_stops(lambda: plan_of(shard_directory, parts, **EIGHT), 11)
    assert stops > 1 and outcome(parts) == outcome(tmp_path / "whole")
    (parts / "manifest.json").unlink()
    monkeypatch.undo()  # a machine that has the memory
    tried = memory_for(8)
    longer = {**EIGHT, "steps": 13}
    train(plan_of(shard_directory, parts, how={"override": True}, **longer), Silent())
    assert tried == [8, 8] and records_of(parts, "gpt2.run")[-1]["config"]["micro_batch"] == 8


def test_an_evaluation_that_lacks_memory_is_begun_again_too(
    shard_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = validation_module._hidden, list[int]()

    def limited(model: Any, dtype: str, inputs: torch.Tensor) -> torch.Tensor:
        tried.append(len(inputs))
        if len(inputs) > 2:
            fail()
        return real(model, dtype, inputs)

    train(plan_of(shard_directory, tmp_path / "whole", **EIGHT), Silent())
    monkeypatch.setattr(validation_module, "_hidden", limited)
    train(plan_of(shard_directory, tmp_path / "run", **EIGHT), Silent())
    assert tried[:3] == [8, 4, 2]
    scores = [[record["nll_nats_per_token"] for record in records_of(tmp_path / name, "gpt2.eval")]
              for name in ("whole", "run")]
    assert scores[0][0] == pytest.approx(scores[1][0], rel=1e-6)


def test_where_one_sequence_lacks_memory_the_state_is_saved_and_one_sentence_said(
    shard_directory: Path, tmp_path: Path, memory_for: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(plan_of(shard_directory, tmp_path / "whole", **{**EIGHT, "micro_batch": 1}), Silent())
    run, one = tmp_path / "run", {**EIGHT, "micro_batch": 1}
    memory_for(0, after=1 + 2 * 8 + 3)
    with pytest.raises(Gpt2Error) as error:
        train(plan_of(shard_directory, run, **one), Silent())
    assert error.value.status == 1 and not isinstance(error.value, OutOfMemory)
    assert re.search(r"for a micro-batch of one sequence; .*--weights bf16.* needs less; stopped after step 2 of 12; "
                     r"the same command goes on from there$", str(error.value))
    monkeypatch.undo()
    train(plan_of(shard_directory, run, **one), Silent())
    assert outcome(run) == outcome(tmp_path / "whole")


def test_memory_that_no_smaller_micro_batch_frees_ends_the_run_in_a_sentence(
    shard_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "clip_gradient", lambda *_: fail())
    with pytest.raises(OutOfMemory, match=r"^out of memory .*; there is no checkpoint yet$") as error:
        train(plan_of(shard_directory, tmp_path / "run", **EIGHT), Silent())
    assert error.value.status == 1


def test_one_rank_that_lacks_memory_halves_the_micro_batches_of_all(
    shard_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--steps", 4, "--micro-batch", 4)
    trained(2, shard_directory, tmp_path / "two", *options[:2], "--micro-batch", 2)
    second_rank_has_memory_for(2, monkeypatch)
    end = trained(2, shard_directory, tmp_path / "run", *options)
    (said,) = [line for line in end.err[0].splitlines() if "out of memory" in line]
    assert "out of memory on another rank after step 0: on with micro-batches of 2 sequences in place of 4" in said
    assert end.err[1] == "" and losses(tmp_path / "run") == losses(tmp_path / "two")


@pytest.mark.slow
def test_one_part_of_a_divided_model_that_lacks_memory_ends_the_run_in_one_sentence(
    shard_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_rank_has_memory_for(2, monkeypatch)
    end = trained(2, shard_directory, tmp_path / "run", "--steps", 4, "--micro-batch", 4, "--parallel", "fsdp",
                  check=False)
    assert end.statuses == [1, 1]
    (said,) = [line for err in end.err for line in err.splitlines() if "memory" in line]
    assert said in end.err[1] and "gpt2 train: rank 1: out of memory (" in said and "Traceback" not in "".join(end.err)


def second_rank_has_memory_for(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = step_module.micro_batch_gradient

    def limited(model: Any, inputs: torch.Tensor, *others: Any) -> torch.Tensor:
        if os.environ.get("RANK") == "1" and len(inputs) > most:
            fail()
        return real(model, inputs, *others)

    monkeypatch.setattr(step_module, "micro_batch_gradient", limited)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "mib"), [
    (("--dtype", "fp32"), 250), (("--dtype", "bf16"), 150), (("--dtype", "bf16", "--weights", "bf16"), 200),
], ids=["fp32", "bf16", "bf16 weights"])
def test_under_a_limit_of_address_space_a_run_finds_the_micro_batch_that_fits(
    shard_directory: Path, tmp_path: Path, options: tuple[str, ...], mib: int
) -> None:
    """ulimit -v, set once everything is loaded, to so many MiB more than that."""
    run = tmp_path / "run"
    program = ("import resource, sys\nfrom gpt2cli.training import trainer\nfrom gpt2cli.cli import main\n"
               "real = trainer.train\n"
               "def limited(plan, reporter):\n"
               "    size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
               f"    size += {mib} << 20\n"
               "    resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
               "    return real(plan, reporter)\n"
               "trainer.train = limited\nmain.entry()\n")
    command = [sys.executable, "-c", program, "train", shard_directory, "--layers", 2, "--embd", 64, "--context", 512,
               "--batch-tokens", 32768, "--micro-batch", 64, "--steps", 2, "--eval-tokens", 512, "-o", run, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=200,
                          env=clean_environment(PYTHONPATH=str(ROOT)))
    assert done.returncode == 0, done.stderr
    assert "on with micro-batches of 32 sequences in place of 64" in done.stderr
    sizes = [record["config"]["micro_batch"] for record in records_of(run, "gpt2.run")]
    assert sizes == [64 >> number for number in range(len(sizes))] and len(sizes) > 1 and len(losses(run)) == 2
