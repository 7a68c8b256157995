"""The options of gpt2 sample as a person gives them: what each does to what is written."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from tiny_models import lively_model, save_model, small_vocabulary

from gpt2cli.sizes import ModelShape

SHORT = ("--max-tokens", "6", "--seed", "3", "--dtype", "fp32")


@pytest.fixture
def sample(gpt2_here: Callable, eager_to_end: Path) -> Callable:
    """Run gpt2 sample on the prompt `The`; return standard output, or the records of --json."""

    def run(*options: object) -> object:
        result = gpt2_here("sample", eager_to_end, "--prompt", "The", *SHORT, *options, check=True)
        if "--json" in options:
            return [json.loads(line) for line in result.stdout.splitlines()][:-1]
        return result.stdout

    return run


@pytest.mark.parametrize(("option", "value"), [
    ("--min-p", 0.3), ("--typical-p", 0.2), ("--repetition-penalty", 5), ("--presence-penalty", 4),
    ("--frequency-penalty", 4.5), ("--min-tokens", 6), ("--ignore-eot", None), ("--temperature", 0.2), ("--top-k", 2),
    ("--top-p", 0.2), ("--slide", None), ("--prompt-lookup", 3), ("--seed", 4),
])
def test_an_option_is_recorded_and_changes_the_draws(sample: Callable, option: str, value: object) -> None:
    words = (option,) if value is None else (option, value)
    many = ("--json", "--num-samples", 40, "--batch", 40, "--max-tokens", 25)
    plain, changed = sample(*many), sample(*many, *words)
    name = option.removeprefix("--").replace("-", "_")
    assert {record[name] for record in changed} == {True if value is None else value}
    same = [record["tokens"] for record in plain] == [record["tokens"] for record in changed]
    assert same == (option in ("--slide", "--prompt-lookup")), "those two change no text here"


def test_a_file_is_a_prompt(gpt2_here: Callable, eager_to_end: Path, tmp_path: Path, sample: Callable) -> None:
    (tmp_path / "p.txt").write_text("The\n")
    (tmp_path / "p.zst").write_bytes(zstandard.compress(b"The\n"))
    for name in ("p.txt", "p.zst"):
        made = gpt2_here("sample", eager_to_end, "--prompt-file", tmp_path / name, *SHORT, check=True).stdout
        assert made == sample()
    missing = gpt2_here("sample", eager_to_end, "--prompt-file", tmp_path / "none")
    assert (missing.returncode, missing.stdout) == (2, b"") and b"there is no" in missing.stderr
    (tmp_path / "p.txt").write_bytes(b"ab\xff")
    broken = gpt2_here("sample", eager_to_end, "--prompt-file", tmp_path / "p.txt")
    assert broken.returncode == 65 and b"p.txt is not UTF-8 at byte 2" in broken.stderr


def test_beams_give_the_best_first(sample: Callable) -> None:
    records = sample("--beams", 4, "--num-samples", 3, "--json", "--length-penalty", 0, "--early-stopping", "never")
    scores = [record["beam_score"] for record in records]
    assert scores == sorted(scores, reverse=True)
    assert [(record["beams"], record["length_penalty"], record["early_stopping"]) for record in records] == [
        (4, 0.0, "never")] * 3
    text = sample("--beams", 4, "--length-penalty", 0, "--early-stopping", "never")
    assert text == f"The{records[0]['text']}\n".encode()


def test_logprobs_stand_in_records(sample: Callable) -> None:
    for record in sample("--json", "--logprobs", 2, "--num-samples", 12):
        assert len(record["token_logprobs_nats"]) == len(record["top_logprobs_nats"]) == record["n_tokens"]
        assert (record["end_logprob_nats"] is None) == (record["finish_reason"] != "end_of_text")
        for nats, token, top in zip(record["token_logprobs_nats"], record["tokens"], record["top_logprobs_nats"],
                                    strict=True):
            assert len(top) == 2 and top[0][1] >= top[1][1] and nats <= top[0][1]
            assert all(value == nats for other, value in top if other == token)


def test_a_draft_is_told_of_and_must_speak_the_same(gpt2_here: Callable, eager_to_end: Path, tmp_path: Path) -> None:
    draft = shutil.copytree(eager_to_end, tmp_path / "draft")
    arguments = ("sample", eager_to_end, "--prompt", "The", "--max-tokens", 20, "--ignore-eot", "--temperature", 0,
                 "--dtype", "fp32")
    with_draft = gpt2_here(*arguments, "--draft", draft, "--draft-tokens", 3, check=True)
    assert with_draft.stdout == gpt2_here(*arguments, check=True).stdout
    accepted, proposed = re.search(rb"(\d+) of (\d+) proposed tokens accepted", with_draft.stderr).groups()
    assert accepted == proposed
    assert b"times as fast" in with_draft.stderr
    assert f"gpt2 sample: draft, {draft}".encode() in with_draft.stderr
    other = save_model(tmp_path / "other", lively_model(ModelShape(1, 1, 8, 64, 450)), small_vocabulary(193))
    refused = gpt2_here(*arguments, "--draft", other)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"speaks another vocabulary" in refused.stderr


def test_speculation_that_never_happened_says_so(gpt2_here: Callable, eager_to_end: Path) -> None:
    result = gpt2_here("sample", eager_to_end, "--prompt", "The", "--max-tokens", 1, "--prompt-lookup", 2, check=True)
    assert b"nothing was proposed" in result.stderr


def test_a_variable_is_one_stop_and_a_file_has_one_or_several(sample: Callable, monkeypatch: pytest.MonkeyPatch,
                                                              tmp_path: Path) -> None:
    monkeypatch.setenv("GPT2_SAMPLE_STOP", "\n the end")
    assert sample("--json")[0]["stop"] == ["\n the end"]
    monkeypatch.delenv("GPT2_SAMPLE_STOP")
    for written, stops in (('"x y"', ["x y"]), ('["x", "y z"]', ["x", "y z"])):
        (tmp_path / "c.toml").write_text(f"[sample]\nstop = {written}\n")
        assert sample("--json", "--config", tmp_path / "c.toml")[0]["stop"] == stops


def test_an_empty_name_is_no_model(gpt2_here: Callable) -> None:
    result = gpt2_here("sample", "", "--prompt", "The")
    assert result.returncode == 2 and b"the name is empty" in result.stderr


def test_a_prompt_cut_for_the_context_is_warned_of_also_when_quiet(gpt2_here: Callable, eager_to_end: Path) -> None:
    result = gpt2_here("sample", eager_to_end, "--prompt", "The end " * 60, *SHORT, "-q", check=True)
    assert re.search(rb"^gpt2 sample: warning: prompt 1 leaves too little of .* its last \d+ tokens", result.stderr)


def test_on_a_terminal_a_message_has_a_line_of_its_own(gpt2_popen: Callable, eager_to_end: Path) -> None:
    ours, terminal = pty.openpty()
    process = gpt2_popen("sample", eager_to_end, "--prompt", "The", *SHORT, "--prompt-lookup", 2,
                         stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
    assert process.wait(60) == 0
    os.close(terminal)
    lines = os.read(ours, 65536).splitlines()
    os.close(ours)
    assert [line for line in lines if b"speculation: " in line] == [lines[-1]]
    assert lines[-1].startswith(b"gpt2 sample: speculation: ")
    assert lines[-2].strip(), "and no empty line stands before it"


@pytest.mark.parametrize(("options", "words"), [
    (("--logprobs", 1), b"give --json too"), (("--length-penalty", 1), b"give --beams too"),
    (("--early-stopping", "no"), b"give --beams too"), (("--draft-tokens", 2), b"give --draft too"),
    (("--beams", 2, "--prompt-lookup", 2), b"different ways"), (("--beams", 2, "--num-samples", 3), b"more beams"),
    (("--beams", 2, "--top-k", 3), b"draws nothing"), (("--min-tokens", 9), b"more than --max-tokens 6"),
    (("--prompt-file", "x"), b"give one of them"), (("--top-p", 0), b"--top-p"), (("--min-p", 1.5), b"--min-p"),
    (("--repetition-penalty", 0), b"--repetition-penalty"), (("--presence-penalty", 1e30), b"--presence-penalty"),
    (("--frequency-penalty", -1e308), b"--frequency-penalty"), (("--beams", 2, "--length-penalty", 99), b"--length-"),
    (("--temperature", "nan"), b"finite"), (("--stop", "\udcff"), b"not UTF-8"),
])
def test_what_means_nothing_is_a_usage_error(gpt2_here: Callable, eager_to_end: Path, options: tuple,
                                             words: bytes) -> None:
    result = gpt2_here("sample", eager_to_end, "--prompt", "The", *SHORT, *options)
    assert (result.returncode, result.stdout) == (2, b"")
    assert words in result.stderr
    assert result.stderr.count(b"\n") == 1
