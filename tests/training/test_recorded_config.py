"""run.json's configuration is anybody's: what is of another type than a run's own is refused before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.recorded_config import check_recordable, recorded_config


def config() -> dict[str, Any]:
    options = TrainOptions(layers=1, embd=16, heads=2, context=32, batch_tokens=64, steps=10, schedule="wsd")
    return resolve(options, n_vocab=300, train_tokens=10_000, native_bf16=False).as_record()


def test_what_train_writes_is_taken() -> None:
    found = recorded_config(Path("run"), {"config": config()})
    assert TrainConfig(**found).as_record() == config()


@pytest.mark.parametrize(("name", "value"), [("lr", 1e20), ("checkpoint_every", 10**19), ("clip", 1e300)])
def test_what_could_not_be_read_again_is_not_begun(name: str, value: float) -> None:
    check_recordable(TrainConfig(**config()))
    with pytest.raises(UsageFault, match=f"^{name} is .{{1,40}}, which is more than any run can have"):
        check_recordable(TrainConfig(**config() | {name: value}))


def test_fields_of_other_versions_are_left_to_the_caller() -> None:
    assert recorded_config(Path("run"), {"config": {"later": "x"}}) == {"later": "x"}


@pytest.mark.parametrize(("name", "value"), [
    ("micro_batch", ""), ("micro_batch", 0), ("micro_batch", True), ("micro_batch", 1.5), ("steps", -1),
    ("n_layer", 9**400), ("lr", "fast"), ("lr", -1.0), ("lr", 1e300), ("dtype", None), ("dtype", ["bf16"]),
    ("schedule", "up"), ("schedule", ["wsd"]), ("decay_steps", "x"), ("on_spike", 1), ("doc_mask", 1),
    ("spike_sigmas", {}),
])
def test_other_values_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(BadInput, match=f"^run/run.json: its {name} is .{{1,40}}, which no run has"):
        recorded_config(Path("run"), {"config": config() | {name: value}})
