"""Ladders for the time there is: what they hold, that they fit, and that their words are options of gpt2 train."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gpt2cli.cli import train
from gpt2cli.errors import UsageFault
from gpt2cli.scaling.ladder import (
    BATCH_TOKENS,
    MOST_EPOCHS,
    SHAPES,
    SHORTEST_STEPS,
    SPAN,
    WIDTHS,
    Ladder,
    Speed,
    branch_step,
    network,
    peak_lr,
    plan_ladder,
    plan_shapes,
)
from gpt2cli.scaling.ladder_words import make_words, rung_words
from gpt2cli.sizes import ModelShape

DATA = ModelShape(1, 1, 1, 32, 512)
SPEED = Speed({16: 0.007, 48: 0.011, 128: 0.035}, 2.5)
TOKENS = 2_400_000


def ladder(minutes: float = 5, jobs: int = 2, speed: Speed = SPEED, tokens: int = TOKENS) -> Ladder:
    return plan_ladder(minutes, jobs, speed, DATA, tokens)


def test_the_ladder_of_five_minutes_holds_what_a_fit_needs() -> None:
    plan = ladder()
    assert plan.seconds <= 300
    held = [rung for rung in plan.rungs if rung.held_out]
    trunks = [rung for rung in plan.rungs if rung.steps is None]
    assert len(held) == 1 and held[0].steps == plan.steps[-1]
    assert len(trunks) >= 4 and max(trunk.shape.n_params for trunk in trunks) < held[0].shape.n_params
    assert min(trunk.shape.n_embd for trunk in trunks) == held[0].shape.n_embd // 4
    assert plan.steps[0] >= SHORTEST_STEPS and plan.steps[-1] >= SPAN * plan.steps[0]
    for trunk in trunks:
        ends = sorted(rung.steps for rung in plan.rungs if rung.network == trunk.network and rung.steps)
        assert tuple(ends) == plan.steps
    assert len({rung.name for rung in plan.rungs}) == len(plan.rungs)
    assert len({rung.shape.n_layer for rung in plan.rungs}) == 1
    assert plan.steps[-1] * BATCH_TOKENS <= MOST_EPOCHS * TOKENS


@pytest.mark.parametrize("minutes", [3, 5, 8, 13, 20, 40])
@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_every_ladder_is_in_time_and_every_branch_begins_at_a_checkpoint(minutes: int, jobs: int) -> None:
    try:
        plan = ladder(minutes, jobs)
    except UsageFault as error:
        assert jobs == 1 and "too few" in str(error)
        return
    assert plan.seconds <= 60 * minutes
    every = branch_step(plan.steps[0])
    for steps in plan.steps:
        assert branch_step(steps) % every == 0 and branch_step(steps) <= plan.trunk_steps


def test_more_time_widens_the_model_held_out_until_the_text_ends() -> None:
    held = [ladder(minutes, tokens=10**8).rungs[0].shape.n_embd for minutes in (5, 15, 60, 240)]
    assert held == sorted(held) and held[-1] > held[0]
    assert ladder(600).data_bound and not ladder(5, tokens=10**8).data_bound


def test_time_that_the_text_cannot_fill_goes_to_widths_between_at_the_same_lengths() -> None:
    bound, dense = ladder(32), ladder(60)
    assert bound.data_bound and dense.data_bound and bound.steps == dense.steps
    widths = [{rung.shape.n_embd for rung in plan.rungs} for plan in (bound, dense)]
    assert widths == [{192, 128, 96, 64, 48}, {192, 128, 112, 96, 80, 64, 56, 48}]
    assert ladder(5).seconds <= 300 and {rung.shape.n_embd for rung in ladder(5).rungs} <= set(WIDTHS)


def test_what_is_too_little() -> None:
    with pytest.raises(UsageFault, match=r"the shortest ladder would take [0-9.]+ minutes here, 2 runs at a time"):
        ladder(0.5)
    with pytest.raises(UsageFault, match="the shards have 100,000: pack more text"):
        ladder(5, tokens=100_000)
    with pytest.raises(UsageFault, match=r"do not fit into --minutes 0\.1"):
        plan_shapes(0.1, 2, SPEED, DATA, TOKENS)


def test_speed_between_and_beyond_the_widths_measured() -> None:
    assert SPEED.of(network(48, DATA)) == pytest.approx(0.011)
    assert 0.007 < SPEED.of(network(32, DATA)) < 0.011
    wide, wider = network(128, DATA), network(256, DATA)
    ratio = wider.train_flops_per_token() / wide.train_flops_per_token()
    assert SPEED.of(wider) == pytest.approx(0.035 * ratio)
    assert SPEED.of(network(8, DATA)) == pytest.approx(0.007), "a step never costs less than its overhead"


def test_the_rule_of_rates() -> None:
    assert [peak_lr(width) for width in (16, 24, 48, 96)] == [0.01, 0.0078, 0.0052, 0.0034]


def test_shapes_share_one_size_and_one_length() -> None:
    plan = plan_shapes(5, 2, SPEED, DATA, TOKENS)
    sizes = [rung.shape.n_params_non_embedding for rung in plan.rungs]
    assert max(sizes) / min(sizes) < 1.06 and sizes[0] == ModelShape(2, 8, 64).n_params_non_embedding
    assert {rung.steps for rung in plan.rungs} == {plan.rungs[0].steps} and plan.seconds <= 300
    assert len(plan.rungs) == len(SHAPES) == len({rung.name for rung in plan.rungs})
    assert len({rung.shape.n_layer for rung in plan.rungs}) >= 5
    assert len({rung.shape.n_head for rung in plan.rungs if rung.shape.n_embd == 64}) >= 4


def test_words_are_options_of_train_and_the_same_each_time() -> None:
    plan = ladder()
    assert make_words(plan) == make_words(ladder())
    known = {name for param in train.command.params for name in param.opts}
    for rung in plan.rungs:
        words = rung_words(rung, plan)
        assert {word for word in words if word.startswith("--")} <= known
        options = dict(zip(words[::2], words[1::2], strict=True))
        if rung.steps is None:
            assert options["--steps"] == str(plan.trunk_steps) and options["--decay-tokens"] == "0"
            assert int(options["--keep"]) * int(options["--checkpoint-every"]) >= plan.trunk_steps
        elif "--at" in options:
            decay = int(options["--decay-tokens"]) // BATCH_TOKENS
            assert int(options["--at"]) + decay == rung.steps and decay * 5 == rung.steps
        else:
            assert rung.held_out and options["--steps"] == str(rung.steps)


def test_make_words_name_every_run_once() -> None:
    plan = ladder()
    lines = dict(line.split(" := ", 1) for line in make_words(plan).splitlines())
    named = [name for key in ("RUNS", "TRUNKS", "BRANCHES") for name in lines[key].split()]
    assert sorted(named) == sorted(rung.name for rung in plan.rungs)
    assert lines["HELD_OUT"] == plan.rungs[0].name == lines["RUNS"]
    assert {f"FLAGS_{name}" for name in named} < set(lines)


def test_a_trunk_is_waited_for() -> None:
    """One worker or many, branches begin after their trunk: the expected time is never less than the longest chain."""
    plan = ladder(5, 8)
    chains: dict[str, Any] = {}
    for rung in plan.rungs:
        part = chains.setdefault(rung.network, [0.0, 0.0])
        part[rung.steps is not None] = max(part[rung.steps is not None], rung.seconds)
    assert plan.seconds >= max(map(sum, chains.values())) - 1e-9
    alone = dataclasses.replace(plan, jobs=1)
    assert sum(rung.seconds for rung in alone.rungs) > plan.seconds
