from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_processes import free_port, launcher_variables, on_ranks, start_rank, store_that_outlives_ranks

from gpt2cli.errors import BadInput, Gpt2Error, Interrupted, OthersFailed, UsageFault
from gpt2cli.training import rendezvous
from gpt2cli.training.place import Place, place_from_environment
from gpt2cli.training.ranks import ALONE, LostRank, Ranks
from gpt2cli.training.rendezvous import joined

TORCHRUN = launcher_variables(1, 4, 29500)


def test_without_a_launcher_one_process_is_alone() -> None:
    assert place_from_environment({}) == Place(0, 1, 0)
    assert place_from_environment({"RANK": "7"}) == Place(0, 1, 0)
    assert place_from_environment(TORCHRUN) == Place(1, 4, 1)


@pytest.mark.parametrize(("changed", "sentence"), [
    ({"WORLD_SIZE": "0"}, "the variable WORLD_SIZE is '0', not a number from 1 to 1048576"),
    ({"WORLD_SIZE": "two"}, "the variable WORLD_SIZE is 'two', not a number from 1"),
    ({"WORLD_SIZE": "²"}, "the variable WORLD_SIZE is '²', not a number"),
    ({"RANK": "4"}, "the variable RANK is '4', not a number from 0 to 3"),
    ({"RANK": "-1"}, "the variable RANK is '-1', not a number from 0 to 3"),
    ({"RANK": None}, "WORLD_SIZE is set and RANK is not; torchrun sets them all"),
    ({"LOCAL_RANK": None}, "WORLD_SIZE is set and LOCAL_RANK is not"),
    ({"MASTER_PORT": "65536"}, "the variable MASTER_PORT is '65536', not a number from 1 to 65535"),
    ({"MASTER_ADDR": None}, "WORLD_SIZE is set and MASTER_ADDR is not"),
    ({"MASTER_ADDR": ""}, "WORLD_SIZE is set and MASTER_ADDR is not"),
])
def test_variables_that_make_no_sense_are_told(changed: dict[str, str | None], sentence: str) -> None:
    environment = {name: value for name, value in {**TORCHRUN, **changed}.items() if value is not None}
    with pytest.raises(UsageFault) as caught:
        place_from_environment(environment)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("world", range(1, 9))
