"""What is done to generated text before it is compared: the pipelines of filter_list, and what their functions do.

regex, take_first, take_first_k, majority_vote, remove_whitespace, lowercase, uppercase and map are lm_eval's;
first_sentences and sentence_lines (each on a line, for ROUGE-Lsum) are ours. A pattern's time is bounded by
bounded_patterns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.bounded_patterns import compile_pattern, find_all
from gpt2cli.evaluation.sentences import first_sentences, split_sentences
from gpt2cli.evaluation.task import Task

Step = Callable[[list[str]], list[str]]
"""From an item's answers (one, or as many as `repeats`) to answers."""


@dataclass(frozen=True)
class Pipeline:
    """The steps of one entry of filter_list, made ready."""

    name: str
    steps: tuple[Step, ...]

    def apply(self, answers: list[str], where: str) -> str:
        """Return what an item's answers become: the first that is left; raise BadInput, naming `where`."""
        try:
            for step in self.steps:
                answers = step(answers)
        except BadInput as error:
            raise BadInput(f"{where}: the filter {self.name} {error}") from None
        return answers[0]


def pipelines_of(task: Task) -> tuple[Pipeline, ...]:
    """Return a task's pipelines; where it has none, the one that takes the first answer as it is.

    Raises BadInput for an unknown function or option, and a wrong pattern.
    """
    made = []
    for entry in task.filters:
        steps = []
        for function, options in entry.steps:
            where = f"{task.where}: filter {entry.name}: {function}"
            maker = _MAKERS.get(function)
            if maker is None:
                raise BadInput(f"{where} is not supported; there are {', '.join(_MAKERS)}")
            steps.append(maker(dict(options), where))
        made.append(Pipeline(entry.name, tuple(steps)))
    if len({pipeline.name for pipeline in made}) < len(made):
        raise BadInput(f"{task.where}: two filters have the same name; their numbers could not be told apart")
    return tuple(made) or (Pipeline("none", ()),)


def _plain(function: Step) -> Callable[[dict[str, Any], str], Step]:
    def make(options: dict[str, Any], where: str) -> Step:
        _finish(options, where)
        return function

    return make


def _regex(options: dict[str, Any], where: str) -> Step:
    pattern = options.pop("regex_pattern", r"#### (\-?[0-9\.\,]+)")
    select, fallback = options.pop("group_select", 0), options.pop("fallback", "[invalid]")
    _finish(options, where)
    if not isinstance(pattern, str) or not isinstance(fallback, str) or not isinstance(select, int):
        raise BadInput(f"{where}: regex_pattern and fallback are texts, group_select is a whole number")
    try:
        compiled = compile_pattern(pattern)
    except BadInput as error:
        raise BadInput(f"{where} {error}") from None

    def extract(answer: str) -> str:
        found = find_all(answer, compiled)
        if not found:
            return fallback
        if not -len(found) <= select < len(found):
            return fallback
        match = found[select]
        if isinstance(match, tuple):
            match = next((group for group in match if group), fallback)
        return str(match).strip()

    return lambda answers: [extract(answer) for answer in answers]


def _map(options: dict[str, Any], where: str) -> Step:
    mapping, default = options.pop("mapping_dict", None), options.pop("default_value", None)
    _finish(options, where)
    if not isinstance(mapping, Mapping) or not all(isinstance(text, str) for pair in mapping.items() for text in pair):
        raise BadInput(f"{where}: mapping_dict is no mapping from text to text; quote numbers, yes and no")
    if not isinstance(default, str):
        raise BadInput(f"{where}: default_value must say, as text, what any other answer becomes")
    return lambda answers: [mapping.get(answer, default) for answer in answers]


def _take(options: dict[str, Any], where: str) -> Step:
    count = _count(options, "k", None, where)
    _finish(options, where)

    def take(answers: list[str]) -> list[str]:
        if len(answers) < count:
            raise BadInput(f"takes {count} answers and there are {len(answers)}; raise repeats")
        return answers[:count]

    return take


def _sentences(options: dict[str, Any], where: str) -> Step:
    count = _count(options, "n", 1, where)
    _finish(options, where)
    return lambda answers: [first_sentences(answer, count) for answer in answers]


def _count(options: dict[str, Any], name: str, default: int | None, where: str) -> int:
    value = options.pop(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{where}: {name} is {value!r}, not a whole number from 1 on")
    return value


def _finish(options: dict[str, Any], where: str) -> None:
    if options:
        raise BadInput(f"{where}: {next(iter(options))!r} is not supported")


_MAKERS: dict[str, Callable[[dict[str, Any], str], Step]] = {
    "regex": _regex,
    "take_first": _plain(lambda answers: answers[:1]),
    "take_first_k": _take,
    "majority_vote": _plain(lambda answers: [Counter(answers).most_common(1)[0][0]]),
    "remove_whitespace": _plain(lambda answers: [answer.strip() for answer in answers]),
    "lowercase": _plain(lambda answers: [answer.lower() for answer in answers]),
    "uppercase": _plain(lambda answers: [answer.upper() for answer in answers]),
    "map": _map,
    "first_sentences": _sentences,
    "sentence_lines": _plain(lambda answers: ["\n".join(split_sentences(answer)) for answer in answers]),
}
