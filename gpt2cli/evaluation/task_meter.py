"""How much a template may do: every text and list it makes is weighed, and what it spends in all is bounded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gpt2cli.errors import BadInput

MAX_WEIGHT = 1 << 20
"""Largest value, in characters and list entries."""
MAX_SPENT = 1 << 26
"""Most characters and entries that one rendering handles."""
MAX_TURNS = 100_000
"""Most turns of all loops of one rendering."""
MAX_SECONDS = 10.0


class TooMuch(BadInput):
    """A template outgrew its bounds."""


class Meter:
    """Counts one rendering. `start` begins anew."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Forget what was spent."""
        self._spent = self._turns = 0
        self._deadline = time.monotonic() + MAX_SECONDS

    def spend(self, amount: int) -> None:
        """Count characters or entries handled; raise TooMuch beyond the bounds."""
        self._spent += amount + 1
        if amount > MAX_WEIGHT:
            raise TooMuch(f"makes a value of more than {MAX_WEIGHT:,} characters")
        if self._spent > MAX_SPENT or time.monotonic() > self._deadline:
            raise TooMuch("takes too long")

    def weigh(self, *values: Any) -> int:
        """Count all characters and entries in `values`, however nested; raise TooMuch as soon as they are too many."""
        total = 0
        pending = list(values)
        while pending:
            value = pending.pop()
            total += 1
            if isinstance(value, (str, bytes)):
                total += len(value)
            elif isinstance(value, int):
                total += value.bit_length() // 3
            elif isinstance(value, Mapping):
                pending.extend(value.keys())
                pending.extend(value.values())
            elif isinstance(value, (list, tuple, set, frozenset)):
                pending.extend(value)
            if total + len(pending) > MAX_WEIGHT:
                self.spend(total + len(pending))
        self.spend(total)
        return total

    def turns(self, values: Iterable[Any]) -> Iterator[Any]:
        """Yield `values`, counting each as a turn of a loop."""
        for value in values:
            self._turns += 1
            if self._turns > MAX_TURNS:
                raise TooMuch(f"loops more than {MAX_TURNS:,} times")
            self.spend(1)
            yield value
