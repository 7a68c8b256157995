"""What a run survives: damaged checkpoints, a full disk, a second trainer, signals wherever they are looked for."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs_here import StopsAt, outcome, plan_of, records_of, train_through_stops

from gpt2cli.cli import signals
from gpt2cli.cli.console import Console
from gpt2cli.errors import BadInput, Gpt2Error, Interrupted, IOFailure, UsageFault
from gpt2cli.records.checkpoint import read_json, verify_checkpoint
from gpt2cli.reporter import Silent
from gpt2cli.training import checkpointing, run_log
from gpt2cli.training import trainer as trainer_module
from gpt2cli.training.ranks import Ranks
from gpt2cli.training.retention import let_go
from gpt2cli.training.trainer import train


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def whole(shard_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with every third checkpoint kept."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("whole") / "run"
    train(plan_of(shard_directory, run, how={"keep": 9}), Silent())
    return run


@pytest.fixture
def unfinished(whole: Path, tmp_path: Path) -> Path:
    """The same without its manifest and its last checkpoint: killed after step 9 and some more steps."""
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / "manifest.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    return run


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json",
                                  "training/optimizer.safetensors", "training/state.json"])
def test_a_flipped_bit_in_the_newest_checkpoint_falls_back_and_says_so(
    shard_directory: Path, whole: Path, unfinished: Path, name: str
) -> None:
    damaged = unfinished / "checkpoints" / "step-00000009" / name
    flip(damaged, 4001)
    reporter = Silent()
    train(plan_of(shard_directory, unfinished), reporter)
    (warning,) = reporter.warnings
    assert str(damaged.parent) in warning and "falling back to the checkpoint before it" in warning
    assert any("going on after step 6 of 12" in note for note in reporter.notes)
    assert outcome(unfinished) == outcome(whole)


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(shard_directory: Path, unfinished: Path) -> None:
    for checkpoint in (unfinished / "checkpoints").iterdir():
        flip(checkpoint / "model.safetensors", 9000)
    metrics = (unfinished / "metrics.jsonl").read_bytes()
    with pytest.raises(BadInput, match=r"every checkpoint in .* is damaged; --force starts the run anew"):
        train(plan_of(shard_directory, unfinished), Silent())
    assert (unfinished / "metrics.jsonl").read_bytes() == metrics


def test_metrics_that_were_cut_are_told(shard_directory: Path, unfinished: Path) -> None:
    (unfinished / "metrics.jsonl").write_bytes(b"")
    with pytest.raises(BadInput, match=r"metrics\.jsonl has 0 bytes, its checkpoint was written after \d+"):
        train(plan_of(shard_directory, unfinished), Silent())


@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_a_bit_that_flipped_in_metrics_written_long_ago_is_found(
    shard_directory: Path, unfinished: Path, where: float
) -> None:
    path = unfinished / "metrics.jsonl"
    sound = path.read_bytes()
    length = read_json(unfinished / "checkpoints" / "step-00000009" / checkpointing.STATE)["metrics_bytes"]
    flip(path, int(where * (8 * length - 1)))
    damaged = path.read_bytes()
    with pytest.raises(BadInput, match=rf"metrics\.jsonl is damaged: its first {length} bytes .* --force starts"):
        train(plan_of(shard_directory, unfinished), Silent())
    assert path.read_bytes() == damaged
    path.write_bytes(sound)
    train(plan_of(shard_directory, unfinished), Silent())


@pytest.mark.parametrize("name", ["metrics.jsonl", "perf.jsonl"])
def test_a_pipe_in_the_place_of_a_log_is_not_waited_for(shard_directory: Path, unfinished: Path, name: str) -> None:
    (unfinished / name).unlink()
    os.mkfifo(unfinished / name)
    with pytest.raises(BadInput, match=rf"{name} is no regular file; remove it"):
        train(plan_of(shard_directory, unfinished), Silent())


@pytest.mark.parametrize(("lost", "says"), [
    ("checkpoints/step-00000012/model.safetensors", "is missing"), ("metrics.jsonl", "metrics.jsonl is missing"),
    ("manifest.json", r"manifest\.json"),
])
def test_a_finished_run_that_lost_files_is_not_called_done(
    shard_directory: Path, whole: Path, tmp_path: Path, lost: str, says: str
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    assert train(plan_of(shard_directory, run), Silent()).already_done
    (run / lost).write_bytes(b"") if lost == "manifest.json" else (run / lost).unlink()
    with pytest.raises(BadInput, match=f"{says}.*this run was finished and is no longer whole.*--force trains it anew"):
        train(plan_of(shard_directory, run), Silent())
    train(plan_of(shard_directory, run, how={"force": True, "keep": 9}), Silent())
    assert outcome(run) == outcome(whole)


@pytest.mark.parametrize("where", ["validation loss", "gpt2.layers record"])
def test_a_run_that_diverges_where_no_batch_shows_it_says_so(
    shard_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "validation loss":
        real = trainer_module.validate
        monkeypatch.setattr(trainer_module, "validate", lambda *given: {**real(*given), "nll_nats_per_token": math.nan})
    else:
        monkeypatch.setattr(trainer_module, "layer_fields", lambda *given: [{"weight_norm": math.inf}])
    with pytest.raises(Gpt2Error, match=f"step 4.*{where}|{where} after step 4 is nan.*a lower --lr"):
        train(plan_of(shard_directory, tmp_path / "run", layers_every=4), Silent())


def test_a_perplexity_beyond_all_numbers_is_none(
    shard_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """exp(700) would be a number that nobody measured."""
    real = Ranks.settle
    monkeypatch.setattr(Ranks, "settle", lambda ranks, nlls, *given: real(
        ranks, {number: 1e6 for number in nlls}, *given))
    train(plan_of(shard_directory, tmp_path / "run", steps=4), Silent())
    assert records_of(tmp_path / "run", "gpt2.eval")[-1]["ppl"] is None


def steps_left(run: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").iterdir())


def test_retention_keeps_two_that_are_sound_and_what_interruptions_left_gives_way(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.copytree(run / "checkpoints" / "step-00000009", run / "checkpoints" / "step-00000010")
    shutil.copytree(run / "checkpoints" / "step-00000012", run / "checkpoints" / "step-00000013")
    flip(run / "checkpoints" / "step-00000009" / "model.safetensors", 5000)
    flip(run / "checkpoints" / "step-00000012" / "model.safetensors", 5000)
    (run / "checkpoints" / "step-00000003" / "manifest.json").unlink()  # a removal that was cut short
    let_go(run, 2, lambda step: step % 3 == 0)
    # 9 and 12 are the regular two, 13 came after; none of these but 13 is sound, so 10, the next that is, stays
    assert steps_left(run) == [9, 10, 12, 13]
    flip(run / "checkpoints" / "step-00000009" / "model.safetensors", 5000)
    let_go(run, 2, lambda step: step % 3 == 0)
    assert steps_left(run) == [9, 12, 13]
    assert sum(not verify_checkpoint(path) for path in (run / "checkpoints").iterdir()) >= 2


def test_what_only_has_the_name_of_a_checkpoint_is_left_alone(
    shard_directory: Path, whole: Path, unfinished: Path
) -> None:
    checkpoints = unfinished / "checkpoints"
    (checkpoints / "step-99999999").write_text("a note")
    (checkpoints / "step-99999998").symlink_to(checkpoints / "nothing")
    (unfinished / "mine").mkdir()
    (checkpoints / "step-99999997").symlink_to(unfinished / "mine")
    train(plan_of(shard_directory, unfinished, how={"keep": 2}), Silent())
    assert outcome_of(checkpoints / "step-00000012") == outcome_of(whole / "checkpoints" / "step-00000012")
    assert (checkpoints / "step-99999999").read_text() == "a note" and (checkpoints / "step-99999998").is_symlink()
    assert (unfinished / "mine").is_dir()


def outcome_of(checkpoint: Path) -> bytes:
    return (checkpoint / "model.safetensors").read_bytes()


def test_an_interrupted_run_leaves_the_same_checkpoints(shard_directory: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    _, stops = train_through_stops(lambda: plan_of(shard_directory, run, how={"keep": 9}), 13)
    assert stops > 3 and steps_left(run) == steps_left(whole) and outcome(run) == outcome(whole)


@pytest.mark.parametrize("poll", range(14, 24))
def test_a_signal_in_an_evaluation_loses_neither_the_steps_nor_the_evaluation(
    shard_directory: Path, whole: Path, tmp_path: Path, poll: int
) -> None:
    """Steps 1 to 4 poll 16 times, the evaluation after them 8 times."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted, match=f"after step {3 if poll <= 16 else 4} of 12"):
        train(plan_of(shard_directory, run), StopsAt(poll))
    train(plan_of(shard_directory, run), Silent())
    assert outcome(run) == outcome(whole)


