"""A law from outside: a published one by name, or one of our own gpt2.fit/1 records, with its resamples redrawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, Record, read_records
from gpt2cli.records.streams import display_name
from gpt2cli.scaling.design import compute, variables_of
from gpt2cli.scaling.fitted_law import AnyLaw, Setting, law_of
from gpt2cli.scaling.forms import FORMS, Form
from gpt2cli.scaling.kaplan import CRITICAL_BATCH, CriticalBatch
from gpt2cli.scaling.laws import published
from gpt2cli.scaling.observations import COUNTS, LEAST, MOST, Observations
from gpt2cli.scaling.uncertainty import Bootstrap, bootstrap_form


@dataclass(frozen=True)
class KnownLaw:
    """A law with its name, where it comes from, what its N counts, and its resamples (None: no intervals).

    `largest_flops` is 6 N D of the largest run it was fitted on, None when unknown.
    """

    name: str
    law: AnyLaw
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
    form = form_of_fit(record, name)
    if str(record.get("count", "total")) not in COUNTS:
        raise BadInput(f"{name}: the fit does not say which parameters N counts")
    values, setting = _parameters(record, form, name), _setting(record, name)
    seen, clusters = _observations(record, name)
    boot = None
    drawn, seed, delta = _resampling(record, name)
    if len(seen.n) and 0 < drawn <= 1_000_000:
        boot = bootstrap_form(
            form,
            variables_of(form, seen, setting),
            seen.loss,
            clusters,
            np.array(values),
            resamples=drawn,
            seed=seed,
            delta=delta,
            setting=setting,
        )
    largest = float(np.max(compute(seen))) if len(seen.n) else None
    return KnownLaw(
        form.name,
        law_of(form.name, np.array(values), setting),
        f"fit of {len(seen.n)} runs in {name}",
        str(record.get("count", "total")),
        boot,
        largest,
    )


def last_fit(path: str) -> Record:
    """Return the last gpt2.fit/1 record of a file; raise BadInput when there is none or its law is not ours."""
    found: Record | None = None
    for record in read_records(path, ReadTally(), kinds=("gpt2.fit",)):
        found = record
    if found is None:
        raise BadInput(f"{display_name(path)} holds no gpt2.fit record; gpt2 fit-scaling -o FILE writes one")
    form_of_fit(found, display_name(path))
    return found


def form_of_fit(record: Record, name: str) -> Form:
    """Return the form of law that a gpt2.fit/1 record from `name` is a fit of; BadInput for one of a newer version."""
    law = str(record["law"])
    if law not in FORMS:
        raise BadInput(f"{name}: a fit of law {law[:40]!r}, which this version does not know")
    return FORMS[law]


def _parameters(record: Record, form: Form, name: str) -> list[float]:
    try:
        values = [float(record["parameters"][key]) for key in form.parameters]
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{name}: the fit's parameters are not {', '.join(form.parameters)}") from None
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise BadInput(f"{name}: the fit has a negative or infinite parameter")
    return values


def _setting(record: Record, name: str) -> Setting:
    """Read what the law leaves open; a record of before it was kept has none. Predictions are at the critical batch."""
    found = record.get("setting") or {}
    try:
        unique = None if found.get("unique_tokens") is None else float(found["unique_tokens"])
        critical = CriticalBatch(
            float(found.get("B_star", CRITICAL_BATCH.B_star)), float(found.get("alpha_B", CRITICAL_BATCH.alpha_B))
        )
    except (TypeError, ValueError, AttributeError):
        raise BadInput(f"{name}: the fit's setting is damaged") from None
    known = [value for value in (unique, critical.B_star, critical.alpha_B) if value is not None]
    if not all(math.isfinite(value) and value > 0 for value in known):
        raise BadInput(f"{name}: the fit's setting is not positive")
    return Setting(None, critical, unique)


def _resampling(record: Record, name: str) -> tuple[int, int, float]:
    """Return how many resamples there were, their seed and Huber's threshold; a fit without intervals drew none."""
    bootstrap, objective = record.get("bootstrap") or {}, record.get("objective") or {}
    try:
        drawn, seed, delta = bootstrap.get("drawn", 0), bootstrap.get("seed", 0), objective.get("delta", 0)
    except AttributeError:
        raise BadInput(f"{name}: the fit's bootstrap is damaged") from None
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (drawn, seed))
    if not whole or not 0 <= seed < 1 << 63 or not isinstance(delta, int | float) or not 0 <= delta <= 1:
        raise BadInput(f"{name}: the fit's bootstrap is damaged")
    return drawn, seed, float(delta)


def _observations(record: Record, name: str) -> tuple[Observations, np.ndarray]:
    rows: list[Any] = record.get("observations") or []
    try:
        table = [[float(row[key]) for key in ("n", "d", "loss_nats", "cluster")] for row in rows]
        more = [[_or_nan(row.get(key)) for key in ("flops", "steps", "unique")] for row in rows]
        names = tuple(str(row.get("run", "")) for row in rows)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput(f"{name}: the fit's observations are damaged") from None
    n, d, loss, clusters = np.array(table).reshape(-1, 4).T
    flops, steps, unique = np.array(more).reshape(-1, 3).T
    for values in (n, d, loss):
        if not np.all((values >= LEAST) & (values <= MOST)):
            raise BadInput(f"{name}: the fit's observations are not all positive numbers of runs")
    if not np.all((clusters >= 0) & (clusters < 1 << 31)):
        raise BadInput(f"{name}: the fit's observations are damaged")
    labels = clusters.astype(int)
    return Observations(n, d, loss, flops, names, labels, "total", steps=steps, unique=unique), labels


def _or_nan(value: Any) -> float:
    number = math.nan if value is None else float(value)
    return number if LEAST <= number <= MOST else math.nan
