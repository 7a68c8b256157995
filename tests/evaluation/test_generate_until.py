"""generate_until and drawn examples through lm-evaluation-harness, on the same checkpoint: equal, item by item."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from lm_eval_results import lm_eval_results
from tiny_models import lively_model, save_model, small_vocabulary

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.generation_settings import GenerationSettings, cut_at_stops, generation_settings
from gpt2cli.evaluation.task import Task
from gpt2cli.evaluation.tasks import TasksConfig, evaluate_tasks
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice
from gpt2cli.sizes import ModelShape

N_ITEMS = 210
HEAD = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{train: {data}, shots: {shots}}}
test_split: train
output_type: generate_until
"""
TASKS = {
    "short": """
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: answer
generation_kwargs: {until: ["e", " the", "\\n"], max_gen_toks: 12}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true, ignore_punctuation: true,
     regexes_to_ignore: ["\\\\s+", "[aiou]"]}
filter_list:
  - name: letters
    filter:
      - {function: regex, regex_pattern: "([a-z]+)|([^a-z]+)", group_select: -1, fallback: none}
      - {function: take_first}
  - name: bare
    filter: [{function: remove_whitespace}, {function: lowercase}, {function: take_first}]
""",
    "drawn": """
doc_to_text: "{{question}}"
doc_to_target: answer
fewshot_split: shots
num_fewshot: 3
generation_kwargs: {max_gen_toks: 20, do_sample: false, temperature: 0.7}
metric_list: [{metric: exact_match}, {metric: bleu}]
""",
    "own": """
doc_to_text: "{{question}} ->"
doc_to_target: several
fewshot_split: train
num_fewshot: 2
target_delimiter: ""
generation_kwargs: {until: "a", max_new_tokens: 16}
metric_list: [{metric: exact_match, ignore_numbers: true}]
""",
    "choices": """
output_type: multiple_choice
doc_to_text: question
doc_to_choice: several
doc_to_target: 0
fewshot_split: train
num_fewshot: 2
""",
}


@pytest.fixture(scope="module")
def task_files(tmp_path_factory: pytest.TempPathFactory, plays: Path) -> dict[str, Path]:
    """Task files with lines of a play. Some prompts are empty, some longer than the model reads, some records equal."""
    directory = tmp_path_factory.mktemp("tasks")
    words, random_ = (plays / "macbeth.txt").read_text(encoding="utf-8").split(), random.Random(5)

    def record() -> dict[str, Any]:
        start, length = random_.randrange(len(words) - 90), random_.choice([1, 2, 3, 5, 8, 13, 80])
        answer = random_.choice(["", " e", "ou", "é", words[start + length]])
        return {"question": " ".join(words[start : start + length]), "answer": answer or "x",
                "several": [answer or "1", words[start]]}

    for name, count in (("data", N_ITEMS - 8), ("shots", 12)):
        records = [record() for _ in range(count)]
        records += records[:8] if name == "data" else []
        lines = [json.dumps(fields) + "\n" for fields in records]
        (directory / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    found = {}
    for name, body in TASKS.items():
        head = HEAD.format(name=name, data=directory / "data.jsonl", shots=directory / "shots.jsonl")
        if "output_type" in body:
            head = head.replace("output_type: generate_until\n", "")
        found[name] = directory / f"{name}.yaml"
        found[name].write_text(head + body, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "m", lively_model(ModelShape(2, 2, 16, 96, 500)),
                      small_vocabulary())


@pytest.fixture(scope="module")
def theirs(task_files: dict[str, Path], model: Path, tmp_path_factory: pytest.TempPathFactory
           ) -> dict[str, Any]:
    """lm_eval's results on all task files."""
    home = tmp_path_factory.mktemp("huggingface")
    return lm_eval_results(model, list(task_files), task_files["short"].parent, home, 10)


def evaluate(paths: list[Path], model: Path, **options: Any) -> dict[str, Any]:
    """Return {task: (items, summary)} of our own."""
    config = TasksConfig(ModelChoice(str(model)), tuple(map(str, paths)), text=True, resamples=10, **options)
    found: dict[str, Any] = {}
    items: list[dict[str, Any]] = []
    for kind, fields in evaluate_tasks(config, Silent()):
        if kind == "gpt2.item":
            items.append(fields)
        else:
            found[fields["task"]] = items, fields
            items = []
    return found


@pytest.fixture(scope="module")
def ours(task_files: dict[str, Path], model: Path) -> dict[str, Any]:
    return evaluate(list(task_files.values()), model)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TASKS if name != "choices"])
