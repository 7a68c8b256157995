"""gpt2 eval-tasks as a person runs it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ITEMS = [{"context": f"{word} and", "choices": ["one", "two of them", "é"], "label": number % 3}
         for number, word in enumerate(["To", "be", "or", "not", "to", "be", "that", "is", "the", "question"])]


def lines(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.fixture
def choices(tmp_path: Path) -> Path:
    path = tmp_path / "choices.jsonl"
    path.write_bytes(lines(ITEMS))
    return path


def test_a_stream_of_items_and_a_summary(gpt2_here: Callable, model_directory: Path, choices: Path) -> None:
    result = gpt2_here("eval-tasks", model_directory, choices, check=True)
    *items, task, end = (json.loads(line) for line in result.stdout.splitlines())
    assert [item["schema"] for item in items] == ["gpt2.item/1"] * 10
    assert [item["item"] for item in items] == list(range(10))
    assert (task["schema"], task["task"], task["n_items"], end["count"]) == ("gpt2.task/1", "choices", 10, 11)
    right = [item["prediction"] == item["target"] for item in items]
    acc = task["metrics"]["acc"]
    assert acc["value"] == sum(right) / 10 == sum(item["metrics"]["acc"] for item in items) / 10
    assert acc["stderr"] == pytest.approx(math.sqrt(acc["value"] * (1 - acc["value"]) / 9))
    for item in items:
        assert item["prediction"] == item["loglikelihoods_nats"].index(max(item["loglikelihoods_nats"]))
    said = result.stderr.decode()
    assert "choices: multiple_choice, 10 items, zero-shot" in said and "acc_norm" in said
    by_pipe = gpt2_here("eval-tasks", model_directory, input=choices.read_bytes(), check=True).stdout.splitlines()
    assert json.loads(by_pipe[-2])["requests_sha256"] == task["requests_sha256"]


def test_every_option_does_something(gpt2_here: Callable, model_directory: Path, choices: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run = gpt2_here("eval-tasks", model_directory, choices, "--limit", 4, "--num-fewshot", 2, "--seed", 7, "--text",
                    "--bootstrap", 20, "--batch", 9, "--dtype", "bf16", "--device", "cpu", "--threads", 1, "-q",
                    "-o", out, check=True)
    assert (run.stdout, run.stderr) == (b"", b"")
    *items, task = (json.loads(line) for line in out.read_bytes().splitlines())
    assert (len(items), task["num_fewshot"], task["seed"], task["dtype"]) == (4, 2, 7, "bf16")
    assert items[2]["context"] == "To and one\n\nbe and two of them\n\nor and"
    assert items[0]["context"].startswith("be and two of them\n\nor and é\n\n"), "no item is its own example"
    assert items[3]["requests"][1] == [items[3]["context"], " two of them"]
    again = gpt2_here("eval-tasks", model_directory, choices, "-o", out)
    assert again.returncode == 2 and b"--force" in again.stderr
    gpt2_here("eval-tasks", model_directory, choices, "--summary", "-f", "-o", out, check=True)
    (summary,) = (json.loads(line) for line in out.read_bytes().splitlines())
    assert (summary["schema"], summary["n_items"], summary["dtype"]) == ("gpt2.task/1", 10, "fp32")


def test_the_batch_size_changes_nothing_but_rounding(gpt2_here: Callable, model_directory: Path, choices: Path) -> None:
    runs = [gpt2_here("eval-tasks", model_directory, choices, "--batch", size, check=True).stdout.splitlines()[:-1]
            for size in (1, 17, 8192)]
    for records in zip(*(map(json.loads, run) for run in runs), strict=True):
        first, *others = records
        for other in others:
            assert other["metrics"] == first["metrics"]
            assert other.get("loglikelihoods_nats", []) == pytest.approx(first.get("loglikelihoods_nats", []), rel=1e-6)


def test_perplexity_has_a_bootstrapped_error(gpt2_here: Callable, model_directory: Path) -> None:
    data = lines([{"text": f"{item['context']} {item['choices'][1]}"} for item in ITEMS])
    ways = [gpt2_here("eval-tasks", model_directory, "--bootstrap", count, input=data, check=True).stdout
            for count in (200, 200, 0)]
    assert ways[0] == ways[1]
    *items, task = (json.loads(line) for line in ways[0].splitlines()[:-1])
    nats = [item["metrics"]["loglikelihood_nats"] for item in items]
    measure = task["metrics"]["perplexity"]
    assert measure["value"] == pytest.approx(math.exp(-sum(nats) / 10))
    assert measure["stderr_method"] == "bootstrap of 200" and not measure["higher_is_better"]
    spread = math.sqrt(sum((x - sum(nats) / 10) ** 2 for x in nats) / 100)
    assert measure["stderr"] == pytest.approx(measure["value"] * spread, rel=0.5), "the delta method's is near"
    without = json.loads(ways[2].splitlines()[-2])["metrics"]["perplexity"]
    assert (without["stderr"], without["stderr_method"], without["value"]) == (None, None, measure["value"])


def test_truncation_is_counted_and_said(gpt2_here: Callable, model_directory: Path) -> None:
    data = lines([{"context": "a, " * 60, "choices": ["b", "c d"], "label": 0}, ITEMS[0]])
    result = gpt2_here("eval-tasks", model_directory, input=data, check=True)
    first, second, task = (json.loads(line) for line in result.stdout.splitlines()[:-1])
    assert first["n_dropped_tokens"] > 0 == second["n_dropped_tokens"]
    assert (task["n_truncated_items"], task["n_dropped_tokens"]) == (1, first["n_dropped_tokens"])
    assert b"1 item lost" in result.stderr


@pytest.mark.parametrize(("arguments", "data", "status", "words"), [
    (("missing.yaml",), b"", 2, b"there is no missing.yaml"),
    ((), b"", 65, b"holds no record"),
    ((), b"plain", 65, b"not JSON"),
    ((), b'{"context":"a","choices":["b"],"label":4}', 65, b"line 1: its label is 4"),
    ((), lines([{"context": "a", "choices": ["b " * 99], "label": 0}]), 65, b"more than the 32 positions"),
    (("--limit", "0"), b"", 2, b"--limit"),
    (("--num-fewshot", "3"), lines(ITEMS[:2]), 65, b"3 examples were asked for"),
])
def test_what_is_wrong_is_said_in_one_sentence(gpt2_here: Callable, model_directory: Path, arguments: tuple,
                                               data: bytes, status: int, words: bytes) -> None:
    result = gpt2_here("eval-tasks", model_directory, *arguments, "-q", input=data)
    assert (result.returncode, result.stdout) == (status, b"")
    assert words in result.stderr.splitlines()[-1] and b"Traceback" not in result.stderr


def test_task_files_and_their_data(gpt2_here: Callable, model_directory: Path, choices: Path, tmp_path: Path) -> None:
    task = {"task": "one", "dataset_path": "json", "dataset_kwargs": {"data_files": str(choices)},
            "test_split": "train", "output_type": "multiple_choice", "doc_to_text": "context",
            "doc_to_choice": "choices", "doc_to_target": "label"}
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for path in paths:
        path.write_text(json.dumps(task))
    twice = gpt2_here("eval-tasks", model_directory, *paths)
    assert twice.returncode == 2 and b"two of the tasks are called 'one'" in twice.stderr
    both = gpt2_here("eval-tasks", model_directory, paths[0], choices, "--summary", check=True).stdout.splitlines()
    one, plain = (json.loads(line) for line in both[:-1])
    assert one["metrics"] == plain["metrics"] and one["requests_sha256"] == plain["requests_sha256"]
    paths[0].write_text(json.dumps({**task, "dataset_kwargs": {"data_files": "nowhere.jsonl"}}))
    missing = gpt2_here("eval-tasks", model_directory, paths[0])
    assert missing.returncode == 2 and b"there is no nowhere.jsonl" in missing.stderr
