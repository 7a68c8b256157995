"""The same task files through lm-evaluation-harness, on the same checkpoint: equal requests, likelihoods, numbers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from lm_eval_results import lm_eval_results
from tiny_models import lively_model, save_model, small_vocabulary

from gpt2cli.evaluation.tasks import TasksConfig, evaluate_tasks
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice
from gpt2cli.sizes import ModelShape

pytestmark = pytest.mark.slow
N_ITEMS = 220
HEAD = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
"""
TASKS = {
    "plain": """
output_type: multiple_choice
doc_to_text: "Q: {{question}}\\nA:"
doc_to_choice: options
doc_to_target: label
metric_list:
  - {metric: acc}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_bytes}
  - {metric: acc_mutual_info}
  - {metric: exact_match}
  - {metric: brier_score}
doc_to_decontamination_query: question
should_decontaminate: true
metadata: {version: 1.0}
""",
    "shots": """
output_type: multiple_choice
description: "Answer.\\n\\n"
doc_to_text: "{{ question.strip()|replace('e', 'E') }}{% for o in four %} ({{loop.index}}) {{o}}{% endfor %}\\n"
doc_to_choice: "{{ four }}"
doc_to_target: "{{ four.index(answer) }}"
target_delimiter: ""
fewshot_delimiter: "\\n##\\n"
fewshot_split: train
fewshot_config: {sampler: first_n}
num_fewshot: 2
""",
    "truth": """
output_type: multiple_choice
doc_to_text: "Is it so? {{question}}\\n"
doc_to_choice: ["no", "yes"]
doc_to_target: is_so
fewshot_split: train
fewshot_config: {sampler: first_n}
num_fewshot: 2
""",
    "letters": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: "{{ 'ABCD'[four.index(answer)] }}"
gen_prefix: "The answer:"
fewshot_config:
  sampler: first_n
  samples:
    - {question: "Who", four: [x, y], answer: y}
    - {question: "Why ", four: [x, y], answer: x}
num_fewshot: 1
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: mcc}]
""",
    "inputs": """
output_type: multiple_choice
doc_to_text: half
doc_to_choice: "{{ [question ~ ' ' ~ four[0], question ~ ' ' ~ four[1]] }}"
doc_to_target: "{{ question|regex_replace('^(\\\\\\\\w+).*', '\\\\\\\\1') }} and {{answer}}"
fewshot_split: train
fewshot_config: {sampler: first_n}
num_fewshot: 1
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: f1}]
""",
    "several": """
output_type: multiple_choice
doc_to_text: question
doc_to_choice: four
doc_to_target: "{{ [half, 3] }}"
""",
    "words": """
output_type: loglikelihood
doc_to_text: "{{ text.split(' ')[:-1]|join(' ') }}"
doc_to_target: "{{ ' ' ~ text.split(' ')[-1] }}"
""",
}

SHORT = ["plain", "letters", "words"]


def phrases(words: list[str], random_: random.Random, low: int, high: int) -> str:
    count = random_.randint(low, high)
    start = random_.randrange(len(words) - count)
    return " ".join(words[start : start + count])


@pytest.fixture(scope="module")
def task_files(tmp_path_factory: pytest.TempPathFactory, plays: Path) -> dict[str, Path]:
    """The task files above with data from a play; contexts end in spaces, some are longer than the model reads."""
    directory = tmp_path_factory.mktemp("tasks")
    words, random_ = (plays / "macbeth.txt").read_text(encoding="utf-8").split(), random.Random(3)
    with open(directory / "data.jsonl", "w", encoding="utf-8") as file:
        for _ in range(N_ITEMS):
            options = [phrases(words, random_, 1, 3) + random_.choice(["", "é", "’s"]) for _ in range(4)]
            four = [f"{number}{option}" for number, option in enumerate(options)]
            label = random_.randrange(4)
            file.write(json.dumps({
                "question": phrases(words, random_, 1, 8) + random_.choice(["", " ", "  ", "\n"]), "options": options,
                "label": label, "four": four, "answer": four[label], "half": label % 2, "is_so": bool(label % 2),
                "text": phrases(words, random_, 3, 20),
            }) + "\n")
    found = {}
    for name, body in TASKS.items():
        found[name] = directory / f"{name}.yaml"
        head = HEAD.format(name=name, data=directory / "data.jsonl")
        found[name].write_text(head + body, encoding="utf-8")
    return found


@pytest.fixture(scope="module", params=["transformers", "trained"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that transformers saved, and one that gpt2 train did."""
    if request.param == "trained":
        run: Path = request.getfixturevalue("tiny_run")
        return max((run / "checkpoints").iterdir())
    from transformers import AutoTokenizer, GPT2LMHeadModel

    directory = tmp_path_factory.mktemp("model")
    own = save_model(directory / "own", lively_model(ModelShape(2, 2, 16, 112, 500)), small_vocabulary())
    for part in (GPT2LMHeadModel, AutoTokenizer):
        part.from_pretrained(own).save_pretrained(directory / "theirs")
    return directory / "theirs"


