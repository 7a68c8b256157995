"""gpt2 train by several ranks against gpt2 train by one: the same losses, the same files, the same end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, clean_environment
from rank_processes import free_port, start_rank, store_that_outlives_ranks
from safetensors.torch import load_file

from gpt2cli.cli import main

TINY = ("--layers", 2, "--embd", 32, "--heads", 2, "--context", 64, "--batch-tokens", 1024, "--micro-batch", 3,
        "--dtype", "fp32", "--threads", 1, "--lr", 1e-2)


class Ended:
    """How every rank of a command ended, and what it said."""

    def __init__(self, directory: Path, statuses: list[int]) -> None:
        self.statuses = statuses
        ranks = range(len(statuses))
        self.out = [(directory / f"stdout-{rank}").read_bytes() for rank in ranks]
        self.err = [(directory / f"stderr-{rank}").read_text() for rank in ranks]


@contextlib.contextmanager
def started(world: int, arguments: tuple[object, ...], directory: Path) -> Iterator[list[int]]:
    """Yield the process ids of the ranks of a command, whose streams go to `directory`."""
    def body() -> int:
        sys.argv = ["gpt2", *map(str, arguments)]
        try:
            main.entry()
        except SystemExit as stop:
            return int(stop.code or 0)

    directory.mkdir(exist_ok=True)
    port = free_port()
    with store_that_outlives_ranks(
            port, lambda: [start_rank(body, rank, world, port, directory) for rank in range(world)]) as pids:
        yield pids


def ended(pids: list[int], directory: Path) -> Ended:
    """Wait for all ranks."""
    return Ended(directory, [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])


@pytest.fixture
def train(shard_directory: Path, tmp_path: Path) -> Callable[..., Ended]:
    """Train on so many ranks, to the end; check=True: every rank ends with 0."""
    def run(world: int, name: str, *options: object, check: bool = True) -> Ended:
        arguments = ("train", shard_directory, *TINY, "-o", tmp_path / name, *options)
        streams = tmp_path / f"{name}-streams"
        with started(world, arguments, streams) as pids:
            found = ended(pids, streams)
        assert not check or found.statuses == [0] * world, found.err
        return found

    return run


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    return [line for line in lines if line["schema"].startswith(f"{kind}/")]


def files(run: Path) -> dict[str, bytes]:
    """All that a run leaves, but what has a clock or a process id in it."""
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*")
            if path.is_file() and path.name not in ("perf.jsonl", "lock")}


def last_files(run: Path) -> dict[str, bytes]:
    """files(), and of the checkpoints the last alone: where a run was stopped there is one more."""
    last = max(path.name for path in (run / "checkpoints").iterdir())
    return {name: data for name, data in files(run).items()
            if not name.startswith("checkpoints/") or name.startswith(f"checkpoints/{last}/")}


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


def wait_for_step(run: Path, step: int) -> None:
    """Return once the metrics have a step from `step` on."""
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").is_file() or len(records(run, "gpt2.step")) < step:
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
    assert end.statuses == [74, 74]
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


def test_one_two_and_four_ranks_leave_the_same_bits(train: Callable[..., Ended], tmp_path: Path) -> None:
    """TINY has six micro-batches a step: trees of 3 + 3 and of 1 + 2 + 1 + 2, the last micro-batch a short one."""
    options = ("--steps", 12, "--eval-every", 5, "--noise-every", 4, "--dropout", 0.1, "--deterministic")
    for world in (1, 2, 4):
        train(world, f"by{world}", *options)
    assert files(tmp_path / "by1") == files(tmp_path / "by2") == files(tmp_path / "by4")


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


SLOW = pytest.mark.slow
MODES = [(2, "fsdp"), pytest.param(3, "fsdp", marks=SLOW), (2, "tp=2"), pytest.param(4, "tp=2", marks=SLOW)]


@pytest.mark.parametrize(("world", "how"), MODES)
def test_a_divided_model_trains_as_a_whole_one_does_and_leaves_the_same_files(
    world: int, how: str, train: Callable[..., Ended], tmp_path: Path
) -> None:
    options = ("--steps", 20, "--eval-every", 7, "--micro-batch", 4 if world != 3 else 6)
    train(1, "one", *options)
    end = train(world, "by", *options, "--parallel", how)
    for kind, key, tolerance in (("gpt2.step", "loss_nats", 1e-5), ("gpt2.step", "grad_norm", 1e-3),
                                 ("gpt2.eval", "nll_nats_per_token", 1e-5)):
        ours, expected = ([record[key] for record in records(tmp_path / name, kind)] for name in ("by", "one"))
        assert ours == pytest.approx(expected, rel=tolerance)
    assert files(tmp_path / "by").keys() == files(tmp_path / "one").keys()
    for name in ("model.safetensors", "training/optimizer.safetensors"):
        ours, whole = (load_file(tmp_path / run / "checkpoints" / "step-00000020" / name) for run in ("by", "one"))
        assert {key: (t.shape, t.dtype) for key, t in ours.items()} == {key: (t.shape, t.dtype)
                                                                       for key, t in whole.items()}
        assert all((ours[key] - whole[key]).norm() <= 0.05 * whole[key].norm() + 1e-6 for key in whole)
        # the bias of keys has no gradient but rounding's, of which Adam makes steps all the same
    assert end.err[1:] == [""] * (world - 1)


@pytest.mark.slow
def test_a_divided_run_goes_on_with_other_ranks_and_other_divisions(
    train: Callable[..., Ended], tmp_path: Path
) -> None:
    options = ("--steps", 12, "--micro-batch", 4)
    train(1, "whole", *options)
    for world, how in ((2, "fsdp"), (4, "tp=2"), (1, None), (2, "tp=2")):
        divided = () if how is None else ("--parallel", how)
        end = train(world, "parts", *options, *divided, "--max-time", 0.001, check=False)
        assert end.statuses == [75] * world
    train(2, "parts", *options, "--parallel", "fsdp")
    losses = [[record["loss_nats"] for record in records(tmp_path / name, "gpt2.step")] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fsdp", "tp=2"])
def test_a_divided_run_stops_at_a_signal_and_when_a_rank_dies(
    how: str, train: Callable[..., Ended], shard_directory: Path, tmp_path: Path
) -> None:
    options = ("--steps", 100, "--eval-every", 100, "--checkpoint-every", 100, "--micro-batch", 4, "--parallel", how)
    run = tmp_path / "run"
    for number, statuses, said in ((signal.SIGTERM, None, "stopped by a signal after step "),
                                   (signal.SIGKILL, [75, -9], "lost contact with another of the 2 ranks")):
        before = len(records(run, "gpt2.step")) if run.exists() else 0
        with started(2, ("train", shard_directory, *TINY, "-o", run, *options), tmp_path / "streams") as pids:
            wait_for_step(run, before + 3)
            os.kill(pids[1], number)
            end = ended(pids, tmp_path / "streams")
        assert sum(said in err for err in end.err) == 1 and "Traceback" not in "".join(end.err)
        if statuses is None:
            assert end.statuses[1] == -number and end.statuses[0] < 0
            assert [path.name for path in (run / "checkpoints").iterdir()] == [
                f"step-{len(records(run, 'gpt2.step')):08d}"]
        else:
            assert end.statuses == statuses


@pytest.mark.parametrize(("world", "options", "said"), [
    (2, ("--parallel", "pp=2"), "no --parallel 'pp=2'; there are fsdp and tp=N"),
    (2, ("--parallel", "tp=x"), "no --parallel 'tp=x'"),
    (1, ("--parallel", "fsdp"), "--parallel fsdp divides a model among ranks, and this process is alone"),
    (2, ("--parallel", "tp=4"), "--parallel tp=4 takes a multiple of 4 ranks, not 2"),
    (3, ("--parallel", "tp=3"), "--parallel tp=3 splits the heads, and 2 cannot be divided so"),
    (2, ("--parallel", "tp=2", "--heads", 2, "--dropout", 0.1), "--parallel tp=2 does not go with --dropout"),
    (2, ("--parallel", "fsdp", "--deterministic"), "--deterministic sums whole gradients"),
    (2, ("--parallel", "fsdp", "--noise-every", 2), "--noise-every needs whole gradients"),
    (4, ("--parallel", "fsdp"), "a batch of 6 cannot be divided so: give another --micro-batch"),
])
def test_a_division_that_cannot_be_is_refused_once(
    world: int, options: tuple[object, ...], said: str, train: Callable[..., Ended]
) -> None:
    end = train(world, "run", "--steps", 4, *options, check=False)
    assert end.statuses == [2] * world
    (line,) = "".join(end.err).splitlines()
    assert said in line


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
