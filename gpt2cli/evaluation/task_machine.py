"""What answers items: an open model, how much of it may be computed at once, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2cli.reporter import Reporter
from gpt2cli.sampling.open_model import OpenModel


@dataclass
class Machine:
    """budget: positions computed together; seed: of every random choice; total: items that will be answered in all."""

    opened: OpenModel
    budget: int
    seed: int
    reporter: Reporter
    total: int
    done: float = 0.0

    def advance(self, items: float) -> None:
        """Report that so many more items, or parts of items, are answered."""
        self.done += items
        self.reporter.progress(min(self.done, self.total), self.total, "items")
