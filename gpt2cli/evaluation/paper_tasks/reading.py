"""CoQA (Reddy et al. 2019): questions about a document, each after the ones before it and their right answers."""

from __future__ import annotations

from typing import Any

from gpt2cli.errors import BadInput, counted
from gpt2cli.evaluation.paper_tasks.preset import Preset, Source, one_path, read_bytes, records_of, task_of, text_field
from gpt2cli.evaluation.task import Doc, Filter, Task

MAX_TOKENS = 64
_NOTES = (
    'the prompt is the document, an empty line, then "Q: " and "A: " lines with the questions before and the right '
    'answers to them, then "A:"; the paper says no more than "A:"',
    f"greedy, until a line ends or {MAX_TOKENS} tokens",
    "F1 is CoQA's: words without articles and punctuation; with several people's answers each is left out once",
    "documents that leave no room lose their first tokens",
)


def _make(name: str, source: Source) -> Task:
    path = one_path(name, source)
    docs: list[Doc] = []
    for story in records_of(read_bytes(path), path, source.loss, data_field="data"):
        docs += _turns(story, len(docs))
    return task_of(name, "generate_until", docs, ("coqa_f1", "squad_em"), _NOTES, doc_to_text="prompt",
                   doc_to_target="answers", filters=(Filter("none", (("remove_whitespace", {}),)),),
                   generation={"until": ["\n"], "max_gen_toks": MAX_TOKENS})


def _turns(story: Doc, first: int) -> list[Doc]:
    text = text_field(story, "story").strip()
    questions, answers = _turn_texts(story, "questions"), _turn_texts(story, "answers")
    if len(questions) != len(answers) or not questions:
        raise BadInput(f"{story.where} has {counted(len(questions), 'question')} and {counted(len(answers), 'answer')}")
    further = story.fields.get("additional_answers") or {}
    if not isinstance(further, dict):
        raise BadInput(f"{story.where}: its additional_answers are no mapping")
    more = [_turn_texts(story, f"additional_answers {key}", value) for key, value in sorted(further.items())]
    prompt, docs = f"{text}\n", []
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        prompt += f"\nQ: {question}\nA:"
        golds = [answer, *(answers_[number] for answers_ in more if number < len(answers_))]
        docs.append(Doc(first + number, {"prompt": prompt, "answers": golds}, f"{story.where}, question {number + 1}"))
        prompt += f" {answer}"
    return docs


def _turn_texts(story: Doc, name: str, value: Any = None) -> list[str]:
    turns = story.fields.get(name) if value is None else value
    if not isinstance(turns, list) or not all(
            isinstance(turn, dict) and isinstance(turn.get("input_text"), str) for turn in turns):
        raise BadInput(f"{story.where}: its {name} are no list of objects with input_text")
    return [" ".join(turn["input_text"].split()) for turn in turns]


COQA = {"coqa": Preset("questions about a document, F1", "CoQA's own JSON (coqa-dev-v1.0.json)", _make,
                       {"coqa_f1": "coqa"})}
