"""Records with nonsense in their fields end in a sentence, in every verb that reads records of runs."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import Gpt2Error
from gpt2cli.records.jsonl import encode_record
from gpt2cli.records.schemas import SCHEMAS
from gpt2cli.reporter import Silent
from gpt2cli.scaling.capabilities import panels
from gpt2cli.scaling.capability_fit import fit_series
from gpt2cli.scaling.comparison import against_law, against_run, read_runs
from gpt2cli.scaling.critical_batch import FIELDS, measured
from gpt2cli.scaling.curve_fit import fit_curve
from gpt2cli.scaling.curves import read_drawable
from gpt2cli.scaling.laws import PUBLISHED
from gpt2cli.scaling.plot_noise import draw_noise, noise_curves, noise_text
from gpt2cli.scaling.saved import known_law

STEP = {"run": "r", "step": 1, "tokens": 10, "flops": 60.0, "loss_nats": 3.0, "lr": 0.1, "lr_phase": "stable",
        "grad_norm": 1.0, **dict(zip(FIELDS, (10, 40, 2.0, 1.0), strict=True))}  # fmt: skip
EVALUATION = {"run": "r", "step": 1, "tokens": 10, "flops": 60.0, "split": "val", "nll_nats_per_token": 3.0,
              "ppl": 20.0, "n_tokens": 10, "protocol": {}, "lr_phase": "done", "n_params": 1000}  # fmt: skip
NONSENSE = st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=3),
                     st.integers(-3, 10**30), st.lists(st.integers(), max_size=2), st.just({}))  # fmt: skip


def metrics(draws: list[tuple[str, str, Any]]) -> bytes:
    """Two runs of a dozen steps and evaluations, falling, with some fields replaced."""
    records = []
    for name in ("r", "s"):
        for i in range(1, 13):
            more = {"run": name, "step": i, "tokens": 10 * i, "flops": 60.0 * i}
            records.append(("gpt2.step", {**STEP, **more, "loss_nats": 3 + 1 / i}))
            records.append(("gpt2.eval", {**EVALUATION, **more, "nll_nats_per_token": 3 + 1 / i}))
    for i, (_, name, value) in enumerate(draws):
        records[(7 * i + 3) % len(records)][1][name] = value
    return b"".join(encode_record(kind, record) for kind, record in records)


def drawn() -> st.SearchStrategy[list[tuple[str, str, Any]]]:
    names = st.sampled_from(sorted({*STEP, *EVALUATION} - {"run"}))
    return st.lists(st.tuples(st.just(""), names, NONSENSE), min_size=1, max_size=4)


def read_everything(path: str) -> list[Callable[[], Any]]:
    law = PUBLISHED["hoffmann"].law

    def capability() -> None:
        found = read_drawable([path], Silent())
        for panel in panels(found.final_evaluations(), found.tasks, {}):
            for series in panel.series:
                for variable in ("n", "d", "c"):
                    fit_series(series, variable, None, (0, 1), [1.0], 0, 0)

    def curves() -> None:
        for curve in read_drawable([path], Silent()).curves:
            for split, axis in (("val", "steps"), ("train", "flops"), ("train", "tokens")):
                fit_curve(curve, split, axis, None, [100.0], 3)

    return [
        capability,
        curves,
        lambda: measured([path], 10, Silent()),
        lambda: measured([path], None, Silent()),
        lambda: noise_curves(read_drawable([path], Silent()).curves, "tokens"),
        lambda: against_run(read_runs([path], Silent()), "r"),
        lambda: against_law(read_runs([path], Silent()), law),
    ]


@pytest.mark.filterwarnings("error")
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn())
def test_only_our_errors_escape(tmp_path: Path, draws: list[tuple[str, str, Any]]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(metrics(draws))
    for question in read_everything(str(path)):
        try:
            question()
        except Gpt2Error as error:
            assert str(error) and "\n" not in str(error)


@pytest.mark.filterwarnings("error")
@settings(max_examples=60, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.lists(st.tuples(st.integers(0, 11), st.sampled_from([*FIELDS, "step", "tokens", "flops", "loss_nats"]),
                          NONSENSE | st.floats(-1e3, 1e300)), min_size=1, max_size=5),
       st.sampled_from(["tokens", "steps", "flops"]))  # fmt: skip
def test_measurements_of_noise_that_are_none(tmp_path: Path, draws: list[tuple[int, str, Any]], axis: str) -> None:
    """What is no measurement is named; all else is a picture and a finite or missing ratio."""
    rows = [{**STEP, "step": i, "tokens": 10 * i, "flops": 60.0 * i} for i in range(1, 13)]
    for place, name, value in draws:
        rows[place][name] = value
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(encode_record("gpt2.step", row) for row in rows))
    try:
        for found in measured([str(path)], None, Silent()):
            assert found.noise_scale is None or 0 < found.noise_scale < math.inf
        curves = noise_curves(read_drawable([str(path)], Silent()).curves, axis)
        assert noise_text(curves, axis, 60, 20)
        if len(draws) == 1:
            draw_noise(curves, io.BytesIO(), "png", axis=axis)
    except Gpt2Error as error:
        assert str(error) and "\n" not in str(error)


def test_undamaged_records_answer(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(metrics([]))
    for question in read_everything(str(path))[1:]:
        assert question() is None or question()


@given(st.dictionaries(st.sampled_from(["bootstrap", "objective", "seed", "drawn", "delta"]),
                       NONSENSE | st.floats(), min_size=1, max_size=3))
@example({"seed": -1})
@example({"seed": math.inf})
@example({"delta": None})
@example({"bootstrap": []})
@settings(max_examples=60, deadline=None)
def test_a_saved_fit_whose_resampling_is_nonsense(drawn: dict[str, Any]) -> None:
    record = {"law": "chinchilla", "parameters": {"E": 1.7, "A": 400.0, "B": 410.0, "alpha": 0.34, "beta": 0.28},
              "bootstrap": {"drawn": 2, "seed": 0}, "objective": {"delta": 1e-3},
              "observations": [{"n": 1e6 * 2**i, "d": 1e8 * 3**j, "loss_nats": 3.0 - 0.1 * i - 0.1 * j, "cluster": i}
                               for i in range(4) for j in range(3)]}  # fmt: skip
    for name, value in drawn.items():
        if name in ("bootstrap", "objective"):
            record[name] = value
    for name, value in drawn.items():
        place = record["objective" if name == "delta" else "bootstrap"]
        if name in ("seed", "drawn", "delta") and isinstance(place, dict):
            place[name] = value if name != "drawn" or not isinstance(value, int) else value % 3
    try:
        law = known_law(record, "here")
    except Gpt2Error as error:
        assert str(error) == "here: the fit's bootstrap is damaged"
    else:
        assert law.name == "chinchilla" and (law.boot is None or law.boot.drawn == record["bootstrap"]["drawn"])


@pytest.mark.parametrize("value", [None, "1e6", True, [1]])
def test_a_run_to_draw_whose_parameters_are_no_number(tmp_path: Path, value: Any) -> None:
    run = {name: 0 for name in SCHEMAS["gpt2.run"][1]} | {"run": "r", "n_params": value}
    (tmp_path / "metrics.jsonl").write_bytes(encode_record("gpt2.run", run))
    with pytest.raises(Gpt2Error, match="run 'r': its n_params is no number"):
        read_drawable([str(tmp_path / "metrics.jsonl")], Silent())