@pytest.mark.parametrize("count", [8, 9, 13, 64])
def test_shares_cover_everything_once_in_order_and_evenly(world: int, count: int) -> None:
    shares = [Ranks(Place(rank, world, rank)).share(count) for rank in range(world)]
    assert [number for share in shares for number in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(("device", "sentence"), [
    ("mps", "several ranks train on CPUs or on CUDA devices, not on mps"),
    ("cuda:1", "every rank takes the GPU of its own number; give --device cuda, not cuda:1"),
    ("cuda", "no GPU for rank 1: it is number 1 on its machine, where torch sees 0 CUDA devices"),
])
def test_a_device_that_a_rank_cannot_have_is_refused(
    device: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageFault, match=sentence):
        Ranks(Place(1, 2, 1)).device(torch.device(device))
    assert ALONE.device(torch.device(device)) == torch.device(device)


def test_alone_everything_is_what_it_was() -> None:
    assert ALONE.from_leader({"a": [1, None]}) == {"a": [1, None]}
    assert ALONE.settle({1: 2.5, 0: math.inf}, 2) == [math.inf, 2.5]
    assert (ALONE.stop_asked(False), ALONE.stop_asked(True), ALONE.any(True)) == (False, True, True)
    with pytest.raises(Interrupted):
        ALONE.settle({}, 2, Interrupted())
    with pytest.raises(OSError, match="disk"), ALONE.together():
        raise OSError("disk")


def agreements() -> dict[str, Any]:
    with joined() as ranks:
        value = {"name": "naïve \u2028", "numbers": [1, 2.5, None]} if ranks.leader else None
        tensors = [torch.full((3, 2), float(ranks.rank)), torch.full((1,), 10.0 + ranks.rank)]
        ranks.copy_from_leader(tensors)
        with ranks.together():
            pass
        third = 1 / 3 + ranks.rank
        return {"leads": ranks.leader, "value": ranks.from_leader(value), "sums": [float(t.sum()) for t in tensors],
                "any": [ranks.any(ranks.rank == 2), ranks.any(False)],
                "largest": ranks.largest([float(ranks.rank), 2.0 - ranks.rank, 1 / 3]),
                "settled": ranks.settle({ranks.rank: third}, 3)}


def test_ranks_agree(tmp_path: Path) -> None:
    found = on_ranks(3, agreements, tmp_path)
    assert [each.pop("leads") for each in found] == [True, False, False]
    assert found[0] == found[1] == found[2] == {
        "value": {"name": "naïve \u2028", "numbers": [1, 2.5, None]}, "sums": [0.0, 10.0], "any": [True, False],
        "largest": [2.0, 2.0, 1 / 3], "settled": [1 / 3, 1 / 3 + 1, 1 / 3 + 2]}


def failures(failing: int) -> list[Any]:
    with joined() as ranks:
        found: list[Any] = []
        try:
            with ranks.together():
                if ranks.rank == failing:
                    raise UsageFault("no such thing")
        except Gpt2Error as error:
            found += [type(error).__name__, error.status, str(error)]
        return found


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_of_one_rank_is_everyones_and_told_by_the_leader(failing: int, tmp_path: Path) -> None:
    found = on_ranks(2, partial(failures, failing), tmp_path)
    told = "no such thing" if failing == 0 else "rank 1: no such thing"
    assert found == [["UsageFault", 2, told], ["OthersFailed", 2, ""]]


def inner_loop(fault: str | None) -> list[Any]:
    with joined() as ranks:
        caught: Any = None
        if ranks.rank == 1:
            time.sleep(0.2)
            if fault is None:
                assert ranks.stop_asked(True)
            caught = {None: Interrupted(), "data": BadInput("shard a is damaged"),
                      "disk": OSError(5, "Input/output error", "a")}[fault]
        else:
            deadline = time.monotonic() + 20
            while fault is None and not ranks.stop_asked(False):
                assert time.monotonic() < deadline
        try:
            ranks.settle({}, 2, caught)
        except (Interrupted, Gpt2Error) as error:
            return [type(error).__name__, getattr(error, "status", None), str(error)]
        return []


@pytest.mark.parametrize(("fault", "leader", "follower"), [
    (None, ["Interrupted", None, ""], ["Interrupted", None, ""]),
    ("data", ["BadInput", 65, "rank 1: shard a is damaged"], ["OthersFailed", 65, ""]),
    ("disk", ["IOFailure", 74, "rank 1: a: Input/output error"], ["OthersFailed", 74, ""]),
])
def test_a_wish_to_stop_or_a_failure_inside_a_step_reaches_all_ranks(
    fault: str | None, leader: list[Any], follower: list[Any], tmp_path: Path
) -> None:
    assert on_ranks(2, partial(inner_loop, fault), tmp_path) == [leader, follower]


def one_dies() -> int:
    try:
        with joined() as ranks:
            ranks.any(False)
            if ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            while True:
                ranks.any(False)
    except LostRank as error:
        print(error)
        return error.status


def one_fails() -> int:
    try:
        with joined() as ranks:
            ranks.any(False)
            if ranks.leader:
                raise BadInput("the file is damaged")
            while True:
                ranks.any(False)
    except Gpt2Error as error:
        print(error)
        return error.status


@pytest.mark.parametrize(("body", "statuses", "said"), [
    (one_dies, {0: 75, 1: -9, 2: 75}, ["lost contact with another of the 3 ranks"]),
    (one_fails, {0: 65, 1: 65, 2: 65}, ["the file is damaged"]),
])
def test_when_a_rank_goes_the_others_end_and_one_of_them_says_so(
    body: Callable[[], int], statuses: dict[int, int], said: list[str], tmp_path: Path
) -> None:
    port = free_port()

    def start() -> list[int]:
        return [start_rank(body, rank, 3, port, tmp_path) for rank in range(3)]

    with store_that_outlives_ranks(port, start) as pids:
        found = {rank: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for rank, pid in enumerate(pids)}
    assert found == statuses, [(tmp_path / f"stderr-{rank}").read_text() for rank in range(3)]
    lines = "".join((tmp_path / f"stdout-{rank}").read_text() for rank in range(3)).split("\n")
    assert [line for line in lines if line] == said


def test_ranks_that_do_not_come_are_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in launcher_variables(1, 2, free_port()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rendezvous, "JOIN_TIMEOUT", rendezvous.timedelta(seconds=1))
    with pytest.raises(Gpt2Error, match=r"rank 1 did not meet the other ranks at 127.0.0.1:\d+: "), joined():
        pass


def test_followers_say_nothing_of_their_own() -> None:
    assert str(OthersFailed(65)) == "" and OthersFailed(65).status == 65
