"""A checkpoint's state.json is anybody's: a field of another type than a run's own is refused by its name."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from gpt2cli.errors import BadInput
from gpt2cli.training.position import Position, read_position

WHOLE = asdict(Position(
    "r", 3, 96, 10**30, 0, 1, "cpu", "2", lr_phase="stable", updates=2, rollbacks=[(2, {"what": "a leap"})],
    spikes={"skipped": 1, "losses": [4.5, 4], "grad_norms": [0.5]}, loss_scale={"value": 2.0**16, "steps": 4}, ranks=2,
    micro_batch={"asked": 8, "taken": 4}, metrics_sha256="0" * 64))


def read(directory: Path, state: dict[str, Any]) -> Position:
    (directory / "state.json").write_text(json.dumps(state))
    return read_position(directory / "state.json")


def test_what_a_run_writes_is_read(tmp_path: Path) -> None:
    assert json.dumps(asdict(read(tmp_path, WHOLE))) == json.dumps(WHOLE)
    first = {name: WHOLE[name] for name in ("run", "step", "tokens", "flops", "metrics_bytes", "threads", "device",
                                            "torch")}
    assert read(tmp_path, first).updates is None  # of the first released version


@pytest.mark.parametrize("change", [
    {"step": "3"}, {"updates": 10**300}, {"tokens": -1}, {"metrics_bytes": 1.5}, {"run": 1}, {"torch": None},
    {"evaluation_due": 1}, {"metrics_sha256": 0}, {"threads": True}, {"spikes": {"losses": ["4.5"]}},
    {"spikes": {"losses": 4.5}}, {"spikes": {"skipped": -1}}, {"spikes": []}, {"loss_scale": {"value": "1"}},
    {"loss_scale": {"value": 0.0}}, {"loss_scale": {"value": 1e300}}, {"loss_scale": 1}, {"rollbacks": [1]},
    {"rollbacks": [[1, 2]]}, {"micro_batch": {"asked": 8}}, {"micro_batch": {"asked": 8, "taken": 0}},
])
def test_other_values_are_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"does not describe a position: its {next(iter(change))} is .{{1,40}}, which"):
        read(tmp_path, WHOLE | change)


def test_a_field_of_a_newer_version_is_named_and_a_missing_one_too(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"does not describe .* that this version of gpt2 knows: it has 'epoch', so a "):
        read(tmp_path, WHOLE | {"epoch": 1})
    with pytest.raises(BadInput, match=r"it has no step$"):
        read(tmp_path, {name: value for name, value in WHOLE.items() if name != "step"})
    with pytest.raises(BadInput) as error:
        read(tmp_path, WHOLE | {"[" * 1000: 1})
    assert len(str(error.value)) < 600
