"""A law from outside: a published one by name, or one of our own gpt2.fit/1 records, with its resamples redrawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, Record, read_records
from gpt2cli.records.streams import display_name
from gpt2cli.scaling.laws import PARAMETERS, ChinchillaLaw, Law, published
from gpt2cli.scaling.uncertainty import Bootstrap, bootstrap


@dataclass(frozen=True)
class KnownLaw:
    """A law with its name, where it comes from, what its N counts, and its resamples (None: no intervals).

    `largest_flops` is 6 N D of the largest run it was fitted on, None when unknown.
    """

    name: str
    law: Law
    source: str
    count: str
    boot: Bootstrap | None = None
    largest_flops: float | None = None


def law_by_name(name: str) -> KnownLaw:
    """Return a published law; raise UsageFault for an unknown name."""
    entry = published(name)
    return KnownLaw(name, entry.law, entry.source, entry.count)


def read_fit(path: str) -> KnownLaw:
    """Read the last gpt2.fit/1 record of a file (`-`: stdin) and redraw its resamples from its observations.

    Raises BadInput when there is none or it is damaged.
    """
    return known_law(last_fit(path), display_name(path))


def known_law(record: Record, name: str) -> KnownLaw:
    """Return the law of a gpt2.fit/1 record that came from `name`; see read_fit."""
    law = ChinchillaLaw(*_parameters(record, name))
    n, d, loss, clusters = _observations(record, name)
    boot = None
    drawn = record.get("bootstrap", {}).get("drawn", 0)
    if len(n) and isinstance(drawn, int) and 0 < drawn <= 1_000_000:
        boot = bootstrap(
            n,
            d,
            loss,
            clusters,
            law.array(),
            resamples=drawn,
            seed=int(record["bootstrap"]["seed"]),
            delta=float(record["objective"]["delta"]),
        )
    largest = 6.0 * float(np.max(n * d)) if len(n) else None
    return KnownLaw(
        str(record["law"]), law, f"fit of {len(n)} runs in {name}", str(record.get("count", "total")), boot, largest
    )


def last_fit(path: str) -> Record:
    """Return the last gpt2.fit/1 record of a file; raise BadInput when there is none or its law is not ours."""
    found: Record | None = None
    for record in read_records(path, ReadTally(), kinds=("gpt2.fit",)):
        found = record
    if found is None:
        raise BadInput(f"{display_name(path)} holds no gpt2.fit record; gpt2 fit-scaling -o FILE writes one")
    if found["law"] != "chinchilla":
        raise BadInput(
            f"{display_name(path)}: a fit of law {str(found['law'])[:40]!r}, which this version does not know"
        )
    return found


def _parameters(record: Record, name: str) -> list[float]:
    try:
        values = [float(record["parameters"][key]) for key in PARAMETERS]
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{name}: the fit's parameters are not {', '.join(PARAMETERS)}") from None
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise BadInput(f"{name}: the fit has a negative or infinite parameter")
    return values


def _observations(record: Record, name: str) -> tuple[np.ndarray, ...]:
    rows: list[Any] = record.get("observations") or []
    try:
        table = [(float(row["n"]), float(row["d"]), float(row["loss_nats"]), int(row["cluster"])) for row in rows]
        n, d, loss, clusters = (np.array(column) for column in zip(*table, strict=True)) if table else [np.empty(0)] * 4
        int(record.get("bootstrap", {}).get("seed", 0)), float(record.get("objective", {}).get("delta", 0))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput(f"{name}: the fit's observations are damaged") from None
    if len(n) and not (np.all(n > 0) and np.all(d > 0) and np.all(loss > 0)):
        raise BadInput(f"{name}: the fit's observations are not all positive")
    return n, d, loss, clusters
