"""The text of an item: its own question and answer, from every type of task and every preset."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.task_texts import item_texts, preset_item_texts

HEAD = {"task": "t", "dataset_path": "json", "test_split": "train", "description": "Answer this.", "num_fewshot": 1}


def lines(path: Path, *records: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.mark.parametrize(("record", "text"), [
    ({"context": "To be or not to", "choices": ["be", "bee"], "label": 1}, "To be or not to bee"),
    ({"context": "Who", "choices": ["a", "b"], "label": ["b", "a"]}, "Who b"),
    ({"context": "One", "continuation": " two"}, "One two"),
    ({"sentence": "It fits since _ is big.", "options": ["the cup", "the lid"], "label": "the lid"},
     "It fits since the lid is big."),
    ({"prompt": "Q: Why?\nA:", "answer": ["Because.", "No."]}, "Q: Why?\nA: Because."),
    ({"prompt": "Say: ", "answer": "yes"}, "Say: yes"),
    ({"text": "as it is, a last word \n"}, "as it is, a last word \n"),
])
def test_plain_records(tmp_path: Path, record: dict[str, Any], text: str) -> None:
    assert list(item_texts(lines(tmp_path / "p.jsonl", record, record))) == [("p", 0, text), ("p", 1, text)]


@pytest.mark.parametrize(("rules", "text"), [
    ({"output_type": "multiple_choice", "doc_to_text": "Q: {{q}}\nA:", "doc_to_choice": "c", "doc_to_target": "n"},
     "Q: who\nA: you"),
    ({"output_type": "multiple_choice", "doc_to_text": "n", "doc_to_choice": "{{ [c[0] ~ ' is', c[1] ~ ' are'] }}",
      "doc_to_target": "q"}, "you are who"),
    ({"output_type": "loglikelihood", "doc_to_text": "q", "doc_to_target": " {{c[0]}}"}, "who me"),
    ({"output_type": "generate_until", "doc_to_text": "q", "doc_to_target": "{{c}}", "gen_prefix": "It is"},
     "who It is me"),
])
def test_task_files_have_no_description_and_no_examples(tmp_path: Path, rules: dict[str, Any], text: str) -> None:
    data = lines(tmp_path / "d.jsonl", {"q": "who", "c": ["me", "you"], "n": 1}, {"q": "x", "c": ["y", "z"], "n": 0})
    path = tmp_path / "t.yaml"
    path.write_text(json.dumps({**HEAD, "dataset_kwargs": {"data_files": data}, **rules}))
    assert next(item_texts(str(path))) == ("t", 0, text)


def test_presets(tmp_path: Path) -> None:
    passages = lines(tmp_path / "l.jsonl", {"text": "a word and another word"})
    for name in ("lambada", "lambada-token", "lambada-beam"):
        assert list(preset_item_texts(name, [passages])) == [(name, 0, "a word and another word")]
    for name, example in (("arithmetic-1", "Q: What is"), ("analogies", " is to "), ("syllogisms", "Answer: yes")):
        texts = [text for _, _, text in preset_item_texts(name, [])]
        assert len(texts) == 1000 and example in texts[0]
    pairs = lines(tmp_path / "w.jsonl", *({"en": f"word {n}", "fr": f"mot {n}"} for n in range(7)))
    assert list(preset_item_texts("wmt14-en-fr", [pairs])) == [
        ("wmt14-en-fr", 5, "word 5 = mot 5"), ("wmt14-en-fr", 6, "word 6 = mot 6")], "the first five are examples"
    story = {"data": [{"story": "A cat sat.", "questions": [{"input_text": "Who?"}, {"input_text": "What?"}],
                       "answers": [{"input_text": "a cat"}, {"input_text": "it sat"}]}]}
    (tmp_path / "coqa.json").write_text(json.dumps(story))
    texts = [text for _, _, text in preset_item_texts("coqa", [str(tmp_path / "coqa.json")])]
    assert texts == ["A cat sat.\n\nQ: Who?\nA: a cat", "A cat sat.\n\nQ: Who?\nA: a cat\nQ: What?\nA: it sat"]


def test_what_is_no_task_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="its label is 4"):
        list(item_texts(lines(tmp_path / "a.jsonl", {"context": "a", "choices": ["b"], "label": 4})))
    for label in (True, [0, False]):
        with pytest.raises(BadInput, match="its label is true or false, which names no choice"):
            list(item_texts(lines(tmp_path / "a.jsonl", {"context": "a", "choices": ["b", "c"], "label": label})))
    with pytest.raises(UsageFault, match=r"there is no .*nowhere"):
        list(item_texts(str(tmp_path / "nowhere.yaml")))
    with pytest.raises(UsageFault, match="there is no preset 'x'"):
        list(preset_item_texts("x", []))


def test_texts_need_no_torch() -> None:
    program = "import sys, gpt2cli.evaluation.task_texts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
