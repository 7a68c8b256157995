"""gpt2 train by several ranks against gpt2 train by one: the same losses, the same files, the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment
from rank_processes import free_port
from rank_runs import TINY, Ended, ended, files, last_files, records, started, trained, wait_for_step


@pytest.fixture
def train(shard_directory: Path, tmp_path: Path) -> Callable[..., Ended]:
    """trained() on `shard_directory` in a run directory of that name."""
    def run(world: int, name: str, *options: object, check: bool = True) -> Ended:
        return trained(world, shard_directory, tmp_path / name, *options, check=check)

    return run


def test_two_and_three_ranks_train_as_one_does(train: Callable[..., Ended], tmp_path: Path) -> None:
    alone = train(1, "one", "--steps", 20, "--eval-every", 7, "--noise-every", 5)
    expected = {kind: records(tmp_path / "one", kind) for kind in ("gpt2.step", "gpt2.eval")}
    for world in (2, 3):
        run = tmp_path / f"by{world}"
        end = train(world, run.name, "--steps", 20, "--eval-every", 7, "--noise-every", 5)
        for kind, key, tolerance in (("gpt2.step", "loss_nats", 1e-5), ("gpt2.step", "grad_norm", 1e-3),
                                     ("gpt2.eval", "nll_nats_per_token", 1e-5)):
            ours = [record[key] for record in records(run, kind)]
            assert ours == pytest.approx([record[key] for record in expected[kind]], rel=tolerance)
        noise = [record.get("grad_sq_small") for record in records(run, "gpt2.step")]
        assert noise[:4] == [None] * 4
        assert noise[4] == pytest.approx(expected["gpt2.step"][4]["grad_sq_small"], rel=1e-4)
        assert end.out[1:] == [b""] * (world - 1) and end.err[1:] == [""] * (world - 1)
        assert end.out[0].splitlines()[:-1] == (run / "metrics.jsonl").read_bytes().splitlines()
        assert files(run).keys() == files(tmp_path / "one").keys()
        assert f"cpu by {world} ranks" in end.err[0]
    assert "on cpu;" in alone.err[0]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_to_one_rank_stops_all_at_the_same_step_and_the_same_command_goes_on(
    number: int, status: int, train: Callable[..., Ended], shard_directory: Path, tmp_path: Path
) -> None:
    options = ("--steps", 100, "--eval-every", 100, "--checkpoint-every", 100, "--deterministic")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(2, "whole", *options)
    with started(2, ("train", shard_directory, *TINY, "-o", parts, *options), tmp_path / "streams") as pids:
        wait_for_step(parts, 3)
        os.kill(pids[1], number)
        end = ended(pids, tmp_path / "streams")
    assert end.statuses[1] == status and end.statuses[0] < 0
    (line,) = [line for line in end.err[0].splitlines() if "stopped" in line]
    assert "gpt2: stopped by a signal after step " in line and "; the same command goes on from there" in line
    assert end.err[1] == ""
    (checkpoint,) = (parts / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{len(records(parts, 'gpt2.step')):08d}"
    train(2, "parts", *options)
    assert last_files(parts) == last_files(whole)


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_all_with_one_sentence_and_the_same_command_goes_on(
    train: Callable[..., Ended], shard_directory: Path, tmp_path: Path
) -> None:
    options = ("--steps", 60, "--deterministic")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(2, "whole", *options)
    for victim, survivor in ((1, 0), (0, 1)):
        before = len(records(parts, "gpt2.step")) if parts.exists() else 0
        with started(2, ("train", shard_directory, *TINY, "-o", parts, *options), tmp_path / "streams") as pids:
            wait_for_step(parts, before + 3)
            os.kill(pids[victim], signal.SIGKILL)
            end = ended(pids, tmp_path / "streams")
        assert (end.statuses[victim], end.statuses[survivor]) == (-signal.SIGKILL, 75)
        lines = [line for err in end.err for line in err.splitlines() if "lost contact" in line]
        assert len(lines) == 1 and "gpt2 train: lost contact with another of the 2 ranks" in lines[0]
        assert "Traceback" not in "".join(end.err)
        assert "; the same command goes on" in lines[0]
    train(2, "parts", *options)
    assert last_files(parts) == last_files(whole)


def test_a_file_that_only_the_leader_cannot_write_ends_all_ranks_with_its_status(
    train: Callable[..., Ended], tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("a file where the run should be")
    end = train(2, "run", "--steps", 4, check=False)
    assert end.statuses == [2, 2]
    assert len(end.err[0].splitlines()) == 1 and end.err[1] == ""


@pytest.mark.parametrize(("options", "status", "said"), [
    (("--steps", "many"), 2, "'many'"),
    (("--device", "mps"), 2, "mps"),
    (("--steps", 4, "--micro-batch", 16), 2, "a batch of 1 micro-batch is none for each of 2 ranks"),
])
def test_what_is_refused_is_refused_once(
    options: tuple[object, ...], status: int, said: str, train: Callable[..., Ended]
) -> None:
    end = train(2, "run", *options, check=False)
    assert end.statuses == [status, status]
    (line,) = end.err[0].splitlines()
    assert said in line and end.err[1] == "" and end.out == [b"", b""]


def test_max_time_ends_all_ranks_with_75(train: Callable[..., Ended], tmp_path: Path) -> None:
    end = train(2, "run", "--steps", 30, "--max-time", 0.001, check=False)
    assert end.statuses == [75, 75] and end.err[1] == ""
    assert "seconds are over after step 1 of 30" in end.err[0]


def test_one_two_four_and_eight_ranks_leave_the_same_bits(train: Callable[..., Ended], tmp_path: Path) -> None:
    """Eleven micro-batches a step: trees of 5 + 6, of 2 + 3 + 3 + 3 and so on, the last micro-batch a short one."""
    options = ("--context", 32, "--steps", 8, "--eval-every", 5, "--noise-every", 4, "--dropout", 0.1,
               "--deterministic")
    for world in (1, 2, 4, 8):
        train(world, f"by{world}", *options)
    assert all(files(tmp_path / "by1") == files(tmp_path / f"by{world}") for world in (2, 4, 8))


def test_ranks_of_bf16_weights_train_as_one_does_and_deterministic_ones_to_the_bit(
    train: Callable[..., Ended], tmp_path: Path
) -> None:
    narrow = ("--dtype", "bf16", "--weights", "bf16", "--steps", 6)
    for world in (1, 2):
        train(world, f"by{world}", *narrow, "--deterministic")
    assert files(tmp_path / "by1") == files(tmp_path / "by2")
    train(2, "plain", *narrow)
    ours, expected = ([record["loss_nats"] for record in records(tmp_path / name, "gpt2.step")]
                      for name in ("plain", "by1"))
    assert ours == pytest.approx(expected, rel=1e-3)


def test_bf16_weights_of_a_divided_model_are_refused_once(train: Callable[..., Ended]) -> None:
    end = train(2, "run", "--dtype", "bf16", "--weights", "bf16", "--parallel", "fsdp", check=False)
    assert end.statuses == [2, 2] and end.err[1] == ""
    assert "--weights bf16" in end.err[0] and "--parallel" in end.err[0]


@pytest.mark.slow
def test_a_deterministic_run_goes_on_with_another_number_of_ranks_to_the_same_bits(
    train: Callable[..., Ended], tmp_path: Path
) -> None:
    options = ("--steps", 12, "--deterministic")
    train(1, "whole", *options)
    said = ""
    for world in (4, 1, 2):
        end = train(world, "parts", *options, "--max-time", 0.001, check=False)
        assert end.statuses == [75] * world
        said += "".join(end.err)
    train(2, "parts", *options)
    assert last_files(tmp_path / "parts") == last_files(tmp_path / "whole")
    assert "bits may differ" not in said


def test_any_run_goes_on_with_another_number_of_ranks_and_says_that_bits_may_differ(
    train: Callable[..., Ended], tmp_path: Path
) -> None:
    train(1, "whole", "--steps", 8)
    train(2, "parts", "--steps", 8, "--max-time", 0.001, check=False)
    on = train(1, "parts", "--steps", 8)
    assert "bits may differ: the checkpoint was written with 1 threads on each of 2 ranks on cpu" in on.err[0]
    losses = [[record["loss_nats"] for record in records(tmp_path / name, "gpt2.step")] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_deterministic_on_three_ranks_is_refused(train: Callable[..., Ended]) -> None:
    end = train(3, "run", "--steps", 4, "--deterministic", check=False)
    assert end.statuses == [2, 2, 2]
    assert "--deterministic sums by a binary tree: that takes 1, 2, 4, 8 ... ranks, not 3" in end.err[0]


@pytest.mark.slow
def test_torchrun_begins_again_when_a_rank_dies(shard_directory: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "--max-restarts", 1,
               "--master-addr", "127.0.0.1", "--master-port", free_port(), "-m", "gpt2cli", "train", shard_directory,
               *TINY, "--steps", 60, "--checkpoint-every", 10, "--deterministic", "-o", run]
    torchrun = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                env=clean_environment(GLOO_SOCKET_IFNAME="lo", PYTHONPATH=str(ROOT)))
    wait_for_step(run, 12)
    leader = int((run / "lock").read_text())
    os.kill(leader, signal.SIGKILL)
    _, said = torchrun.communicate(timeout=200)
    assert torchrun.returncode == 0, said
    assert sum("lost contact with another of the 2 ranks" in line for line in said.splitlines()) <= 1
    (line,) = [line for line in said.splitlines() if "going on after step " in line]
    assert int(line.split("after step ")[1].split()[0]) >= 10
    assert len(records(run, "gpt2.step")) == 60 and (run / "manifest.json").is_file()


@pytest.mark.slow
def test_torchrun_that_is_told_to_stop_stops_all_with_their_state_saved(shard_directory: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2,
               "--master-addr", "127.0.0.1", "--master-port", free_port(), "-m", "gpt2cli", "train", shard_directory,
               *TINY, "--steps", 4000, "--checkpoint-every", 4000, "--eval-every", 4000, "-o", run]
    torchrun = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                start_new_session=True,
                                env=clean_environment(GLOO_SOCKET_IFNAME="lo", PYTHONPATH=str(ROOT)))
    wait_for_step(run, 5)
    os.killpg(torchrun.pid, signal.SIGINT)  # as a terminal does: to torchrun, which passes it on, and to the ranks
    _, said = torchrun.communicate(timeout=200)
    assert torchrun.returncode != 0
    assert sum("stopped by a signal after step " in line for line in said.splitlines()) == 1, said
    assert [path.name for path in (run / "checkpoints").iterdir()] == [
        f"step-{len(records(run, 'gpt2.step')):08d}"]
