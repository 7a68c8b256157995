from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2LMHeadModel

from gpt2cli.model.weights import load_model
from gpt2cli.reporter import Silent
from gpt2cli.tokens.of_model import vocabulary_of_model

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
TINY = ("--layers", 2, "--embd", 32, "--context", 64, "--batch-tokens", 1024, "--dtype", "fp32", "--threads", 1)


def records(path: Path, kind: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [line for line in lines if line["schema"].startswith(f"{kind}/")]


def artefacts(run: Path) -> dict[str, bytes]:
    step = sorted((run / "checkpoints").iterdir())[-1]
    return {name: (run / name).read_bytes() for name in ("run.json", "metrics.jsonl", "manifest.json")} | {
        path.name: path.read_bytes() for path in step.iterdir() if path.is_file() and path.name != "manifest.json"
    }


def test_a_run_learns_and_leaves_what_its_page_says(gpt2: Run, shard_directory: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = gpt2("train", shard_directory, *TINY, "--steps", 60, "--lr", 1e-2, "-o", run, check=True)
    steps = records(run / "metrics.jsonl", "gpt2.step")
    assert [step["step"] for step in steps] == list(range(1, 61))
    assert steps[0]["loss_nats"] == pytest.approx(6.24, abs=0.1)  # ln 512
    assert steps[-1]["loss_nats"] < 5.2
    final = records(run / "metrics.jsonl", "gpt2.eval")[-1]
    assert final["lr_phase"] == "done" and final["step"] == 60
    assert final["bits_per_byte"] == pytest.approx(
        final["nll_nats_per_token"] * final["n_tokens"] / final["n_bytes"] / 0.6931471805599453)
    stdout = result.stdout.splitlines()
    assert b"\n".join(stdout[:-1]) + b"\n" == (run / "metrics.jsonl").read_bytes()
    assert json.loads(stdout[-1])["schema"] == "gpt2.end/1"
    perf = records(run / "perf.jsonl", "gpt2.perf")
    assert len(perf) == 60 and perf[-1]["tokens_per_second"] > 0
    assert len(list((run / "checkpoints").iterdir())) == 2


@pytest.mark.slow
def test_the_same_command_again_does_nothing_and_changed_options_are_refused(
    gpt2: Run, shard_directory: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("train", shard_directory, *TINY, "-o", run)
    gpt2(*command, "--steps", 5, check=True)
    before = artefacts(run)
    again = gpt2(*command, "--steps", 5, check=True)
    assert b"already done" in again.stderr and again.stdout == b"" and artefacts(run) == before
    changed = gpt2(*command, "--steps", 6)
    assert changed.returncode == 2 and b"steps: 5 there, 6 asked" in changed.stderr
    assert artefacts(run) == before
    on = gpt2(*command, "--steps", 8, "--override", check=True)
    assert b"going on after step 5 of 8" in on.stderr
    assert [step["step"] for step in records(run / "metrics.jsonl", "gpt2.step")] == list(range(1, 9))
    gpt2(*command, "--steps", 5, "--force", check=True)
    assert artefacts(run) == before


@pytest.mark.slow
def test_another_tokenizer_is_refused(
    gpt2: Run, shard_directory: Path, documents: Path, tmp_path: Path
) -> None:
    gpt2("bpe-train", documents, "--vocab-size", 300, "-o", tmp_path / "v", check=True)
    gpt2("bpe-tokenize", documents, "--vocab", tmp_path / "v", "-o", tmp_path / "x.tok.zst", check=True)
    gpt2("pack", tmp_path / "x.tok.zst", "--val-fraction", 0.1, "-o", tmp_path / "shards", check=True)
    run = tmp_path / "run"
    assert gpt2("train", shard_directory, *TINY, "--steps", 2, "--max-time", 0.001, "-o", run).returncode == 75
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refused = gpt2("train", tmp_path / "shards", *TINY, "--steps", 2, "-o", run, "--override")
    assert refused.returncode == 2 and refused.stdout == b""
    (line,) = refused.stderr.decode().splitlines()
    assert f"{run} holds a run whose tokenizer (512 ids, sha256 " in line
    assert f"is not that of {tmp_path / 'shards'} (300 ids, sha256 " in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_max_time_stops_with_75_and_the_same_command_ends_in_the_same_bytes(
    gpt2: Run, shard_directory: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    gpt2("train", shard_directory, *TINY, "--steps", 12, "-o", whole, check=True)
    command = ("train", shard_directory, *TINY, "--steps", 12, "-o", parts)
    stopped = gpt2(*command, "--max-time", 0.001)
    assert stopped.returncode == 75 and b"the same command goes on" in stopped.stderr
    assert not (parts / "manifest.json").exists()
    assert gpt2(*command).returncode == 0
    assert artefacts(parts) == artefacts(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_is_died_of(
    gpt2_popen: Callable[..., subprocess.Popen[bytes]], gpt2: Run, shard_directory: Path, tmp_path: Path, number: int
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    command = ("train", shard_directory, *TINY, "--steps", 150, "--checkpoint-every", 1000, "-o", run)
    process = gpt2_popen(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for_steps(run, 3)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == -number and b"stopped by a signal" in stderr
    assert gpt2(*command).returncode == 0
    gpt2(*command[:-1], whole, check=True)
    assert artefacts(run) == artefacts(whole)


def wait_for_steps(run: Path, steps: int, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        path = run / "metrics.jsonl"
        if path.is_file() and path.read_bytes().count(b'"gpt2.step/1"') >= steps:
            return
        time.sleep(0.02)
    raise AssertionError(f"{run} took no {steps} steps in {timeout} s")


@pytest.mark.slow
def test_two_trainers_do_not_share_a_run(
    gpt2_popen: Callable[..., subprocess.Popen[bytes]], gpt2: Run, shard_directory: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("train", shard_directory, *TINY, "--steps", 2000, "-o", run)
    first = gpt2_popen(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_steps(run, 1)
        second = gpt2(*command)
        assert second.returncode == 1 and f"process {first.pid}".encode() in second.stderr
    finally:
        first.kill()
        first.wait()
    assert gpt2(*command, "--max-time", 0.001).returncode == 75


@pytest.mark.slow
def test_training_outlives_the_reader_of_its_metrics(
    bash: Run, shard_directory: Path, tmp_path: Path
) -> None:
    options = " ".join(map(str, TINY))
    script = f"gpt2 train '{shard_directory}' {options} --steps 5 -o run | head -n 1 >first; echo ${{PIPESTATUS[0]}}"
    result = bash(script, tmp_path)
    assert result.stdout.split() == [b"0"], result.stderr
    assert (tmp_path / "run" / "manifest.json").is_file()


@pytest.mark.slow
def test_status_on_sigusr1(
    gpt2_popen: Callable[..., subprocess.Popen[bytes]], shard_directory: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = gpt2_popen("train", shard_directory, *TINY, "--steps", 5000, "-q", "-o", run,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for_steps(run, 2)
    process.send_signal(signal.SIGUSR1)
    assert process.stderr is not None
    line = process.stderr.readline()
    process.kill()
    process.communicate()
    assert re.search(rb"tokens, step \d+/5000, loss", line), line


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_falls_back_and_says_so(gpt2: Run, shard_directory: Path, tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    command = ("train", shard_directory, *TINY, "--steps", 30, "--checkpoint-every", 10, "-o")
    gpt2(*command, whole, check=True)
    shutil.copytree(whole, run)
    (run / "manifest.json").unlink()
    weights = run / "checkpoints" / "step-00000030" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    result = gpt2(*command, run, check=True)
    assert b"is damaged" in result.stderr and b"going on after step 20 of 30" in result.stderr
    assert artefacts(run) == artefacts(whole)


@pytest.mark.slow
def test_a_damaged_frame_stops_training_with_65(gpt2: Run, shard_directory: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(shard_directory, tmp_path / "shards"))
    victim = next(shards.glob("train*.tok.zst"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0x10
    victim.write_bytes(data)
    result = gpt2("train", shards, *TINY, "--steps", 5, "-o", tmp_path / "run")
    assert result.returncode == 65
    (line,) = result.stderr.decode().splitlines()
    assert re.search(rf"{victim}: frame \d+ at byte \d+ is damaged .*stopped after step 0 of 5", line)


@pytest.mark.slow
def test_a_damaged_footer_is_found_before_anything_is_written(
    gpt2: Run, shard_directory: Path, tmp_path: Path
) -> None:
    shards = Path(shutil.copytree(shard_directory, tmp_path / "shards"))
    victim = next(shards.glob("train*.tok.zst"))
    data = bytearray(victim.read_bytes())
    data[data.rindex(b"gpt2.shard-footer/1") + 40] ^= 1
    victim.write_bytes(data)
    result = gpt2("train", shards, *TINY, "--steps", 5, "-o", tmp_path / "run")
    assert result.returncode == 65
    (line,) = result.stderr.decode().splitlines()
    assert str(victim) in line and "footer" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_full_disk_ends_with_74_and_keeps_the_last_good_checkpoint(
    bash: Run, shard_directory: Path, tmp_path: Path
) -> None:
    options = " ".join(map(str, TINY))
    script = f"ulimit -f 100; gpt2 train '{shard_directory}' {options} --steps 5 -o run >/dev/null"
    result = bash(script, tmp_path)
    assert result.returncode == 74, result.stderr
    assert result.stderr.splitlines()[-1].startswith(b"gpt2 train: ")
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert bash(script.replace("ulimit -f 100;", ""), tmp_path).returncode == 0


def test_dry_run_of_medium_counts_and_writes_nothing(gpt2: Run, shard_directory: Path, tmp_path: Path) -> None:
    result = gpt2("train", shard_directory, "--size", "medium", "--batch-tokens", 2048, "--steps", 2, "--dry-run",
                  cwd=tmp_path, check=True)
    text = result.stdout.decode()
    # the published count, less the difference in vocabulary
    assert f"{354_823_168 - (50_257 - 512) * 1024:,} (302,311,424 without embeddings)" in text
    assert "4,096 in 2 steps" in text and "runs/medium/run.json" in text and "GiB" in text
    assert not os.listdir(tmp_path)


def test_transformers_loads_a_checkpoint_with_equal_logits_text_and_tokens(tiny_run: Path, plays: Path) -> None:
    directory = sorted((tiny_run / "checkpoints").iterdir())[-1]
    theirs = GPT2LMHeadModel.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    ours = load_model(directory)
    text = next(plays.iterdir()).read_text()[:200]
    ids = torch.tensor([tokenizer(text)["input_ids"][:40]])
    vocabulary = vocabulary_of_model(directory, ours.shape.n_vocab, Silent())
    from gpt2cli.tokens.encode import Encoder

    assert Encoder(vocabulary).encode(text).tolist() == tokenizer(text)["input_ids"]
    with torch.no_grad():
        expected = theirs(ids).logits
        assert (ours.model.logits(ours.model(ids)) - expected).abs().max() < 1e-4
    assert set(load_file(directory / "model.safetensors")) <= {
        f"transformer.{name}" for name in theirs.transformer.state_dict()}