def test_a_run_killed_before_its_manifest_is_finished_without_another_evaluation(
    shard_directory: Path, whole: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / "manifest.json").unlink()
    shutil.copytree(run / "checkpoints/step-00000003", run / "checkpoints/step-00000001")
    (run / "checkpoints/step-00000001/manifest.json").unlink()  # a removal that was cut short
    summary = train(plan_of(shard_directory, run, how={"keep": 9}), Silent())
    assert summary.val_nll == records_of(whole, "gpt2.eval")[-1]["nll_nats_per_token"]
    assert outcome(run) == outcome(whole) and steps_left(run) == steps_left(whole)
    assert (run / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()


def test_a_run_killed_while_its_first_file_is_written_begins_again(
    shard_directory: Path, whole: Path, tmp_path: Path
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    run = tmp_path / "run"
    run.mkdir()
    (run / f".run.json.tmp-{dead.pid}").write_bytes(b"{")
    train(plan_of(shard_directory, run), Silent())
    assert outcome(run) == outcome(whole) and not list(run.glob(".*"))


@pytest.mark.parametrize("removals", range(0, 14, 3))
def test_clearing_a_run_that_was_cut_short_can_be_done_again(
    shard_directory: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    run, real, left = Path(shutil.copytree(whole, tmp_path / "run")), os.unlink, [removals]

    def killed(path: Any, **named: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(path, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "unlink", killed)
        train(plan_of(shard_directory, run, how={"force": True}), Silent())
    train(plan_of(shard_directory, run, how={"force": True}), Silent())
    assert outcome(run) == outcome(whole)


def test_what_a_kill_left_of_an_interruptions_checkpoint_is_swept(shard_directory: Path, unfinished: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for number in (10, 11):  # no other run has checkpoints at these steps
        half = unfinished / "checkpoints" / f".step-{number:08}.tmp-{dead.pid}"
        half.mkdir()
        (half / "model.safetensors").write_bytes(b"half")
    (unfinished / f".run.json.tmp-{dead.pid}").write_bytes(b"{")
    train(plan_of(shard_directory, unfinished), Silent())
    assert not list(unfinished.rglob(".*"))


def test_a_signal_in_the_last_evaluation_does_not_lose_it(shard_directory: Path, whole: Path, tmp_path: Path) -> None:
    calm = StopsAt()
    train(plan_of(shard_directory, tmp_path / "calm"), calm)
    with pytest.raises(Interrupted, match="after step 12 of 12"):
        train(plan_of(shard_directory, tmp_path / "run"), StopsAt(calm.polls - 2))
    assert len(records_of(tmp_path / "run", "gpt2.eval")) == 2
    train(plan_of(shard_directory, tmp_path / "run"), Silent())
    assert outcome(tmp_path / "run") == outcome(whole)


class DiskFull:
    """Makes the `which`-th call of `function` fail as a full disk does, after it wrote half."""

    def __init__(self, function: Any, which: int) -> None:
        self.function, self.left = function, which

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.function(*arguments, **named)


@pytest.mark.parametrize(("module", "name", "which"), [
    (checkpointing, "save_weights", 3), (checkpointing, "write_tensors", 3), (checkpointing, "write_manifest", 3),
    (run_log, "encode_record", 12), (os, "fsync", 60),
])
def test_a_full_disk_keeps_the_last_good_checkpoint_and_says_so_in_a_sentence(
    shard_directory: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str,
    which: int,
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(module, name, DiskFull(getattr(module, name), which))
        with pytest.raises(IOFailure) as error:
            train(plan_of(shard_directory, run), Silent())
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    assert verify_checkpoint(newest) == []
    assert f"{newest} is whole, and the same command goes on from it" in str(error.value)
    assert "No space left on device" in str(error.value) and error.value.status == 74
    assert not [path for path in (run / "checkpoints").iterdir() if ".tmp-" in path.name]
    train(plan_of(shard_directory, run), Silent())
    assert outcome(run) == outcome(whole)


def test_a_second_trainer_is_refused_with_the_pid_and_a_dead_ones_lock_is_free(
    shard_directory: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", "import fcntl, os, sys, time\n"
                               f"f = open({str(run / 'lock')!r}, 'a+'); fcntl.flock(f, fcntl.LOCK_EX)\n"
                               "f.truncate(0); f.write(f'{os.getpid()}\\n'); f.flush(); print('held', flush=True)\n"
                               "time.sleep(60)"], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with pytest.raises(Gpt2Error, match=f"{run} is being trained by process {holder.pid}; "):
        train(plan_of(shard_directory, run), Silent())
    holder.kill()
    holder.communicate()
    assert (run / "lock").read_text() == f"{holder.pid}\n"
    assert train(plan_of(shard_directory, run), Silent()).steps == 12


def test_changed_options_are_listed_and_taken_only_under_override(shard_directory: Path, unfinished: Path) -> None:
    before = {path: path.read_bytes() for path in unfinished.rglob("*") if path.is_file() and path.name != "lock"}
    changed = {"lr": 2e-2, "clip": 0.5, "on_spike": "skip"}
    with pytest.raises(UsageFault) as error:
        train(plan_of(shard_directory, unfinished, **changed), Silent())
    for said in ("lr: 0.01 there, 0.02 asked", "clip: 1.0 there, 0.5 asked", "on_spike: None there, 'skip' asked",
                 "--override goes on with the new ones"):
        assert said in str(error.value)
    assert before == {path: path.read_bytes() for path in before}
    train(plan_of(shard_directory, unfinished, how={"override": True}, **changed), Silent())
    assert [record["step"] for record in records_of(unfinished, "gpt2.step")] == list(range(1, 13))
    assert [record["config"]["clip"] for record in records_of(unfinished, "gpt2.run")] == [1.0, 0.5]


def test_sigusr1_is_answered_inside_steps_and_evaluations(
    shard_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals._State, "status_wanted", False)
    before = signal.signal(signal.SIGUSR1, signals._on_status)

    class Asks(Console):
        asked = 0

        def stopping(self) -> bool:
            self.asked += 1
            if self.asked in (2, 18):  # within the first step; within the evaluation after the fourth
                os.kill(os.getpid(), signal.SIGUSR1)
            return False

    try:
        train(plan_of(shard_directory, tmp_path / "run", steps=5), Asks("gpt2 train", quiet=True))
    finally:
        signal.signal(signal.SIGUSR1, before)
    step, evaluation = capsys.readouterr().err.splitlines()
    assert " tokens, step 1/5, loss " in step and "validation" in evaluation
