"""A record made an item: its context with the examples before it, its continuations, and what is right.

Every string is put together exactly as lm-evaluation-harness does (api/task.py of 0.4.13), delimiters and all.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from gpt2cli.errors import BadInput, counted
from gpt2cli.evaluation.task import Doc, Item, Request, Task
from gpt2cli.evaluation.task_data import Split
from gpt2cli.evaluation.task_templates import Templates

MAX_LITERAL = 256 << 10
"""Most characters of a list that a template prints."""
BLANK = "_"
"""Where an option of a substitution goes."""


class Prompts:
    """Makes the items of one task. `split` tells which names are fields; `mutual_information` adds the baselines."""

    def __init__(self, task: Task, split: Split) -> None:
        self._task = task
        self._fields = split.fields
        self._templates = Templates()
        self._mutual_information = any(metric.name == "acc_mutual_info" for metric in task.metrics)

    def item(self, doc: Doc, examples: Sequence[Doc]) -> Item:
        """Return a record's item; raise BadInput for a record that lacks what the task asks of it."""
        if self._task.type == "substitution":
            return self._substitution(doc, "".join(self._solved(example) for example in examples))
        if self._task.type == "cloze":
            return self._cloze(doc, "".join(self._solved(example) for example in examples))
        before = self._before(doc, examples)
        if self._task.type == "multiple_choice":
            return self._multiple_choice(doc, before)
        question = _text_of(self._text(doc, self._task.doc_to_text), "doc_to_text", doc)
        context = before + self._asked(doc, question, self._task.target_delimiter)
        target = self._target(doc, self._task.doc_to_target)
        if self._task.type == "loglikelihood":
            continuation = _text_of(target, "doc_to_target", doc)
            return Item(doc, context, target=continuation, requests=(Request(context, continuation),))
        return Item(doc, context, target=self._generated_target(doc, target))

    def _multiple_choice(self, doc: Doc, before: str) -> Item:
        task, choices = self._task, self._choices(doc, self._task.doc_to_choice)
        text, delimiter = self._text(doc, task.doc_to_text), task.target_delimiter
        if isinstance(text, int):
            target = _text_of(self._target(doc, task.doc_to_target), "doc_to_target", doc, numbers=True)
            requests = [Request(before + self._asked(doc, choice, ""), delimiter + target) for choice in choices]
            right: Any = text
        else:
            context = before + self._asked(doc, text, delimiter)
            requests = [Request(context, delimiter + choice) for choice in choices]
            right = self._target(doc, task.doc_to_target)
        baseline = [Request("", delimiter + choice) for choice in choices] if self._mutual_information else []
        return Item(doc, requests[0].context, choices, _label(right, choices, doc), tuple(requests), tuple(baseline))

    def _substitution(self, doc: Doc, before: str) -> Item:
        head, tail = self._around_blank(doc)
        choices = self._choices(doc, self._task.doc_to_choice)
        partial = [Request(before + head + choice, tail) for choice in choices]
        full = [Request(before, head + choice + tail) for choice in choices]
        label = _label(self._target(doc, self._task.doc_to_target), choices, doc)
        return Item(doc, before + head, choices, label, tuple(partial), tuple(full))

    def _cloze(self, doc: Doc, before: str) -> Item:
        whole = _text_of(self._field(self._task.doc_to_text, doc), self._task.doc_to_text, doc).rstrip()
        cut = max((place for place, character in enumerate(whole) if character.isspace()), default=0)
        context, word = whole[:cut], whole[cut:]
        if not context.strip():
            raise BadInput(f"{doc.where}: its text has fewer than two words, so no last word can be asked for")
        return Item(doc, before + context, target=word.strip(), requests=(Request(before + context, word),))

    def _around_blank(self, doc: Doc) -> tuple[str, str]:
        sentence = _text_of(self._field(self._task.doc_to_text, doc), self._task.doc_to_text, doc)
        blanks = sentence.count(BLANK)
        if blanks != 1:
            raise BadInput(f"{doc.where}: its sentence holds {blanks} blanks ({BLANK}), and must hold one")
        head, tail = sentence.split(BLANK)
        if not tail.strip():
            raise BadInput(f"{doc.where}: nothing follows the blank, so there is nothing to score")
        return head, tail

    def _solved(self, example: Doc) -> str:
        """Return an example of a type that has no question: its whole text."""
        task = self._task
        if task.type == "cloze":
            return _text_of(self._field(task.doc_to_text, example), "text", example).rstrip() + task.fewshot_delimiter
        head, tail = self._around_blank(example)
        choices = self._choices(example, task.doc_to_choice)
        label = _label(self._target(example, task.doc_to_target), choices, example)
        return head + choices[label if isinstance(label, int) else label[0]] + tail + task.fewshot_delimiter

    def _before(self, doc: Doc, examples: Sequence[Doc]) -> str:
        """Return the description and the solved examples."""
        shots = self._task.shots
        parts = [self._text_or_template(self._task.description, doc)]
        for example in examples:
            question = self._text(example, shots.doc_to_text)
            choices = self._choices(example, shots.doc_to_choice) if shots.doc_to_choice is not None else None
            answer = self._target(example, shots.doc_to_target)
            if isinstance(question, int):
                question, choices = _chosen(choices, question, example), None
            prefix = self._text_or_template(shots.gen_prefix, example)
            parts.append(_turn(question, _answer(answer, choices, example), prefix, shots.target_delimiter,
                               shots.fewshot_delimiter))
        return "".join(parts)

    def _asked(self, doc: Doc, question: str, delimiter: str) -> str:
        return _turn(question, None, self._text_or_template(self._task.gen_prefix, doc), delimiter, "")

    def _text(self, doc: Doc, rule: Any) -> str | int:
        value = self._resolve(rule, doc)
        if isinstance(value, str) and rule not in self._fields:
            value = self._number(value)
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise BadInput(f"{doc.where}: doc_to_text gives {type(value).__name__}, not text")
        return value

    def _target(self, doc: Doc, rule: Any) -> Any:
        value = self._resolve(rule, doc)
        if isinstance(value, str) and not (isinstance(rule, str) and rule in self._fields):
            number = self._number(value)
            if isinstance(number, int):
                return number
            if len(value) >= 2 and value[0] == "[" and value[-1] == "]":
                return _literal(value, doc, fallback=value)
        return value

    def _number(self, text: str) -> str | int:
        is_number = self._task.doc_to_choice is not None and text.isascii() and text.isdigit() and len(text) < 10
        return int(text) if is_number else text

    def _choices(self, doc: Doc, rule: Any) -> tuple[str, ...]:
        value = self._resolve(rule, doc) if isinstance(rule, str) else rule
        if isinstance(rule, str) and rule not in self._fields:
            value = _literal(value, doc)
        if isinstance(value, Mapping):
            value = list(value.values())
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(choice, str) for choice in value):
            raise BadInput(f"{doc.where}: its choices are no list of texts")
        return tuple(value)

    def _resolve(self, rule: Any, doc: Doc) -> Any:
        if not isinstance(rule, str):
            return rule
        return self._field(rule, doc) if rule in self._fields else self._templates.render(rule, doc.fields, doc.where)

    def _text_or_template(self, rule: str | None, doc: Doc) -> str:
        return _text_of(self._resolve(rule, doc), rule or "", doc) if rule else ""

    def _field(self, name: str, doc: Doc) -> Any:
        if name not in doc.fields:
            raise BadInput(f"{doc.where} has no field {name!r}")
        return doc.fields[name]

    def _generated_target(self, doc: Doc, target: Any) -> str | tuple[str, ...]:
        if self._task.doc_to_choice is not None and isinstance(target, int):
            return _chosen(self._choices(doc, self._task.doc_to_choice), target, doc)
        if isinstance(target, (list, tuple)):
            if not target or not all(isinstance(part, (str, int, float)) for part in target):
                raise BadInput(f"{doc.where}: its answers are no list of texts")
            return tuple(str(part) for part in target)
        return _text_of(target, "doc_to_target", doc, numbers=True)