@pytest.fixture(scope="module")
def names(model: Path) -> list[str]:
    """The tasks whose continuations fit the model."""
    return SHORT if "step-" in model.name else list(TASKS)


@pytest.fixture(scope="module")
def theirs(task_files: dict[str, Path], model: Path, names: list[str], tmp_path_factory: pytest.TempPathFactory
           ) -> dict[str, Any]:
    """lm_eval's results on all task files."""
    return lm_eval_results(model, names, task_files["plain"].parent, tmp_path_factory.mktemp("huggingface"), 100)


@pytest.fixture(scope="module")
def ours(task_files: dict[str, Path], model: Path, names: list[str]) -> dict[str, Any]:
    """Our records of the same: {task: (items, summary)}."""
    config = TasksConfig(ModelChoice(str(model)), tuple(str(task_files[name]) for name in names), text=True,
                         resamples=100)
    found: dict[str, Any] = {}
    items: list[dict[str, Any]] = []
    for kind, fields in evaluate_tasks(config, Silent()):
        if kind == "gpt2.item":
            items.append(fields)
        else:
            found[fields["task"]] = items, fields
            items = []
    return found


def test_every_item_is_equal(names: list[str], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in names:
        items, _ = ours[name]
        samples = sorted(theirs["samples"][name], key=lambda sample: sample["doc_id"])
        assert len(items) == len(samples) == N_ITEMS
        for item, sample in zip(items, samples, strict=True):
            assert_equal(item, sample)


def assert_equal(item: dict[str, Any], sample: dict[str, Any]) -> None:
    """One item: the strings that were asked, the likelihoods, each metric."""
    asked = [[argument[0], argument[1]] for argument in sample["arguments"]] if isinstance(
        sample["arguments"], list) else [[pair["arg_0"], pair["arg_1"]] for pair in sample["arguments"].values()]
    assert item["requests"] == asked[: len(item["requests"])]
    answers = [answer[0] for answer in sample["resps"]]
    nats = item["loglikelihoods_nats"] + item.get("baseline_nats", [])
    assert nats == pytest.approx([float(answer[0]) for answer in answers], rel=1e-5, abs=1e-4)
    greedy = [str(answer[1]) == "True" for answer in answers]
    assert item["greedy"] == greedy[: len(item["greedy"])]
    shared = set(item["metrics"]) & set(sample)
    assert shared and {name: item["metrics"][name] for name in shared} == {name: sample[name] for name in shared}


def test_every_number_is_equal(names: list[str], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in names:
        metrics, results = ours[name][1]["metrics"], theirs["results"][name]
        compared = {key.split(",")[0]: value for key, value in results.items() if key.endswith(",none")}
        assert set(metrics) == {key for key in compared if not key.endswith("_stderr")}
        for metric, measure in metrics.items():
            assert measure["value"] == pytest.approx(compared[metric], rel=1e-6, abs=1e-9), (name, metric)
            if measure["stderr_method"] == "sample":
                assert measure["stderr"] == pytest.approx(compared[f"{metric}_stderr"], rel=1e-9), (name, metric)
            assert measure["higher_is_better"] == theirs["higher_is_better"][name][metric]


def test_the_data_are_not_too_easy(names: list[str], ours: dict[str, Any]) -> None:
    if "shots" in names:
        assert ours["shots"][1]["n_truncated_items"] > 100
    assert 0.1 < ours["plain"][1]["metrics"]["acc"]["value"] < 0.6
    assert len({item["prediction"] for item in ours["plain"][0]}) == 4
    norm = [item["metrics"]["acc_norm"] for item in ours["plain"][0]]
    assert norm != [item["metrics"]["acc"] for item in ours["plain"][0]]
    assert norm != [item["metrics"]["acc_mutual_info"] for item in ours["plain"][0]]
