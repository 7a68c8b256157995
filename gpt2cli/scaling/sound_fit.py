"""Whether the parts of a gpt2.fit/1 record that figures use are what they should be: a fit may come from anywhere."""

from __future__ import annotations

from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import Record

_SMALLEST, _LARGEST = 1e-30, 1e60


def check_fit(record: Record) -> None:
    """Raise BadInput naming the part of a fit that is damaged; a part that is not there is no damage."""
    _require(_each(record.get("allocations", []), lambda entry: is_size(entry.get("flops"))), "allocations")
    _require(_is_object(record.get("objective")), "objective")
    diagnosis = record.get("diagnosis", {})
    _require(isinstance(diagnosis, dict) and _is_object(diagnosis.get("rolling_origin")), "diagnosis")
    predictions = (diagnosis.get("rolling_origin") or {}).get("predictions", [])
    _require(_each(predictions, _is_prediction), "rolling-origin predictions")
    approaches = record.get("approaches", {})
    _require(isinstance(approaches, dict), "approaches")
    for name in ("envelope", "isoflop"):
        _require(_is_object(approaches.get(name)), name)
        _require(_is_line(approaches.get(name) or {}), f"line of {name}")
    profiles = (approaches.get("isoflop") or {}).get("profiles", [])
    _require(_each(profiles, _is_profile), "IsoFLOP profiles")


def is_size(value: object) -> bool:
    """Whether `value` is a number that a size, budget or loss may have."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and _SMALLEST < value < _LARGEST


def _is_small(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 100


def _is_object(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _each(values: Any, good: Any) -> bool:
    return isinstance(values, list) and all(isinstance(entry, dict) and good(entry) for entry in values)


def _is_prediction(entry: Record) -> bool:
    return is_size(entry.get("reach")) and _is_small(entry.get("log_error")) and is_size(entry.get("fitted_runs"))


def _is_line(entry: Record) -> bool:
    if entry.get("n_exponent") is None:
        return True
    coefficient = entry.get("log_coefficient")
    return _is_small(entry["n_exponent"]) and isinstance(coefficient, (int, float)) and abs(coefficient) < 1e4


def _is_profile(entry: Record) -> bool:
    runs = entry.get("runs")
    if not runs or not _each(runs, lambda run: is_size(run.get("n")) and is_size(run.get("loss_nats"))):
        return False
    minimum = (entry.get("n_opt"), entry.get("loss_nats"))
    known = minimum == (None, None) or (is_size(minimum[0]) and isinstance(minimum[1], (int, float)))
    return known and is_size(entry.get("flops")) and isinstance(entry.get("curvature"), (int, float))


def _require(sound: bool, part: str) -> None:
    if not sound:
        raise BadInput(f"the fit is damaged, or of an older version, in its {part}")
