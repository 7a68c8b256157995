"""What eval-tasks keeps of a task's clean items while it asks all, and the second record that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpt2cli.evaluation.clean_difference import metric_difference
from gpt2cli.evaluation.exclusion import EXCLUDED, Exclusion
from gpt2cli.evaluation.overlap_records import Measured
from gpt2cli.evaluation.task import Result, Task
from gpt2cli.evaluation.task_totals import Settings, Totals
from gpt2cli.sampling.open_model import OpenModel


class CleanItems:
    """Takes all results of a task in their order, and keeps those of items that are not excluded."""

    def __init__(self, task: Task, exclusion: Exclusion, measured: Mapping[int, Measured]) -> None:
        """measured: the overlap of each item, by its number."""
        self._exclusion = exclusion
        self._measured = measured
        self._totals = Totals(task)
        self._kept: list[bool] = []

    def add(self, result: Result) -> dict[str, Any]:
        """Take in the next result, and return what the item's record says of it: overlap, and whether excluded."""
        measured = self._measured[result.item.doc.number]
        excluded = self._exclusion.excludes(measured)
        self._kept.append(not excluded)
        if not excluded:
            self._totals.add(result)
        return {"overlap": measured.overlap, "excluded": excluded}

    def record(self, whole: Mapping[str, Any], totals: Totals, opened: OpenModel, settings: Settings) -> dict[str, Any]:
        """Return the fields of the clean items' gpt2.task/1. whole, totals: the record and the results of all."""
        record = self._totals.record(opened, settings)
        difference = {name: metric_difference(whole["metrics"][name], clean, totals.values[name], self._kept)
                      for name, clean in record["metrics"].items()}
        exclusion = {"overlap_sha256": self._exclusion.sha256, "n_items": whole["n_items"],
                     "n_items_excluded": whole["n_items"] - record["n_items"], "difference": difference}
        protocol = {**record["protocol"], EXCLUDED: self._exclusion.as_protocol(record["protocol"]["split"])}
        return {**record, "protocol": protocol, "exclusion": exclusion}
