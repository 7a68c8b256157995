from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rank_processes import on_ranks

from gpt2cli.training import gradient_sum
from gpt2cli.training.gradient_sum import add_up_between_ranks, climb_between_ranks, tree_sum
from gpt2cli.training.place import Place
from gpt2cli.training.ranks import Ranks
from gpt2cli.training.rendezvous import joined

SHAPES = ((3, 5), (1,), (40, 2), (7,))


def leaf(number: int) -> list[torch.Tensor]:
    """Numbers whose sum depends on its order."""
    generator = torch.Generator().manual_seed(number)
    return [torch.empty(shape).normal_(0, 10.0 ** (number % 7), generator=generator) for shape in SHAPES]


def as_lists(tensors: list[torch.Tensor]) -> list[Any]:
    return [tensor.flatten().tolist() for tensor in tensors]


def spelled_out(first: int, end: int) -> list[torch.Tensor]:
    """The tree for a power of two of leaves, by halves."""
    if end - first == 1:
        return leaf(first)
    middle = (first + end) // 2
    return [a + b for a, b in zip(spelled_out(first, middle), spelled_out(middle, end), strict=True)]


def test_the_tree_is_that_of_halves() -> None:
    assert as_lists(tree_sum(16, 0, 1, leaf)) == as_lists(spelled_out(0, 16))


@given(st.integers(1, 300), st.integers(0, 5))
def test_the_nodes_of_a_depth_are_the_shares_of_as_many_ranks(count: int, depth: int) -> None:
    world = 2**depth
    if world > count:
        return
    asked: list[int] = []

    def number(i: int) -> list[torch.Tensor]:
        asked.append(i)
        return [torch.zeros(1)]

    for rank in range(world):
        tree_sum(count, rank, world, number)
        assert asked[-len(Ranks(Place(rank, world, rank)).share(count)) :] == list(
            Ranks(Place(rank, world, rank)).share(count))
    assert asked == list(range(count))


@given(st.integers(1, 40), st.integers(0, 4))
def test_any_power_of_two_of_ranks_gives_the_bits_of_one(count: int, depth: int) -> None:
    world = 2**depth
    if world > count:
        return
    nodes = [tree_sum(count, rank, world, leaf) for rank in range(world)]
    while len(nodes) > 1:
        nodes = [[a + b for a, b in zip(left, right, strict=True)]
                 for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
    assert as_lists(nodes[0]) == as_lists(tree_sum(count, 0, 1, leaf))


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("bucket", [8, 1 << 20])
def test_ranks_that_climb_the_tree_have_the_bits_of_one(
    world: int, bucket: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_sum, "BUCKET", bucket)
    found = on_ranks(world, partial(summed, 11, True), tmp_path)
    assert found == [as_lists(tree_sum(11, 0, 1, leaf))] * world


def test_three_ranks_add_up_to_the_same_on_each(tmp_path: Path) -> None:
    found = on_ranks(3, partial(summed, 11, False), tmp_path)
    assert found[0] == found[1] == found[2]
    total = [torch.stack(parts).double().sum(0) for parts in zip(*(leaf(i) for i in range(11)), strict=True)]
    for ours, theirs in zip(found[0], total, strict=True):
        assert ours == pytest.approx(theirs.flatten().tolist(), rel=1e-5, abs=1)


def summed(count: int, fixed: bool) -> list[Any]:
    torch.set_num_threads(1)
    with joined() as ranks:
        assert (ranks.rank, ranks.world) == (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        if fixed:
            tensors = tree_sum(count, ranks.rank, ranks.world, leaf)
            climb_between_ranks(tensors, ranks.rank, ranks.world)
        else:
            share = ranks.share(count)
            tensors = [torch.stack(parts).sum(0) for parts in zip(*map(leaf, share), strict=True)]
            add_up_between_ranks(tensors)
        return as_lists(tensors)
