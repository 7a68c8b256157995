"""Drawn and fixed examples against lm_eval's own samplers, duplicates of the record among them."""

from __future__ import annotations

import random

import pytest

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.task import Doc, Shots, Task
from gpt2cli.evaluation.task_fewshot import Examples


def docs(values: list[int]) -> list[Doc]:
    return [Doc(number, {"q": value}, f"record {number}") for number, value in enumerate(values)]


def task(sampler: str, *, own: bool) -> Task:
    return Task("t", "generate_until", {}, "test", "", "t.yaml", shots=Shots(sampler=sampler, exclude_own=own))


@pytest.mark.parametrize("sampler", ["default", "first_n"])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("seed", [1234, 7])
def test_examples_are_lm_evals(sampler: str, own: bool, seed: int) -> None:
    from lm_eval.api.samplers import get_sampler

    random_ = random.Random(seed)
    pool = docs([random_.randrange(9) for _ in range(24)])
    theirs = get_sampler(sampler)([doc.fields for doc in pool], rnd=None)
    theirs.set_rnd(seed)
    ours = Examples(task(sampler, own=own), pool, 4, seed)
    short = 0
    for doc in pool:
        expected = theirs.sample(n=4, eval_doc=doc.fields if own else None)
        found = [each.fields for each in ours.of(doc)]
        assert found == expected
        short += own and doc.fields in [each.fields for each in pool if each is not doc]
    assert short > 10 or not own


@pytest.mark.parametrize(("sampler", "own", "values", "there"), [
    ("default", False, [1, 2], 2), ("default", True, [1, 2, 3], 2), ("first_n", True, [1, 1, 2, 3], 2),
    ("default", True, [1, 1, 1, 2], 1), ("first_n", False, [], 0),
])
def test_too_few_examples(sampler: str, own: bool, values: list[int], there: int) -> None:
    with pytest.raises(BadInput, match=f"3 examples were asked for, and there (is|are) {there} to choose from"):
        Examples(task(sampler, own=own), docs(values), 3).of(Doc(0, {"q": 1}, "x"))


def test_none_are_asked_for() -> None:
    assert Examples(task("default", own=True), [], 0).of(Doc(0, {"q": 1}, "x")) == []
