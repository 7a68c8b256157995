"""Where a run stands after a step, as a checkpoint's training/state.json says it: all but weights and moments."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.records.checkpoint import read_json
from gpt2cli.training.loss_scale import LARGEST


@dataclass(frozen=True)
class Position:
    """Where a run stands after `step` steps; metrics_bytes is the length of metrics.jsonl then.

    Of the fields with defaults earlier checkpoints have none. lr_phase: that of gpt2.step/1. updates: the optimizer's
    steps, fewer than `step` where batches were left out, None for as many. batches_left_out: by how many the data order
    is ahead of the steps since a rollback. rollbacks: those since the last regular checkpoint. evaluation_due: the
    evaluation of this step is still to be written. spikes, loss_scale: what spikes.SpikeDetector and
    loss_scale.LossScale go on with. ranks: how many the bits depend on, None where any number gives the same.
    micro_batch: the sequences asked for and those taken since memory ran out, None where it did not. metrics_sha256:
    of the first metrics_bytes of metrics.jsonl.
    """

    run: str
    step: int
    tokens: int
    flops: int
    metrics_bytes: int
    threads: int
    device: str
    torch: str
    lr_phase: str | None = None
    updates: int | None = None
    batches_left_out: int = 0
    rollbacks: list[Any] | None = None
    evaluation_due: bool = False
    spikes: dict[str, Any] | None = None
    loss_scale: dict[str, Any] | None = None
    ranks: int | None = None
    micro_batch: dict[str, int] | None = None
    metrics_sha256: str | None = None


def read_position(path: Path) -> Position:
    """Return the position in a file that anybody may have written; BadInput where it is none of this version's."""
    fields = read_json(path)
    wrong = f"{path} does not describe a position"
    known = dataclasses.fields(Position)
    for name in sorted(set(fields) - {field.name for field in known}):
        raise BadInput(f"{wrong} that this version of gpt2 knows: it has {ascii(name)[:40]}, so a newer one wrote it")
    for field in known:
        if field.default is dataclasses.MISSING and field.name not in fields:
            raise BadInput(f"{wrong}: it has no {field.name}")
    position = Position(**fields)
    for name in _unfit(position):
        raise BadInput(f"{wrong}: its {name} is {ascii(fields[name])[:40]}, which no run has")
    return position


def _unfit(position: Position) -> Iterator[str]:
    kinds = {str: ("run", "device", "torch", "lr_phase", "metrics_sha256"), bool: ("evaluation_due",),
             int: ("step", "tokens", "flops", "metrics_bytes", "threads", "updates", "batches_left_out", "ranks")}
    may_lack = {"lr_phase", "metrics_sha256", "updates", "ranks"}
    for kind, names in kinds.items():
        for name in names:
            value = getattr(position, name)
            if not (value is None and name in may_lack) and not (
                    _is_count(value, name == "flops") if kind is int else isinstance(value, kind)):
                yield name
    for name, fits in (("rollbacks", _are_rollbacks), ("spikes", _are_spikes), ("loss_scale", _is_loss_scale),
                       ("micro_batch", _is_micro_batch)):
        value = getattr(position, name)
        if value is not None and not fits(value):
            yield name


def _is_count(value: object, any_size: bool = False) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0 and (any_size or value < 1 << 63)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _are_rollbacks(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, list) and len(each) == 2 and _is_count(each[0]) and isinstance(each[1], dict)
        for each in value)


def _are_spikes(value: object) -> bool:
    return isinstance(value, dict) and _is_count(value.get("skipped", 0)) and all(
        isinstance(value.get(name, []), list) and all(map(_is_number, value.get(name, [])))
        for name in ("losses", "grad_norms"))


def _is_loss_scale(value: object) -> bool:
    return isinstance(value, dict) and _is_count(value.get("steps", 0)) and _is_number(value.get("value", 1)) and (
        1 <= value.get("value", 1) <= LARGEST)


def _is_micro_batch(value: object) -> bool:
    return isinstance(value, dict) and all(_is_count(value.get(name)) and value[name] for name in ("asked", "taken"))