def test_every_text_is_equal(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    items, summary = ours[name]
    samples: dict[int, dict[str, Any]] = {}
    filtered: dict[int, dict[str, str]] = {}
    for sample in theirs["samples"][name]:
        samples[sample["doc_id"]] = sample
        answer = sample["filtered_resps"]
        filtered.setdefault(sample["doc_id"], {})[sample["filter"]] = answer if isinstance(answer, str) else answer[0]
    assert len(items) == len(samples) == N_ITEMS
    for item in items:
        sample = samples[item["item"]]
        assert item["context"] == _asked(sample)[0]
        assert item["generated"] == sample["resps"][0][0]
        assert item.get("predictions", {"none": item.get("prediction")}) == filtered[item["item"]]
    assert len({item["generated"] for item in items}) > 15
    results = theirs["results"][name]
    for metric, measure in summary["metrics"].items():
        key = metric if "," in metric else f"{metric},none"
        assert measure["value"] == pytest.approx(results[key], rel=1e-9), metric
        if measure["stderr_method"] == "sample":
            assert measure["stderr"] == pytest.approx(results[f"{key.replace(',', '_stderr,')}"], rel=1e-9)


def _asked(sample: dict[str, Any]) -> list[Any]:
    arguments = sample["arguments"]
    if isinstance(arguments, dict):
        return [arguments["gen_args_0"]["arg_0"]]
    return list(arguments[0])


@pytest.mark.slow
def test_drawn_examples_stand_before_choices_too(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    samples = {sample["doc_id"]: sample for sample in theirs["samples"]["choices"]}
    for item in ours["choices"][0]:
        arguments = samples[item["item"]]["arguments"]
        first = arguments["gen_args_0"]["arg_0"] if isinstance(arguments, dict) else arguments[0][0]
        assert item["requests"][0][0] == first
    assert len({item["context"].split("\n\n")[0] for item in ours["choices"][0]}) > 50


def test_the_data_exercise_the_rules(ours: dict[str, Any]) -> None:
    items, summary = ours["short"]
    assert {item["finish_reason"][0] for item in items} >= {"stop", "length"}
    assert 0 < summary["n_truncated_items"] < N_ITEMS
    assert set(summary["metrics"]) == {"exact_match,letters", "exact_match,bare"}


def test_batches_change_nothing(task_files: dict[str, Path], model: Path, ours: dict[str, Any]) -> None:
    alone = evaluate([task_files["short"]], model, budget=1, limit=40)["short"][0]
    assert alone == ours["short"][0][:40]


def test_sampling_depends_on_the_seed_and_the_item_alone(task_files: dict[str, Path], model: Path, tmp_path: Path
                                                         ) -> None:
    text = task_files["short"].read_text(encoding="utf-8")
    hot = tmp_path / "hot.yaml"
    hot.write_text(text.replace("max_gen_toks: 12", "max_gen_toks: 12, do_sample: true, temperature: 0.9, top_k: 20")
                   + "\nrepeats: 2\n", encoding="utf-8")
    one, again = (evaluate([hot], model, limit=limit)["short"][0] for limit in (30, 12))
    assert one[:12] == again
    other = evaluate([hot], model, limit=12, seed=5)["short"][0]
    assert [item["generated"] for item in other] != [item["generated"] for item in again]
    assert any(len(set(item["generated"])) == 2 for item in one)


def task(**generation: Any) -> Task:
    return Task("t", "generate_until", {}, "records", "", "t.yaml", generation=generation)


def test_settings() -> None:
    assert generation_settings(task()) == GenerationSettings(("\n\n",))
    assert generation_settings(task(until="a", max_tokens=3)).until == ("a",)
    assert generation_settings(task(temperature=0.5)) == GenerationSettings(("\n\n",), None, 0.5, 50)
    assert generation_settings(task(temperature=0.5, do_sample=False)).temperature == 0
    assert generation_settings(task(do_sample=True, top_k=0, top_p=0.9)) == GenerationSettings(
        ("\n\n",), None, 1.0, None, 0.9)
    assert [generation_settings(task()).most_tokens(n_ctx) for n_ctx in (1024, 512, 100, 1)] == [256, 256, 50, 1]


@pytest.mark.parametrize(("generation", "said"), [
    ({"num_beams": 4}, "num_beams is not supported"),
    ({"until": [""]}, "until"),
    ({"until": 7}, "until"),
    ({"max_gen_toks": 0}, "max_gen_toks"),
    ({"max_gen_toks": 1.5}, "whole number"),
    ({"temperature": "hot"}, "temperature"),
    ({"do_sample": True, "temperature": 0.0}, "temperature 0"),
    ({"do_sample": "yes"}, "do_sample"),
    ({"top_p": 0}, "top_p"),
])
def test_settings_that_make_no_sense(generation: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        generation_settings(task(**generation))


def test_stops_are_cut_one_after_the_other() -> None:
    assert cut_at_stops("one\ntwo. three", (". ", "\n")) == "one"
    assert cut_at_stops("one<|endoftext|>two", ()) == "one"


def test_no_room_for_a_prompt(task_files: dict[str, Path], model: Path, tmp_path: Path) -> None:
    text = task_files["short"].read_text(encoding="utf-8").replace("max_gen_toks: 12", "max_gen_toks: 96")
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="max_gen_toks is 96 and the model has 96 positions"):
        evaluate([tmp_path / "t.yaml"], model)
