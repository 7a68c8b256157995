"""Arithmetic from a seed: sums and differences of numbers with one to five digits."""

from __future__ import annotations

import random

from gpt2cli.errors import UsageFault
from gpt2cli.evaluation.paper_tasks.preset import Preset, Source, task_of
from gpt2cli.evaluation.task import Doc, Shots, Task

ITEMS = 1000
DIGITS = (1, 2, 3, 4, 5)
EXAMPLES = 4
MAX_EXAMPLES = 64


def _make(name: str, source: Source) -> Task:
    digits = int(name.rsplit("-", 1)[1])
    number = EXAMPLES if source.num_fewshot is None else source.num_fewshot
    if number > MAX_EXAMPLES:
        raise UsageFault(f"--preset {name} makes {MAX_EXAMPLES} examples, and --num-fewshot asks for {number}")
    drawn = random.Random(f"{name} {source.seed}")
    docs = [_question(item, digits, drawn) for item in range(ITEMS)]
    samples = tuple(dict(_question(item, digits, drawn).fields) for item in range(MAX_EXAMPLES))
    low, high = _range(digits)
    notes = (
        f"{ITEMS:,} questions drawn from --seed: plus or minus, numbers from {low:,} to {high:,}, no result below 0",
        "right is an answer of which each token, the line's end with them, is the most probable one",
        f"{number} solved examples, drawn from --seed for each item; the GPT-2 paper has no such task",
    )
    rules = {"doc_to_text": "question", "doc_to_target": "answer", "target_delimiter": "", "fewshot_delimiter": ""}
    return task_of(name, "loglikelihood", docs, ("acc", "perplexity"), notes, num_fewshot=number,
                   shots=Shots(samples=samples, sampler="default", **rules), **rules)  # type: ignore[arg-type]


def _question(number: int, digits: int, drawn: random.Random) -> Doc:
    low, high = _range(digits)
    first, second = drawn.randint(low, high), drawn.randint(low, high)
    plus = drawn.random() < 0.5
    if not plus:
        first, second = max(first, second), min(first, second)
    word, result = ("plus", first + second) if plus else ("minus", first - second)
    return Doc(number, {"question": f"Q: What is {first} {word} {second}?\nA:", "answer": f" {result}\n"},
               f"question {number + 1}")


def _range(digits: int) -> tuple[int, int]:
    return (0 if digits == 1 else 10 ** (digits - 1)), 10**digits - 1


ARITHMETIC = {
    f"arithmetic-{digits}": Preset(f"sums and differences of {digits}-digit numbers", "", _make) for digits in DIGITS
}
