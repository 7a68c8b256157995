"""The configuration in a run.json, which anybody may have written: every known field is of its type, or refused."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import Record
from gpt2cli.records.run_directory import RUN
from gpt2cli.training.config import TrainConfig

_AT_LEAST_ONE = frozenset({"n_layer", "n_head", "n_embd", "n_ctx", "n_vocab", "batch_tokens", "micro_batch", "steps"})

_MOST = 2.0**63


def recorded_config(directory: Path, record: Record) -> dict[str, Any]:
    """Return the `config` of a run's record, as it is; BadInput where a field of TrainConfig is no value of its type.

    Fields that are missing or unknown are the caller's to judge: a run of another version may have them.
    """
    config: dict[str, Any] = record["config"]
    for name in _unfit(config):
        raise BadInput(f"{directory / RUN}: its {name} is {ascii(config[name])[:40]}, which no run has; it was "
                       "changed: --force starts the run anew")
    return config


def check_recordable(config: TrainConfig) -> None:
    """Raise UsageFault where recorded_config() would refuse what a run of this configuration records."""
    record = config.as_record()
    for name in _unfit(record):
        raise UsageFault(f"{name} is {ascii(record[name])[:40]}, which is more than any run can have")


def _unfit(config: dict[str, Any]) -> Iterator[str]:
    for name, kind in _kinds().items():
        if name in config and not _fits(config[name], kind, 1 if name in _AT_LEAST_ONE else 0):
            yield name


@functools.cache
def _kinds() -> dict[str, Any]:
    return get_type_hints(TrainConfig)


def _fits(value: object, kind: Any, least: int) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return any(_fits(value, one, least) for one in get_args(kind))
    if kind is types.NoneType:
        return value is None
    if kind in (int, float):
        wanted = int if kind is int else int | float
        return isinstance(value, wanted) and not isinstance(value, bool) and least <= value < _MOST
    return isinstance(value, kind)
