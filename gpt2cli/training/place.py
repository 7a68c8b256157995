"""Which of the processes of a run this one is, as its launcher says in the environment.

torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, and any other launcher may.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gpt2cli.errors import UsageFault


@dataclass(frozen=True)
class Place:
    """One process among `world`: its rank in all, its number on its own machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0


def place_from_environment(environment: Mapping[str, str] = os.environ) -> Place:
    """Return the place that a launcher gave this process, the only one where there was none.

    Raises UsageFault when the launcher's variables are incomplete or contradict each other.
    """
    if "WORLD_SIZE" not in environment:
        return Place()
    world = _number(environment, "WORLD_SIZE", 1, 1 << 20)
    rank = _number(environment, "RANK", 0, world - 1)
    local = _number(environment, "LOCAL_RANK", 0, world - 1)
    if world > 1:
        _number(environment, "MASTER_PORT", 1, 65535)
        if not environment.get("MASTER_ADDR"):
            raise UsageFault("WORLD_SIZE is set and MASTER_ADDR is not; torchrun sets them all")
    return Place(rank, world, local)


def _number(environment: Mapping[str, str], name: str, low: int, high: int) -> int:
    word = environment.get(name)
    if word is None:
        raise UsageFault(f"WORLD_SIZE is set and {name} is not; torchrun sets them all")
    if not (word.isascii() and word.isdigit() and low <= int(word) <= high):
        raise UsageFault(f"the variable {name} is {word[:40]!r}, not a number from {low} to {high}; torchrun sets it, "
                         "and without WORLD_SIZE one process trains alone")
    return int(word)
