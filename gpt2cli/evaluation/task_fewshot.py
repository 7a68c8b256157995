"""Which solved examples stand before a record: the first of their pool, or drawn as lm-evaluation-harness draws them.

Its ContextSampler (api/samplers.py of 0.4.13) keeps one `random.Random(seed)` for a task and draws anew for each record
in order, so equal seeds give equal prompts. A record that may itself be in the pool costs it one more draw.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gpt2cli.errors import BadInput, counted
from gpt2cli.evaluation.task import Doc, Task

SEED = 1234
"""lm_eval's fewshot_random_seed."""


class Examples:
    """Gives each record its examples. Ask in the order of the records, beginning with the first."""

    def __init__(self, task: Task, pool: Sequence[Doc], number: int, seed: int = SEED) -> None:
        """pool: what examples are taken from; number: how many stand before each record."""
        self._task, self._pool, self._number = task, list(pool), number
        self._random = random.Random(seed)

    def of(self, doc: Doc) -> list[Doc]:
        """Return the examples of a record, in the order in which they are written.

        Raises BadInput when there are not enough.
        """
        if not self._number:
            return []
        own = doc if self._task.shots.exclude_own else None
        return self._first(own) if self._task.shots.sampler == "first_n" else self._drawn(own)

    def _first(self, own: Doc | None) -> list[Doc]:
        pool = self._without(self._pool, own)
        self._enough(len(pool))
        return pool[: self._number]

    def _drawn(self, own: Doc | None) -> list[Doc]:
        spare = int(own is not None and bool(own.fields))
        self._enough(len(self._pool) - spare)
        drawn = self._random.sample(self._pool, self._number + spare)
        kept = self._without(drawn, own)[: self._number]
        if len(kept) < self._number:
            others = self._without(self._pool, own)
            self._enough(len(others))
            kept = self._random.sample(others, self._number)
        return kept

    def _without(self, docs: list[Doc], own: Doc | None) -> list[Doc]:
        return docs if own is None else [doc for doc in docs if doc.fields != own.fields]

    def _enough(self, there: int) -> None:
        if there < self._number:
            was, there_is = "was" if self._number == 1 else "were", "is" if there == 1 else "are"
            raise BadInput(f"{self._task.where}: {counted(self._number, 'example')} {was} asked for, and there "
                           f"{there_is} {max(0, there)} to choose from")
