from __future__ import annotations

import itertools
import math

import pytest

from gpt2cli.training.schedule import Schedule


def test_warmup_is_linear_and_reaches_the_peak() -> None:
    schedule = Schedule("cosine", 1e-3, 1e-4, 10, 100)
    assert [schedule.at(step)[0] for step in (1, 5, 10)] == pytest.approx([1e-4, 5e-4, 1e-3])
    assert {schedule.at(step)[1] for step in range(1, 11)} == {"warmup"}


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd"])
def test_every_schedule_ends_at_its_floor_and_never_rises_after_warmup(name: str) -> None:
    schedule = Schedule(name, 1e-3, 1e-4, 10, 100, 20)  # type: ignore[arg-type]
    rates = [schedule.at(step)[0] for step in range(10, 101)]
    assert rates[-1] == pytest.approx(1e-4)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates))


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert Schedule("cosine", 1.0, 0.0, 0, 100).at(50)[0] == pytest.approx(0.5)
    assert Schedule("cosine", 1.0, 0.0, 0, 100).at(25)[0] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_wsd_holds_then_decays_over_the_last_fifth() -> None:
    schedule = Schedule("wsd", 1.0, 0.1, 10, 100, 20)
    assert schedule.at(80) == (1.0, "stable")
    assert schedule.at(81)[1] == "decay"
    assert schedule.at(90)[0] == pytest.approx(0.55)


def test_no_warmup_starts_below_or_at_the_peak() -> None:
    assert Schedule("linear", 1.0, 0.1, 0, 10).at(1)[1] == "decay"
