"""Loss curves from metrics: what a run's step and evaluation records say, ready to draw; no drawing here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, Record, read_records
from gpt2cli.records.streams import display_name
from gpt2cli.reporter import Reporter
from gpt2cli.scaling.observations import MOST

AXIS_FIELDS = {"tokens": "tokens", "steps": "step", "flops": "flops"}
"""The field of a record by what an axis counts."""
_KINDS = ("gpt2.run", "gpt2.step", "gpt2.layers", "gpt2.eval", "gpt2.task", "gpt2.fit")
MAX_POINTS = 1500
"""Points drawn per line; longer curves are thinned after smoothing."""


@dataclass
class Curve:
    """One run: training records by step and evaluations on the validation split, in the order of the file."""

    run: str
    n_params: float | None = None
    steps: list[Record] = field(default_factory=list)
    evaluations: list[Record] = field(default_factory=list)
    layers: list[Record] = field(default_factory=list)

    def training(self, axis: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (x, loss in nats) of the training records."""
        return columns(self.steps, AXIS_FIELDS[axis], "loss_nats")

    def validation(self, axis: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (x, loss in nats) of the evaluations."""
        return columns(self.evaluations, AXIS_FIELDS[axis], "nll_nats_per_token")

    def rates(self, axis: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (x, learning rate) of the training records."""
        return columns(self.steps, AXIS_FIELDS[axis], "lr")

    def phases(self, axis: str) -> list[tuple[str, float, float]]:
        """Return (lr_phase, first x, last x) for each stretch of one phase."""
        stretches: list[tuple[str, float, float]] = []
        for record in self.steps:
            phase, x = str(record["lr_phase"]), float(record[AXIS_FIELDS[axis]])
            if stretches and stretches[-1][0] == phase:
                stretches[-1] = (phase, stretches[-1][1], x)
            else:
                start = stretches[-1][2] if stretches else x
                stretches.append((phase, start, x))
        return stretches


@dataclass(frozen=True)
class Drawable:
    """What a set of files holds to draw: curves by run, fits, and evaluations of models, on texts and on tasks."""

    curves: list[Curve]
    fits: list[Record]
    evaluations: list[Record] = field(default_factory=list)
    tasks: list[Record] = field(default_factory=list)

    @property
    def has_training(self) -> bool:
        """Whether there is a record of a training step."""
        return any(curve.steps for curve in self.curves)

    def final_evaluations(self) -> list[Record]:
        """Return what is known of each model: of a run that is being trained the last validation, of others all."""
        trained = {curve.run: curve for curve in self.curves if curve.steps}
        last = [curve.evaluations[-1] for curve in trained.values() if curve.evaluations]
        return [*last, *(record for record in self.evaluations if str(record["run"]) not in trained
                         or "n_params" in record)]


def read_drawable(
    paths: Sequence[str], reporter: Reporter, watch: Callable[[Record], None] | None = None
) -> Drawable:
    """Read metrics, fits and evaluations from files, run directories (their metrics.jsonl) and directories of runs.

    `watch` is shown every record on the way. Raises BadInput when there is nothing to draw.
    """
    curves: dict[str, Curve] = {}
    fits: list[Record] = []
    evaluations: list[Record] = []
    tasks: list[Record] = []
    for path in metric_files(paths):
        tally = ReadTally()
        for record in read_records(path, tally, kinds=_KINDS):
            kind = record["schema"].rpartition("/")[0]
            if watch is not None:
                watch(record)
            if kind == "gpt2.task":
                tasks.append(record)
            else:
                _sort_in(kind, record, curves, fits)
            if kind == "gpt2.eval":
                evaluations.append(record)
        for text in tally.warnings:
            reporter.warn(text)
    drawn = [curve for curve in curves.values() if curve.steps or curve.evaluations]
    if not drawn and not fits and not tasks and not evaluations:
        names = ", ".join(display_name(path) for path in list(paths)[:3])
        raise BadInput(f"no step, evaluation or fit records in {names}; give a run directory, metrics.jsonl or a fit")
    drawn.sort(key=lambda curve: (curve.n_params or 0.0, curve.run))
    return Drawable(drawn, fits, evaluations, tasks)


def smooth(values: np.ndarray, share: float = 0.02) -> np.ndarray:
    """Return the centred moving average of `values` (M,) over about `share` of them.

    Windows shrink towards the steep beginning, so that it keeps its place, and are cut off at the end.
    """
    half = min(int(len(values) * share / 2 + 0.5), 500)
    if half == 0:
        return values
    index = np.arange(len(values))
    before = np.minimum(half, index)
    after = np.minimum(before, len(values) - 1 - index)
    total = np.concatenate([[0.0], np.cumsum(values)])
    means = (total[index + after + 1] - total[index - before]) / (before + after + 1)
    return np.clip(means, values.min(), values.max())  # a difference of sums loses what is small beside a leap


def thin(*columns: np.ndarray) -> list[np.ndarray]:
    """Return the columns at no more than MAX_POINTS positions, evenly spaced, the last one kept."""
    length = len(columns[0])
    if length <= MAX_POINTS:
        return list(columns)
    index = np.unique(np.linspace(0, length - 1, MAX_POINTS).round().astype(int))
    return [column[index] for column in columns]


def metric_files(paths: Sequence[str]) -> Iterator[str]:
    """Yield every path, of a run's directory its metrics.jsonl, of a directory of runs all of theirs.

    Raises BadInput for a directory that is neither.
    """
    for path in paths:
        if path == "-" or not os.path.isdir(path):
            yield path
        elif (Path(path) / "metrics.jsonl").is_file():
            yield str(Path(path) / "metrics.jsonl")
        else:
            found = sorted(str(file) for file in Path(path).glob("*/metrics.jsonl"))
            if not found:
                raise BadInput(f"{path} is neither a run directory nor a directory of runs: no metrics.jsonl")
            yield from found


def _sort_in(kind: str, record: Record, curves: dict[str, Curve], fits: list[Record]) -> None:
    if kind == "gpt2.fit":
        if record.get("kind") is None:
            fits.append(record)
        return
    name = str(record["run"])
    curve = curves.setdefault(name, Curve(name))
    if kind == "gpt2.run":
        if isinstance(record["n_params"], bool) or not isinstance(record["n_params"], int | float):
            raise BadInput(f"run {name[:80]!r}: its n_params is no number")
        curve.n_params = float(record["n_params"])
    elif kind == "gpt2.step":
        curve.steps.append(record)
    elif kind == "gpt2.layers":
        curve.layers.append(record)
    elif record["split"] == "val":
        curve.evaluations.append(record)


def columns(records: list[Record], x_name: str, y_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return two fields of a run's records as columns (M,), rows that are not finite left out.

    Raises BadInput where one is no number, or larger than any run's.
    """
    rows: list[tuple[Any, Any]] = [(record[x_name], record[y_name]) for record in records]
    try:
        table = np.array(rows, dtype=float).reshape(-1, 2)
    except (TypeError, ValueError):
        raise BadInput(f"a record of run {records[0]['run']!r} has no number in {x_name} or {y_name}") from None
    table = table[np.isfinite(table).all(axis=1)]
    if (np.abs(table) > MOST).any():
        raise BadInput(f"a record of run {records[0]['run']!r} has a number above {MOST:g} in {x_name} or {y_name}")
    return table[:, 0], table[:, 1]
