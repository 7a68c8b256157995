"""What the shape of a network does at one size: runs of one N and D whose depth, width and heads differ.

Kaplan et al. 2020, section 3.1 and figure 5 (arXiv 2001.08361): within wide bounds the loss varies by a few percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter
from gpt2cli.scaling.observations import read_observations

SAME = 0.1
"""N without embeddings and D may differ by this share before the comparison is none of shapes."""


@dataclass(frozen=True)
class ShapeRun:
    """One run: its network, N without embeddings, D, final loss in nats, and the loss over the best one's, less 1."""

    run: str
    n_layer: int
    n_embd: int
    n_head: int
    n: float
    d: float
    loss: float
    above_best: float

    @property
    def aspect(self) -> float:
        """Width over depth."""
        return self.n_embd / self.n_layer


def read_shapes(files: Sequence[str], reporter: Reporter) -> list[ShapeRun]:
    """Return the finished runs of metrics files, best first; raise BadInput when N or D differ, or for one run."""
    networks: dict[str, Record] = {}

    def watch(record: Record) -> None:
        if record["schema"].startswith("gpt2.run/"):
            networks[str(record["run"])] = record

    seen = read_observations(files, "non-embedding", reporter, watch=watch)
    for name, values in (("N without embeddings", seen.n), ("D", seen.d)):
        if values.max() > values.min() * (1 + SAME):
            raise BadInput(f"{name} lies between {values.min():,.0f} and {values.max():,.0f}: shapes are compared at "
                           "one size and one number of tokens")  # fmt: skip
    if len(seen.runs) < 2:
        raise BadInput("one run has nothing to be compared with; give several of one size and different shapes")
    best = float(seen.loss.min())
    found = [
        ShapeRun(
            run, _whole(networks[run], "n_layer"), _whole(networks[run], "n_embd"), _whole(networks[run], "n_head"),
            float(n), float(d), float(loss), float(loss) / best - 1,
        )
        for run, n, d, loss in zip(seen.runs, seen.n, seen.d, seen.loss, strict=True)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.loss, one.run))


def _whole(record: Record, name: str) -> int:
    value = record[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"run {str(record['run'])!r}: {name} is {value!r}, not a whole number of at least 1")
    return value
