"""What a task file may say, what is refused by name, and what a record may lack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.evaluation.task import Item
from gpt2cli.evaluation.task_data import read_split
from gpt2cli.evaluation.task_fewshot import Examples
from gpt2cli.evaluation.task_file import load_task, task_of_mapping
from gpt2cli.evaluation.task_prompts import Prompts
from gpt2cli.tokens.unicode_loss import UnicodeLoss

SOUND: dict[str, Any] = {
    "task": "t", "dataset_path": "json", "dataset_kwargs": {"data_files": "x.jsonl"}, "test_split": "train",
    "output_type": "multiple_choice", "doc_to_text": "q", "doc_to_target": "label", "doc_to_choice": "c",
}


@pytest.mark.parametrize(("change", "words"), [
    ({"process_docs": "x"}, "process_docs is Python code"),
    ({"group": "g"}, "a group of tasks"),
    ({"task": ["a", "b"]}, "a group of tasks"),
    ({"doc_to_image": "x"}, "doc_to_image"),
    ({"unsafe_code": True}, "unsafe_code"),
    ({"colour": 1}, "'colour' is not supported"),
    ({"dataset_path": "super_glue"}, "only json is read"),
    ({"dataset_kwargs": {}}, "no data_files"),
    ({"dataset_kwargs": {"data_files": "https://x/y.json"}}, "not a local file"),
    ({"dataset_kwargs": {"data_files": "x", "streaming": True}}, "dataset_kwargs: 'streaming' is not supported"),
    ({"test_split": None}, "neither test_split nor validation_split"),
    ({"test_split": "test"}, "'test' is not among its data files"),
    ({"output_type": "loglikelihood_rolling"}, "output_type is 'loglikelihood_rolling'"),
    ({"output_type": "cloze"}, "plain JSONL"),
    ({"doc_to_choice": None}, "needs doc_to_choice"),
    ({"doc_to_choice": [True, False]}, "quote numbers, yes and no"),
    ({"doc_to_text": None}, "has no doc_to_text"),
    ({"doc_to_text": ["x"]}, "doc_to_text is a list"),
    ({"num_fewshot": -1}, "num_fewshot"),
    ({"repeats": 0}, "repeats"),
    ({"target_delimiter": 1}, "target_delimiter is a number"),
    ({"metric_list": [{"metric": "bleu"}]}, "no metric 'bleu' for multiple_choice; there are acc"),
    ({"metric_list": [{"metric": "acc", "aggregation": "f1"}]}, "cannot be aggregated by f1"),
    ({"metric_list": [{"metric": "acc", "aggregation": "sum"}]}, "aggregation is 'sum'"),
    ({"metric_list": [{"metric": "acc", "ignore_case": True}]}, "'ignore_case' is not supported"),
    ({"metric_list": [{"metric": "acc"}, {"metric": "acc"}]}, "names a metric twice"),
    ({"metric_list": []}, "metric_list is empty"),
    ({"metric_list": ["acc"]}, "no list of mappings"),
    ({"generation_kwargs": {"until": ["x"]}}, "goes with generate_until"),
    ({"fewshot_config": {"sampler": "balanced"}}, "sampler is 'balanced'"),
    ({"fewshot_config": {"process_docs": "x"}}, "process_docs is Python code"),
    ({"fewshot_config": {"fewshot_indices": [1]}}, "'fewshot_indices' is not supported"),
    ({"fewshot_config": {"samples": "x"}}, "no list of records"),
])
def test_what_is_not_supported_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        task_of_mapping(SOUND | change, "t.yaml", "")
    assert words in str(caught.value) and str(caught.value).startswith("t.yaml")


def items_of(path: Path, number: int = 0) -> list[Item]:
    loss = UnicodeLoss()
    task = load_task(str(path), loss)
    split = read_split(task, task.split, loss)
    examples, prompts = Examples(task, split.docs, number), Prompts(task, split)
    return [prompts.item(doc, examples.of(doc)) for doc in split.docs]


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def asked(item: Item) -> list[tuple[str, str]]:
    return [(request.context, request.continuation) for request in item.requests]


def test_plain_records_of_every_shape(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    one, two = items_of(write(path, {"context": "a", "choices": ["b", "c"], "label": "c"},
                              {"context": "d", "choices": ["e"], "label": [0]}))
    assert (asked(one), one.target, two.target) == ([("a", " b"), ("a", " c")], 1, (0,))
    assert asked(items_of(path, 1)[1]) == [("a c\n\nd", " e")], "the other record is the example"
    (likelihood,) = items_of(write(path, {"context": "a", "continuation": " b"}))
    assert asked(likelihood) == [("a", " b")]
    cloze, last = items_of(write(path, {"text": "the end  is\nnear \n"}, {"text": "a b"}))
    assert (asked(cloze), cloze.target) == ([("the end  is", "\nnear")], "near")
    assert asked(items_of(path, 1)[1]) == [("the end  is\nnear\n\na", " b")] and asked(last) == [("a", " b")]
    record = {"sentence": "The cup fell because _ was wet.", "options": ["the cup", "it"], "label": 0}
    (blank,) = items_of(write(path, record))
    assert asked(blank) == [("The cup fell because the cup", " was wet."), ("The cup fell because it", " was wet.")]
    assert [request.continuation for request in blank.baseline][1] == "The cup fell because it was wet."


def test_byte_order_marks_crlf_blank_lines_and_lists(tmp_path: Path) -> None:
    records = [{"text": f"one {number}"} for number in range(3)]
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(json.dumps(record).encode() for record in records))
    as_list = tmp_path / "x.json"
    as_list.write_text(json.dumps(records, indent=1))
    assert [asked(item) for item in items_of(path)] == [asked(item) for item in items_of(as_list)]
    assert [item.doc.number for item in items_of(path)] == [0, 1, 2]
    (tmp_path / "t.yaml").write_text(json.dumps({
        **SOUND, "dataset_kwargs": {"data_files": {"test": ["in.json"]}, "field": "rows"}, "test_split": "test"}))
    (tmp_path / "in.json").write_text(json.dumps({"rows": [{"q": "x", "c": ["y", "z"], "label": 1}]}))
    assert items_of(tmp_path / "t.yaml")[0].target == 1, "data are found beside the task file"


def test_lone_surrogates_are_replaced_and_counted(tmp_path: Path) -> None:
    path, loss = tmp_path / "x.jsonl", UnicodeLoss()
    path.write_bytes(rb'{"context":"a\ud800","choices":["\udfff","b\ud83d\ude00"],"label":1}' + b"\n")
    task = load_task(str(path), loss)
    assert task.docs is not None and task.docs[0].fields["context"] == "a\ufffd"
    assert (task.docs[0].fields["choices"], loss.surrogates) == (["\ufffd", "b\U0001f600"], 2)


@pytest.mark.parametrize(("records", "words"), [
    ([], "holds no record"),
    ([{"answer": 1}], "line 1 is no record of a task"),
    ([{"text": "a b"}, {"txt": 1}], "line 2 has no field 'text'"),
    ([{"text": "word"}], "fewer than two words"),
    ([{"context": "a", "choices": ["b"], "label": 1}], "its label is 1, and it has 1 choice,"),
    ([{"context": "a", "choices": ["b"], "label": -1}], "its label is -1"),
    ([{"context": "a", "choices": ["b"], "label": "c"}], "'c' is none of its 1 choice"),
    ([{"context": "a", "choices": ["b"], "label": None}], "its label is NoneType"),
    ([{"context": "a", "choices": ["b"], "label": []}], "right answers is empty"),
    ([{"context": "a", "choices": [], "label": 0}], "no list of texts"),
    ([{"context": "a", "choices": ["b", 2], "label": 0}], "no list of texts"),
    ([{"context": ["a"], "choices": ["b"], "label": 0}], "line 1: its context is no text"),
    ([{"context": 1, "choices": ["b", "c"], "label": "c"}], "line 1: its context is no text"),
    ([{"context": "a", "choices": ["b"]}], "line 1 has no field 'label'"),
    ([{"context": "a", "choices": ["b"], "label": 0}, {"context": 0, "choices": ["b"], "label": 0}],
     "line 2: its context is no text"),
    ([{"context": "a", "continuation": 3}], "doc_to_target gives int"),
    ([{"sentence": "a b", "options": ["c"], "label": 0}], "holds 0 blanks"),
    ([{"sentence": "a _ ", "options": ["c"], "label": 0}], "nothing follows the blank"),
    (["x"], "a JSON object was expected"),
])
def test_records_that_lack_something_are_named(tmp_path: Path, records: list[Any], words: str) -> None:
    with pytest.raises(Gpt2Error) as caught:
        items_of(write(tmp_path / "x.jsonl", *records))
    assert words in str(caught.value) and "x.jsonl" in str(caught.value)


def test_examples_that_are_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"text": "a b"}, {"text": "c d"})
    with pytest.raises(BadInput, match="2 examples were asked for, and there is 1"):
        items_of(path, 2)
    with pytest.raises(UsageFault, match=r"there is no .*nowhere"):
        load_task(str(tmp_path / "nowhere.yaml"), UnicodeLoss())
