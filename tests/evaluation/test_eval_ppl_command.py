"""gpt2 eval-ppl as a person runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import plain_environment


def record_of(output: bytes) -> dict:
    record, end = (json.loads(line) for line in output.splitlines())
    assert (record["schema"], end["schema"], end["count"]) == ("gpt2.eval/1", "gpt2.end/1", 1)
    return record


def test_a_file_and_standard_input_are_the_same_text(gpt2_here: Callable, model_directory: Path, plays: Path) -> None:
    play = plays / "macbeth.txt"
    by_name = gpt2_here("eval-ppl", model_directory, play, check=True)
    by_pipe = gpt2_here("eval-ppl", model_directory, input=play.read_bytes(), check=True)
    by_dash = gpt2_here("eval-ppl", model_directory, "-", input=play.read_bytes(), check=True)
    assert by_name.stdout == by_pipe.stdout == by_dash.stdout
    record = record_of(by_name.stdout)
    assert record["n_bytes"] == play.stat().st_size
    said = by_name.stderr.decode()
    assert f"{record['n_tokens']:,} tokens" in said and "context 32, stride 16" in said
    assert "1 document;" in said


def test_every_option_reaches_the_number(gpt2_here: Callable, model_directory: Path, plays: Path, tmp_path: Path
                                         ) -> None:
    play, out = tmp_path / "macbeth.txt", tmp_path / "eval.jsonl"
    play.write_bytes((plays / "macbeth.txt").read_bytes()[:2000])
    run = gpt2_here("eval-ppl", model_directory, play, "--context", 16, "--stride", 4, "--batch", 3, "--dtype", "bf16",
                    "--device", "cpu", "--threads", 1, "--format", "text", "-q", "-o", out, check=True)
    assert (run.stdout, run.stderr) == (b"", b"")
    (line,) = out.read_bytes().splitlines()
    record = json.loads(line)
    assert (record["protocol"]["context"], record["protocol"]["stride"], record["dtype"]) == (16, 4, "bf16")
    again = gpt2_here("eval-ppl", model_directory, play, "-o", out)
    assert again.returncode == 2 and b"--force" in again.stderr
    assert out.read_bytes() == line + b"\n"
    gpt2_here("eval-ppl", model_directory, play, "-f", "-o", out, check=True)
    assert json.loads(out.read_bytes())["dtype"] == "fp32"


@pytest.mark.parametrize(("arguments", "data", "status", "words"), [
    (("--stride", "0"), b"x", 2, b"--stride"),
    (("--context", "99"), b"x", 2, b"does not fit the model, which has 32 positions"),
    (("--split", "val"), b"x", 2, b"--split"),
    (("missing.txt",), b"", 2, b"there is no missing.txt"),
    ((), b"", 65, b"no text to score"),
    (("--format", "jsonl"), b"plain", 65, b"not JSON"),
    (("--format", "shard"), b"plain", 65, b"token shard"),
    (("--count-from", os.devnull), b"x", 65, b"holds no text, so no words"),
])
def test_what_is_wrong_is_said_last_in_one_sentence(gpt2_here: Callable, model_directory: Path, arguments: tuple,
                                                    data: bytes, status: int, words: bytes) -> None:
    result = gpt2_here("eval-ppl", model_directory, *arguments, "-q", input=data)
    assert (result.returncode, result.stdout) == (status, b"")
    assert words in result.stderr.splitlines()[-1]
    assert b"Traceback" not in result.stderr


def test_model_comes_first_and_has_defaults(gpt2_here: Callable, model_directory: Path, plays: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    plain_environment(monkeypatch, tmp_path)
    swapped = gpt2_here("eval-ppl", plays / "macbeth.txt")
    assert swapped.returncode == 2 and b"a MODEL is a run" in swapped.stderr
    assert b"no MODEL given" in gpt2_here("eval-ppl", input=b"x").stderr
    monkeypatch.setenv("GPT2_MODEL", str(model_directory))
    assert record_of(gpt2_here("eval-ppl", input=b"some text", check=True).stdout)["n_words"] == 2


def test_a_finished_run_is_evaluated_with_its_history(gpt2_here: Callable, tiny_run: Path, shard_directory: Path,
                                                      shard: Path) -> None:
    result = gpt2_here("eval-ppl", tiny_run, shard_directory, check=True)
    record = record_of(result.stdout)
    metrics = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_bytes().splitlines()]
    assert record["run"] == metrics[0]["run"]
    assert (record["step"], record["tokens"]) == (10, 10 * 1024)
    assert record["flops"] == [line for line in metrics if line["schema"] == "gpt2.step/1"][-1]["flops"]
    assert record["split"] == "val" and len(record["val_sha256"]) == 64
    assert 0 < record["bits_per_byte"] < 8.5
    through_pipe = gpt2_here("eval-ppl", tiny_run, input=shard.read_bytes(), check=True)
    whole = record_of(gpt2_here("eval-ppl", tiny_run, shard, check=True).stdout)
    assert record_of(through_pipe.stdout) == whole
    assert whole["n_tokens"] > record["n_tokens"]


@pytest.mark.slow
def test_a_named_pipe_is_read_once(bash: Callable, model_directory: Path, shard: Path, tiny_run: Path, tmp_path: Path
                                   ) -> None:
    command = f"gpt2 eval-ppl -q --threads 1 {tiny_run}"
    script = f"{command} <(cat {shard}) | head -1 > a; {command} {shard} | head -1 > b"
    result: subprocess.CompletedProcess[bytes] = bash(script, tmp_path, options=())
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != b""


def test_protocols_units_and_intervals_are_options(gpt2_here: Callable, model_directory: Path, tmp_path: Path) -> None:
    text, units = tmp_path / "t.jsonl", tmp_path / "units.txt"
    text.write_text('{"text":"one two<|endoftext|>three"}\n{"text":"and another"}\n')
    units.write_text("a b c d")
    for protocol in ("sliding", "disjoint", "harness", "hf-docs"):
        found = gpt2_here("eval-ppl", model_directory, text, "--protocol", protocol, "-q", check=True)
        assert record_of(found.stdout)["protocol"]["name"] == protocol
    found = gpt2_here("eval-ppl", model_directory, text, "--no-bos", "--count-from", units, "--bootstrap", 9,
                      check=True)
    record = record_of(found.stdout)
    assert (record["n_words"], record["bootstrap"]["resamples"]) == (4, 9)
    assert record["protocol"]["bos"].startswith("none")
    assert record["lr_phase"] is None


def test_parts_come_before_the_record_and_merge(gpt2_here: Callable, model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the first piece")
    (tmp_path / "b.txt").write_text("and a second one")
    for name in "ab":
        gpt2_here("eval-ppl", model_directory, tmp_path / f"{name}.txt", "--per-doc", "--per-token", "-o",
                  tmp_path / f"{name}.jsonl", check=True)
    kinds = [json.loads(line)["schema"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert kinds == ["gpt2.eval-token/1"] * (len(kinds) - 2) + ["gpt2.eval-document/1", "gpt2.eval/1"]
    merged = gpt2_here("eval-ppl", "--merge", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--bootstrap", 5, check=True)
    whole = gpt2_here("eval-ppl", model_directory, tmp_path / "a.txt", tmp_path / "b.txt", check=True)
    one, other = record_of(merged.stdout), record_of(whole.stdout)
    assert one["nll_nats"] == pytest.approx(other["nll_nats"], rel=1e-6)
    assert one["text_sha256"] == other["text_sha256"]
    piped = gpt2_here("eval-ppl", "--merge", input=(tmp_path / "a.jsonl").read_bytes() +
                      (tmp_path / "b.jsonl").read_bytes(), check=True)
    assert record_of(piped.stdout)["nll_nats"] == one["nll_nats"]


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (("--merge", "--context", 8), 2, b"--context says nothing to --merge"),
    (("--merge", "missing.jsonl"), 2, b"missing.jsonl"),
    (("--merge",), 65, b"no gpt2.eval record"),
])
def test_what_a_merge_refuses(gpt2_here: Callable, arguments: tuple, status: int, words: bytes) -> None:
    found = gpt2_here("eval-ppl", *arguments, input=b"")
    assert found.returncode == status
    assert words in found.stderr
    assert found.stdout == b""


def test_a_perplexity_of_many_digits_is_said_in_few(gpt2_here: Callable, model_directory: Path) -> None:
    result = gpt2_here("eval-ppl", model_directory, input=b"zq" * 20, check=True)
    word_ppl = json.loads(result.stdout.splitlines()[0])["word_ppl"]
    assert word_ppl > 1e9
    said = re.search(r"token, (\S+) a word", result.stderr.decode())
    assert said and len(said[1]) < 12 and float(said[1]) == pytest.approx(word_ppl, rel=5e-3)