def _turn(question: str, answer: str | None, prefix: str, delimiter: str, after: str) -> str:
    """Return a question with its answer, or, without one, as it is asked (and the beginning of its answer)."""
    apart = delimiter if _apart(question, prefix) else ""
    if answer is None:
        return question + (apart if prefix else "") + prefix
    solved = prefix + (" " if _apart(prefix, answer) else "") + answer
    return question + (apart if prefix else delimiter) + solved + after


def _apart(left: str, right: str) -> bool:
    """Whether two texts touch without white space between them."""
    return left != "" and right != "" and not (left[-1].isspace() or right[0].isspace())


def _answer(target: Any, choices: tuple[str, ...] | None, doc: Doc) -> str | None:
    if isinstance(target, (list, tuple)) and target:
        target = target[0]
    if choices and isinstance(target, int):
        return _chosen(choices, target, doc)
    return _text_of(target, "doc_to_target", doc) or None


def _chosen(choices: tuple[str, ...] | None, index: int, doc: Doc) -> str:
    if not choices or not 0 <= index < len(choices):
        there = counted(len(choices or ()), "choice")
        raise BadInput(f"{doc.where}: its label is {index}, and it has {there}, counted from 0")
    return choices[index]


def _label(value: Any, choices: tuple[str, ...], doc: Doc) -> int | tuple[int, ...]:
    if isinstance(value, (list, tuple)):
        if not value:
            raise BadInput(f"{doc.where}: its list of right answers is empty")
        return tuple(_index(part, choices, doc) for part in value)
    return _index(value, choices, doc)


def _index(value: Any, choices: tuple[str, ...], doc: Doc) -> int:
    if isinstance(value, str):
        if value not in choices:
            raise BadInput(f"{doc.where}: its answer {value[:60]!r} is none of its {counted(len(choices), 'choice')}")
        return choices.index(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        raise BadInput(f"{doc.where}: its label is {type(value).__name__}, neither a number nor one of its choices")
    _chosen(choices, value, doc)
    return int(value)


def _text_of(value: Any, name: str, doc: Doc, *, numbers: bool = False) -> str:
    if numbers and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadInput(f"{doc.where}: {name} gives {type(value).__name__} where text is needed")
    return value


def _literal(text: str, doc: Doc, fallback: Any = None) -> Any:
    """Return the value of a Python literal, which is how lm_eval reads the list that a template prints."""
    try:
        if len(text) > MAX_LITERAL:
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if fallback is not None:
            return fallback
        raise BadInput(f"{doc.where}: doc_to_choice prints no list of texts but {text[:60]!r}") from None
