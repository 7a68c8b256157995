"""Which solved examples stand before a record."""

from __future__ import annotations

from collections.abc import Sequence

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.task import Doc, Task


class Examples:
    """Gives each record its examples. Ask in the order of the records."""

    def __init__(self, task: Task, pool: Sequence[Doc], number: int) -> None:
        """pool: what examples are taken from; number: how many stand before each record."""
        self._task, self._pool, self._number = task, list(pool), number

    def of(self, doc: Doc) -> list[Doc]:
        """Return the examples of a record, in the order in which they are written.

        Raises BadInput when there are not enough.
        """
        if not self._number:
            return []
        if self._task.shots.sampler != "first_n":
            raise UsageFault(f"{self._task.where}: there is no sampler {self._task.shots.sampler!r}; write first_n")
        pool = [other for other in self._pool if other.fields != doc.fields] if self._own(doc) else self._pool
        if len(pool) < self._number:
            raise BadInput(f"{self._task.where}: {self._number} examples were asked for, and there are {len(pool)}")
        return pool[: self._number]

    def _own(self, doc: Doc) -> bool:
        return self._task.shots.exclude_own
