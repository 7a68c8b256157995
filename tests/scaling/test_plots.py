"""Figures: real pictures, the same bytes for the same records; text plots that say what they show."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import gpt2_here as gpt2_here

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent
from gpt2cli.scaling.curves import MAX_POINTS, Curve, read_drawable, smooth, thin
from gpt2cli.scaling.laws import ChinchillaLaw
from gpt2cli.scaling.observations import Observations
from gpt2cli.scaling.plot_curves import draw_curves
from gpt2cli.scaling.plot_fit import draw_fit
from gpt2cli.scaling.plots import picture_format
from gpt2cli.scaling.study import FitConfig, fit_observations
from gpt2cli.scaling.terminal_fit import fit_text
from gpt2cli.scaling.terminal_plot import Canvas, curves_text


def curve(run: str = "tiny", n_params: float = 1e6, steps: int = 200) -> Curve:
    made = Curve(run, n_params)
    for step in range(1, steps + 1):
        phase = "warmup" if step <= 20 else "stable" if step <= 150 else "decay"
        fields: dict[str, Any] = {"run": run, "step": step, "tokens": 1024 * step, "flops": 6e9 * step}
        made.steps.append(
            {**fields, "loss_nats": 3 + 4 * step**-0.5, "lr": min(step / 20, 1) * 1e-3, "lr_phase": phase}
        )
        if step % 50 == 0:
            made.evaluations.append({**fields, "nll_nats_per_token": 3.1 + 4 * step**-0.5})
    return made


def fit_record() -> dict[str, Any]:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 6e7, 4), np.geomspace(1e8, 1e10, 4)))
    loss = ChinchillaLaw(1.7, 400.0, 400.0, 0.34, 0.29).loss(n, d)
    seen = Observations(
        n,
        d,
        loss * np.exp(np.random.default_rng(0).normal(size=n.size) * 0.003),
        6 * n * d,
        tuple(f"r{i}" for i in range(n.size)),
        np.arange(n.size),
        "total",
    )
    return fit_observations(seen, FitConfig((), resamples=100, flops=(1e20,))).record()


def drawn(kind: str, what: Any) -> bytes:
    stream = io.BytesIO()
    if isinstance(what, dict):
        draw_fit(what, stream, kind)
    else:
        draw_curves(what, stream, kind, references={"unigram": 5.9})
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", [[curve()], [curve("a"), curve("b", 4e6, 400)], fit_record()], ids=["one", "two", "fit"]
)
def test_equal_records_give_equal_bytes(what: Any) -> None:
    for kind, magic in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        first = drawn(kind, what)
        assert first.startswith(magic)
        assert drawn(kind, what) == first
    picture = drawn("svg", what)
    assert b"dc:date" not in picture and b"Matplotlib v" not in picture


def test_a_figure_shows_its_data() -> None:
    """Another loss gives another picture, and a reference line adds a path."""
    changed = curve()
    changed.evaluations[-1]["nll_nats_per_token"] += 0.3
    assert drawn("svg", [curve()]) != drawn("svg", [changed])
    plain = io.BytesIO()
    draw_curves([curve()], plain, "svg")
    assert drawn("svg", [curve()]).count(b"stroke-dasharray") == plain.getvalue().count(b"stroke-dasharray") + 1


def test_a_run_without_steps_or_evaluations_is_drawn_too() -> None:
    only_steps, only_evaluations = curve("s"), curve("e")
    only_steps.evaluations.clear()
    only_evaluations.steps.clear()
    assert drawn("png", [only_steps, only_evaluations]).startswith(b"\x89PNG")
    assert "e, 1M parameters, validation loss 3.38" in curves_text([only_steps, only_evaluations], "steps", {}, 80, 24)


@pytest.mark.parametrize("name", ["x", "x.pdf", "png", "x.png.zst"])
def test_other_suffixes_are_refused(name: str) -> None:
    with pytest.raises(UsageFault, match=r"a figure is \.png or \.svg"):
        picture_format(name)


def test_smoothing_keeps_a_line_and_thinning_its_ends() -> None:
    line = np.arange(5000.0)
    np.testing.assert_allclose(smooth(line)[:4900], line[:4900])
    assert abs(smooth(np.random.default_rng(0).normal(size=5000))[50:]).max() < 0.6
    leap = np.where(np.arange(500) == 200, 1e18, 1.0)
    assert smooth(leap).min() == 1  # a norm of 0 could not be drawn on a logarithmic axis
    x, y = thin(line, line * 2)
    assert len(x) <= MAX_POINTS and (x[0], x[-1], y[-1]) == (0.0, 4999.0, 9998.0)


def test_text_of_a_run() -> None:
    text = curves_text([curve()], "tokens", {"unigram": 5.9}, 72, 20)
    assert re.search(r"^ +o  tiny, 1M parameters, validation loss 3\.3828$", text, re.MULTILINE)
    assert "- -  unigram 5.9" in text
    plot = "\n".join(line for line in text.splitlines() if "│" in line or "┤" in line)
    assert plot.count("o") == 4
    assert all(len(line) <= 72 for line in text.splitlines())
    assert re.search(r"^ +5 ┤", text, re.MULTILINE) and "100K" in text and "200K" in text


def test_text_of_a_fit_puts_lower_losses_lower() -> None:
    lines = fit_text(fit_record(), 80, 24).splitlines()
    first, last = (next(i for i, line in enumerate(lines) if mark in line) for mark in ("a", "*"))
    assert first < last
    assert any(line.strip().startswith("*  best at 1e+20 FLOP: N ") for line in lines)


def test_canvas_draws_a_diagonal_from_corner_to_corner() -> None:
    canvas = Canvas(30, 14, (0.0, 1.0), (0.0, 1.0))
    canvas.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    rows = [line[9:] for line in canvas.text("t", "x").splitlines()[1:11]]
    first_dot = [next(i for i, c in enumerate(row) if c != " ") for row in rows]
    assert first_dot == sorted(first_dot, reverse=True)
    assert first_dot[-1] == 0 and len(rows[0]) == 20


def test_a_constant_curve_has_an_axis() -> None:
    flat = curve()
    for record in flat.steps + flat.evaluations:
        record["loss_nats"] = record["nll_nats_per_token"] = 3.0
    assert "3 ┤" in curves_text([flat], "tokens", {}, 60, 16)


def test_runs_are_found_in_directories(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        lines = [encode_record("gpt2.step", {**step, "grad_norm": 1.0}) for step in curve(name, steps=3).steps]
        (tmp_path / name / "metrics.jsonl").write_bytes(b"".join(lines))
    found = read_drawable([str(tmp_path)], Silent())
    assert [(each.run, len(each.steps)) for each in found.curves] == [("a", 3), ("b", 3)]
    assert len(read_drawable([str(tmp_path / "a")], Silent()).curves) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="neither a run directory nor a directory of runs"):
        read_drawable([str(tmp_path / "empty")], Silent())
    (tmp_path / "other.jsonl").write_text('{"text":"x"}\n')
    with pytest.raises(BadInput, match="no step, evaluation or fit records"):
        read_drawable([str(tmp_path / "other.jsonl")], Silent())


@pytest.mark.parametrize("view", ["curves", "gradients"])
@pytest.mark.filterwarnings("error")
def test_numbers_that_no_run_has_are_refused_before_they_are_drawn(
    gpt2_here: Callable[..., Any], tmp_path: Path, view: str
) -> None:
    step = {"schema": "gpt2.step/1", "run": "a", "tokens": 64, "flops": 1000, "lr": 0.1, "lr_phase": "stable"}
    records = [{**step, "step": n, "loss_nats": 1e300 if n == 5 else 3.5, "grad_norm": 1e300 if n == 6 else 1.0}
               for n in range(1, 9)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    done = gpt2_here("plot", tmp_path / "m.jsonl", "--view", view, "-o", tmp_path / "m.svg")
    assert done.returncode == 65 and b"has a number above 1e+100 in" in done.stderr, done.stderr
    assert not (tmp_path / "m.svg").exists()


def test_a_fit_at_the_ends_of_amounts_is_drawn(
    gpt2_here: Callable[..., Any], ladder_metrics: Path, tmp_path: Path
) -> None:
    for flops in ("1", "1e50"):
        gpt2_here("fit-scaling", ladder_metrics, "--bootstrap", 5, "--flops", flops, "-f", "-o", tmp_path / "f.jsonl",
                  check=True)
        gpt2_here("plot", tmp_path / "f.jsonl", "-f", "-o", tmp_path / "f.svg", check=True)
