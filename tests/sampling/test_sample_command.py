"""gpt2 sample as a person runs it."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from in_process import plain_environment
from tiny_models import lively_model, save_model, small_vocabulary
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2cli.sizes import ModelShape

SHORT = ("--max-tokens", "6", "--seed", "3")


def records(output: bytes) -> list[dict]:
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines[-1]["schema"] == "gpt2.end/1"
    assert lines[-1]["count"] == len(lines) - 1
    return lines[:-1]


def test_prompt_sources_agree(gpt2_here: Callable, model_directory: Path, tmp_path: Path) -> None:
    by_option = gpt2_here("sample", model_directory, "--prompt", "Hello you", *SHORT, check=True).stdout
    assert by_option.startswith(b"Hello you") and by_option.endswith(b"\n")
    assert gpt2_here("sample", model_directory, *SHORT, input=b"Hello you\n", check=True).stdout == by_option
    assert gpt2_here("sample", model_directory, "--lines", *SHORT, input=b"Hello you\n", check=True).stdout == by_option
    (tmp_path / "p.jsonl").write_text('{"prompt":"Hello you"}\n')
    file = tmp_path / "p.jsonl"
    assert gpt2_here("sample", model_directory, "--prompts", file, *SHORT, check=True).stdout == by_option
    rest = gpt2_here("sample", model_directory, "--no-echo", *SHORT, input=b"Hello you", check=True).stdout
    assert b"Hello you" + rest == by_option
    out = tmp_path / "out.txt"
    assert gpt2_here("sample", model_directory, *SHORT, "-o", out, input=b"Hello you", check=True).stdout == b""
    assert out.read_bytes() == by_option
    refused = gpt2_here("sample", model_directory, *SHORT, "-o", out, input=b"Hello you")
    assert refused.returncode == 2 and b"--force" in refused.stderr


def test_only_one_final_newline_is_taken_from_the_prompt(gpt2_here: Callable, model_directory: Path) -> None:
    assert gpt2_here("sample", model_directory, *SHORT, input=b"a\r\n\n", check=True).stdout.startswith(b"a\r\n")


def test_several_samples_are_separated_and_records_say_the_same(gpt2_here: Callable, model_directory: Path) -> None:
    arguments = ("sample", model_directory, "--lines", "--num-samples", 2, *SHORT)
    text = gpt2_here(*arguments, input=b"one\n\ntwo", check=True).stdout.removesuffix(b"\n")
    made = records(gpt2_here(*arguments, "--json", input=b"one\n\ntwo", check=True).stdout)
    assert [record["prompt"] for record in made] == ["one", "one", "", "", "two", "two"]
    assert [record["sample_number"] for record in made] == [0, 1] * 3
    pieces = text.split(b"\n<|endoftext|>\n")
    assert [piece.decode("utf-8", "replace") for piece in pieces] == [r["prompt"] + r["text"] for r in made]
    assert {record["schema"] for record in made} == {"gpt2.sample/1"}
    assert {record["finish_reason"] for record in made} <= {"length", "end_of_text"}
    assert {record["dtype"] for record in made} == {"fp32"}


def test_without_input_it_writes_from_nothing(gpt2_here: Callable, model_directory: Path) -> None:
    filters = ("--top-p", "0.9", "--top-k", 40, "--temperature", "0.8")
    once = gpt2_here("sample", model_directory, *filters, *SHORT, check=True)
    assert len(once.stdout) > 1
    assert b"<|endoftext|>" not in once.stdout
    assert b"fp16 on cpu, by --dtype auto" in once.stderr
    assert gpt2_here("sample", model_directory, "-q", "--dtype", "bf16", "--device", "cpu", "--threads", 1,
                "--no-cache", "--batch", 2, *SHORT, check=True).stderr == b""


def test_without_a_model_the_environments_is_taken(gpt2_here: Callable, model_directory: Path, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    plain_environment(monkeypatch, tmp_path)
    nothing = gpt2_here("sample", *SHORT)
    assert nothing.returncode == 2 and b"no MODEL given" in nothing.stderr
    monkeypatch.setenv("GPT2_MODEL", str(model_directory))
    assert str(model_directory).encode() in gpt2_here("sample", *SHORT, check=True).stderr


@pytest.mark.slow
def test_the_newest_of_the_runs(gpt2: Callable, tiny_run: Path) -> None:
    result = gpt2("sample", *SHORT, cwd=tiny_run.parent.parent, check=True)
    assert b"runs/tiny/checkpoints/step-" in result.stderr


@pytest.mark.parametrize(("arguments", "data", "status", "words"), [
    (("--prompt", "x", "--lines"), b"", 2, b"give one of them"),
    (("--json", "--no-echo"), b"", 2, b"--no-echo"),
    (("--stop", ""), b"", 2, b"empty --stop"),
    (("--device", "gpu"), b"", 2, b"no device 'gpu'"),
    ((), b"caf\xe9", 65, b"standard input is not UTF-8 at byte 3"),
    (("--lines",), b"a\n\xff\n", 65, b"standard input line 2 is not UTF-8"),
    (("--prompts", "-"), b'{"text":"x"}\n', 65, b"record 1 has no text in `prompt`"),
    (("--prompts", "-"), b"no json\n", 65, b"line 1: not JSON"),
    (("--prompts", "missing.jsonl"), b"", 2, b"there is no missing.jsonl"),
])
def test_what_is_wrong_is_one_sentence(gpt2_here: Callable, model_directory: Path, arguments: tuple, data: bytes,
                                       status: int, words: bytes) -> None:
    result = gpt2_here("sample", model_directory, *arguments, *SHORT, input=data)
    assert (result.returncode, result.stdout) == (status, b"")
    assert words in result.stderr
    assert result.stderr.count(b"\n") == 1


def test_a_long_prompt_is_cut_with_a_message(gpt2_here: Callable, model_directory: Path) -> None:
    result = gpt2_here("sample", model_directory, *SHORT, input=b"word " * 100, check=True)
    assert result.stdout.startswith(b"word " * 100)
    assert b"its last 58 tokens" in result.stderr
    longer = gpt2_here("sample", model_directory, "--prompt", "x", "--max-tokens", 200, "--temperature", 0, check=True)
    assert b"ended at the context's 64 tokens" in longer.stderr


def test_a_reader_that_leaves_is_quiet(bash: Callable, model_directory: Path, tmp_path: Path) -> None:
    script = f"echo The | gpt2 sample -q {model_directory} --max-tokens 50 | head -c 4; echo ${{PIPESTATUS[1]}}"
    result = bash(script, tmp_path)
    assert result.stdout.startswith(b"The")
    assert result.stdout.splitlines()[-1].removeprefix(b"The ")[-3:] in (b"141", b"0")
    assert result.stderr == b""


def slow_model(directory: Path) -> Path:
    return save_model(directory, lively_model(ModelShape(8, 4, 256, 4096, 500)), small_vocabulary())


@pytest.mark.slow
def test_text_comes_as_it_is_made_and_ctrl_c_is_130(gpt2_popen: Callable, tmp_path: Path) -> None:
    model = slow_model(tmp_path / "slow")
    process = gpt2_popen("sample", model, "--prompt", "The", "--max-tokens", "4000", "--no-cache", "--temperature", "5",
                         "--threads", "1", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        seen = b""
        while len(seen) < 20:  # a pipe's buffer would have held these back until the end
            assert select.select([process.stdout], [], [], 60)[0]
            seen += os.read(process.stdout.fileno(), 100)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT
    assert b"Traceback" not in errors


def escape_model(directory: Path) -> Path:
    """A model that says control characters most of the time."""
    vocabulary = small_vocabulary()
    model = lively_model(ModelShape(1, 1, 8, 64, 500))
    with torch.no_grad():
        model.wte.weight.zero_()
        model.ln_f.weight.zero_()
        model.ln_f.bias.fill_(1.0)
        model.wte.weight[vocabulary.ranks[b"\x1b"]] = 10.0
    return save_model(directory, model, vocabulary)


@pytest.mark.slow
def test_a_terminal_sees_no_control_characters_and_a_pipe_every_byte(gpt2: Callable, gpt2_popen: Callable,
                                                                     tmp_path: Path) -> None:
    model = escape_model(tmp_path / "escape")
    piped = gpt2("sample", model, "--prompt", "x", *SHORT, check=True).stdout
    assert piped == b"x" + b"\x1b" * 6 + b"\n"
    master, slave = pty.openpty()
    process = gpt2_popen("sample", model, "--prompt", "x", *SHORT, stdin=subprocess.DEVNULL, stdout=slave,
                         stderr=subprocess.DEVNULL)
    os.close(slave)
    seen, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(master, 1000)
        except OSError:  # the other end of the terminal is closed
            break
        seen += part
    os.close(master)
    assert process.wait(60) == 0
    assert seen.replace(b"\r\n", b"\n") == b"x" + b"\\x1b" * 6 + b"\n"


def test_hostile_names_and_pickles_are_one_harmless_sentence(gpt2_here: Callable, model_directory: Path,
                                                             tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    hostile = Path(shutil.copytree(model_directory, tmp_path / "h"))
    tensors = load_file(hostile / "model.safetensors")
    save_file(tensors | {"\x1b]0;owned\x07": torch.zeros(1)}, hostile / "model.safetensors")
    result = gpt2_here("sample", hostile, *SHORT)
    assert result.returncode == 65
    assert result.stderr.count(b"\n") == 1 and b"\x1b" not in result.stderr and b"\x07" not in result.stderr
    (hostile / "model.safetensors").rename(hostile / "pytorch_model.bin")
    result = gpt2_here("sample", hostile, *SHORT)
    assert result.returncode == 2 and b"--allow-pickle" in result.stderr


@pytest.mark.slow
def test_a_gpt2_small_saved_by_transformers_is_sampled_and_evaluated(gpt2: Callable, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config()).eval()
    theirs.save_pretrained(tmp_path / "hf")
    prompt, ids = b"The meaning of life is", [464, 3616, 286, 1204, 318]
    result = gpt2("sample", tmp_path / "hf", "--temperature", 0, "--max-tokens", 12, "--json", input=prompt, check=True)
    assert b"GPT-2's own vocabulary" in result.stderr and b"124,439,808 parameters" in result.stderr
    expected = theirs.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=50256)[0, 5:]
    assert records(result.stdout)[0]["tokens"] == expected.tolist()
    scored = gpt2("eval-ppl", tmp_path / "hf", input=prompt, check=True)
    record = records(scored.stdout)[0]
    with torch.no_grad():
        logits = theirs(torch.tensor([[50256, *ids]])).logits[0, :-1].double().log_softmax(-1)
    nll = -float(logits[range(5), ids].sum())
    assert record["nll_nats"] == pytest.approx(nll, rel=1e-6)
    assert (record["n_tokens"], record["n_words"], record["n_bytes"]) == (5, 5, 22)
