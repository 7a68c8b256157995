"""Models in parts (--parallel) against one process with all of it: the same losses, norms and files, the same end."""

from __future__ import annotations

import importlib
import os
import signal
from pathlib import Path

import pytest
from rank_runs import TINY, ended, files, records, started, trained, wait_for_step
from safetensors.torch import load_file

OPTIONS = ("--layers", 3, "--lr", 3e-3, "--steps", 20, "--eval-every", 7, "--noise-every", 20, "--layers-every", 20)
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, shard_directory: Path) -> Path:
    """The run of one process."""
    for module in ("fsdp", "pipelining"):  # ranks are forks, which would import it each by themselves
        importlib.import_module(f"torch.distributed.{module}")
    run = tmp_path_factory.mktemp("alone") / "run"
    trained(1, shard_directory, run, *OPTIONS, "--micro-batch", 4)
    return run


@pytest.mark.parametrize(("world", "how"), [
    (2, "fsdp"), (2, "tp=2"), (2, "pp=2"),
    pytest.param(3, "fsdp", marks=SLOW), pytest.param(4, "pp=2", marks=SLOW),
])
def test_a_divided_model_trains_as_a_whole_one_does_and_leaves_the_same_files(
    world: int, how: str, alone: Path, shard_directory: Path, tmp_path: Path
) -> None:
    run = tmp_path / "by"
    end = trained(world, shard_directory, run, *OPTIONS, "--micro-batch", 6 if world == 3 else 4, "--parallel", how)
    for kind, key, tolerance in (("gpt2.step", "loss_nats", 1e-5), ("gpt2.step", "grad_norm", 1e-2),
                                 ("gpt2.eval", "nll_nats_per_token", 1e-5)):
        ours, expected = ([record[key] for record in records(at, kind)] for at in (run, alone))
        assert ours == pytest.approx(expected, rel=tolerance)
    noise, expected = ([record.get("grad_sq_small", 0.0) for record in records(at, "gpt2.step")] for at in (run, alone))
    assert sum(expected) > 0 and noise == pytest.approx(expected, rel=1e-2)
    for ours, whole in zip(records(run, "gpt2.layers"), records(alone, "gpt2.layers"), strict=True):
        assert ours["layers"].keys() == whole["layers"].keys()
        for layer, norms in whole["layers"].items():
            assert ours["layers"][layer] == pytest.approx(norms, rel=5e-2)
    assert files(run).keys() == files(alone).keys()
    for name in ("model.safetensors", "training/optimizer.safetensors"):
        mine, theirs = (load_file(at / "checkpoints" / "step-00000020" / name) for at in (run, alone))
        assert {key: (t.shape, t.dtype) for key, t in mine.items()} == {key: (t.shape, t.dtype)
                                                                       for key, t in theirs.items()}
        assert all((mine[key] - theirs[key]).norm() <= 0.05 * theirs[key].norm() + 1e-6 for key in theirs)
        # the bias of keys has no gradient but rounding's, of which Adam makes steps all the same
    assert end.err[1:] == [""] * (world - 1)


@SLOW
def test_a_divided_run_goes_on_with_other_ranks_and_other_divisions(
    alone: Path, shard_directory: Path, tmp_path: Path
) -> None:
    run, options = tmp_path / "parts", (*OPTIONS, "--micro-batch", 4)
    for world, how in ((4, "tp=2"), (4, "fsdp,tp=2"), (1, None), (3, "pp=3"), (4, "pp=2,tp=2")):
        divided = () if how is None else ("--parallel", how)
        end = trained(world, shard_directory, run, *options, *divided, "--max-time", 0.001, check=False)
        assert end.statuses == [75] * world, end.err
    trained(2, shard_directory, run, *options, "--parallel", "pp=2")
    ours, expected = ([record["loss_nats"] for record in records(at, "gpt2.step")] for at in (run, alone))
    assert ours == pytest.approx(expected, rel=1e-5)


@SLOW
@pytest.mark.parametrize("how", ["fsdp", "tp=2", "pp=2"])
def test_a_divided_run_stops_at_a_signal_and_when_a_rank_dies(
    how: str, shard_directory: Path, tmp_path: Path
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


def test_a_division_that_cannot_be_is_refused_once(shard_directory: Path, tmp_path: Path) -> None:
    end = trained(2, shard_directory, tmp_path / "run", "--steps", 4, "--parallel", "pp=2", "--micro-batch", 16,
                  check=False)
    assert end.statuses == [2, 2]
    (line,) = "".join(end.err).splitlines()
    assert "--parallel pp=2 keeps 2 stages busy with as many micro-batches, and there is 1" in line
