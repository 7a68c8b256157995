"""Requests that begin alike become one row: the ids that an item's requests share are its trunk, the rest branches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpt2cli.evaluation.branches import Row
from gpt2cli.evaluation.task_requests import EncodedRequest

SHORTEST_PREFIX = 32
"""Ids that rows must share before they are read beforehand."""
FEWEST_ROWS = 4
"""Rows that must share them."""


@dataclass(frozen=True)
class Tree:
    """A row and its requests: their numbers, and for each the places in the row that predict its continuation."""

    row: Row
    requests: tuple[int, ...]
    places: tuple[np.ndarray, ...]

    @property
    def first_place(self) -> int:
        """The first place that predicts anything."""
        return min(int(places[0]) for places in self.places)


def grow(requests: Sequence[EncodedRequest], numbers: Sequence[int], longest: int) -> Iterator[Tree]:
    """Yield the trees of requests that belong together; no row with several branches has more than `longest` ids.

    numbers: what the requests are called in the trees.
    """
    inputs = [request.ids[:-1] for request in requests]
    shared = _shared(inputs)
    start = 0
    while start < len(inputs):
        stop, length = start + 1, len(inputs[start])
        while stop < len(inputs) and length + len(inputs[stop]) - shared <= longest:
            length += len(inputs[stop]) - shared
            stop += 1
        yield _tree(requests[start:stop], numbers[start:stop], shared if stop - start > 1 else len(inputs[start]))
        start = stop


def _tree(requests: Sequence[EncodedRequest], numbers: Sequence[int], shared: int) -> Tree:
    branches, places, at = [], [], shared
    for request in requests:
        n_inputs = len(request.ids) - 1
        place = np.arange(n_inputs - request.scored, n_inputs)
        place[place >= shared] += at - shared
        places.append(place)
        if n_inputs > shared:
            branches.append(request.ids[shared:-1])
            at += n_inputs - shared
    return Tree(Row(requests[0].ids[:shared], tuple(branches)), tuple(numbers), tuple(places))


def with_shared_prefixes(trees: Sequence[Tree]) -> Iterator[tuple[np.ndarray, list[Tree]]]:
    """Yield groups of trees with the ids that all of a group begin with, which are taken off their trunks."""
    groups: dict[bytes, list[Tree]] = {}
    for tree in trees:
        groups.setdefault(tree.row.trunk[:SHORTEST_PREFIX].tobytes(), []).append(tree)
    alone: list[Tree] = []
    for group in groups.values():
        shared = min(_shared([tree.row.trunk for tree in group]), min(tree.first_place for tree in group))
        if len(group) < FEWEST_ROWS or shared < SHORTEST_PREFIX:
            alone += group
        else:
            yield group[0].row.trunk[:shared], [_without(tree, shared) for tree in group]
    if alone:
        yield np.empty(0, dtype=np.uint32), alone


def _without(tree: Tree, shared: int) -> Tree:
    row = Row(tree.row.trunk[shared:], tree.row.branches, shared)
    return Tree(row, tree.requests, tuple(places - shared for places in tree.places))


def _shared(sequences: Sequence[np.ndarray]) -> int:
    """Return how many ids all sequences begin with in common."""
    first, length = sequences[0], min(map(len, sequences))
    for other in sequences[1:]:
        different = np.flatnonzero(first[:length] != other[:length])
        length = int(different[0]) if len(different) else length
    return length
