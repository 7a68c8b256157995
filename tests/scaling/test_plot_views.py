"""Views of a fit and the envelope of runs: equal bytes, what is in them, in grey too, a sentence where nothing is."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2cli.cli.plot import FIT_VIEWS as OFFERED
from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.scaling.envelope import CurveCollector, TrainingCurve, fit_envelope
from gpt2cli.scaling.laws import published
from gpt2cli.scaling.observations import Observations
from gpt2cli.scaling.plot_contours import contour_levels
from gpt2cli.scaling.plot_envelope import draw_envelope, read_envelope
from gpt2cli.scaling.plot_views import FIT_VIEWS
from gpt2cli.scaling.plots import ramp
from gpt2cli.scaling.study import FitConfig, fit_observations
from gpt2cli.scaling.terminal_fit import envelope_text

AXES = {
    "frontier": ("C = 6 N D (FLOP)", "nats per token"),
    "isoflop": ("parameters N", "nats per token"),
    "contours": ("parameters N", "training tokens D"),
    "residuals": ("C = 6 N D (FLOP)", "(%)"),
    "cloud": ("FLOP", "resamples"),
    "rolling": ("compute over the largest fitted (times)", "(%)"),
}


def fitted(law: str = "chinchilla", resamples: int = 30) -> dict[str, Any]:
    """A fit of six sizes at five budgets by Hoffmann's law with 0.2 % noise."""
    truth = published("hoffmann").law
    n = np.tile(np.geomspace(2e7, 2e9, 6), 5)
    c = np.repeat(np.geomspace(1e18, 1e20, 5), 6)
    loss = truth.loss(n, c / 6 / n) * np.exp(np.random.default_rng(0).normal(size=n.size) * 0.002)
    runs = tuple(f"r{i}" for i in range(n.size))
    seen = Observations(n, c / 6 / n, loss, c, runs, np.arange(n.size), "total")
    config = FitConfig((), resamples=resamples, flops=(1e21,), law=law, allow_unidentified=True)
    record: dict[str, Any] = json.loads(json.dumps(fit_observations(seen, config).record()))
    return record


@pytest.fixture(scope="module")
def fit() -> dict[str, Any]:
    return fitted()


def curves() -> list[TrainingCurve]:
    law = published("hoffmann").law
    found = []
    for n in 1e8 * 2.0 ** np.arange(5):
        tokens = np.geomspace(0.2 * n, 400 * n, 300)
        found.append(TrainingCurve(f"n{n:.0f}", n, tokens, law.loss(n, tokens)))
    return found


def drawn(record: dict[str, Any], view: str, kind: str) -> bytes:
    stream = io.BytesIO()
    FIT_VIEWS[view][0](record, stream, kind)
    return stream.getvalue()


def test_every_view_that_is_offered_is_there() -> None:
    assert tuple(FIT_VIEWS) == OFFERED


@pytest.mark.slow
@pytest.mark.parametrize("view", OFFERED)
def test_equal_fits_give_equal_bytes_and_no_clock(fit: dict[str, Any], view: str) -> None:
    kinds = (("svg", b"<?xml"), ("png", b"\x89PNG")) if view == "residuals" else (("svg", b"<?xml"),)
    for kind, magic in kinds:
        first = drawn(fit, view, kind)
        assert first.startswith(magic) and drawn(fit, view, kind) == first
        assert b"dc:date" not in first and b"Matplotlib v" not in first


@pytest.mark.slow
def test_the_envelope_has_equal_bytes() -> None:
    pictures = []
    for _ in range(2):
        stream = io.BytesIO()
        draw_envelope(curves(), "training", fit_envelope(curves()), stream, "svg")
        pictures.append(stream.getvalue())
    assert pictures[0] == pictures[1] and b"dc:date" not in pictures[0]


@pytest.mark.parametrize("view", OFFERED)
def test_text_names_its_axes_and_fits_the_width(fit: dict[str, Any], view: str) -> None:
    text = FIT_VIEWS[view][1](fit, 90, 24)
    x_title, y_title = AXES[view]
    assert x_title in text and y_title in text
    plot = [line for line in text.splitlines() if "│" in line or "┤" in line]
    assert len(plot) == 20 and all(len(line) <= 90 for line in plot)


def test_isoflop_text_tells_minima_from_edges(fit: dict[str, Any]) -> None:
    text = FIT_VIEWS["isoflop"][1](fit, 90, 24)
    assert re.search(r"a  C = 1e18 FLOP: minimum at N \d+", text)
    assert re.search(r"\*  N_opt = C\^0\.4\d\d", text)
    profile = fit["approaches"]["isoflop"]["profiles"][0]
    changed = json.loads(json.dumps(fit))
    changed["approaches"]["isoflop"]["profiles"][0] = {**profile, "minimum": "edge"}
    assert "at the edge (?): left out" in FIT_VIEWS["isoflop"][1](changed, 90, 24)
    assert drawn(changed, "isoflop", "svg") != drawn(fit, "isoflop", "svg")


def test_text_of_the_cloud_has_every_approach(fit: dict[str, Any]) -> None:
    text = FIT_VIEWS["cloud"][1](fit, 90, 24)
    assert "1 envelope: no answer" in text and "2 IsoFLOP: N " in text and "95 % of the resamples: " in text
    n_opt = fit["allocations"][0]["n_opt"]
    assert f"3 surface: N {n_opt / 1e9:.3g}B" in text


def test_text_of_residuals_names_the_worst_run(fit: dict[str, Any]) -> None:
    worst = max(fit["observations"], key=lambda row: abs(row["log_residual"]))
    shown = f"{100 * np.expm1(-worst['log_residual']):+.2f} %  {worst['run']}"
    assert shown in FIT_VIEWS["residuals"][1](fit, 90, 24)


@pytest.mark.parametrize("law", ["skaling", "kaplan-c-floor"])
def test_other_forms_are_drawn_too_or_said_why_not(law: str) -> None:
    record = fitted(law, resamples=20)
    one_variable = law == "kaplan-c-floor"
    for view, (_, text) in FIT_VIEWS.items():
        if view == "cloud" and one_variable:
            with pytest.raises(BadInput, match="no resamples with an optimum"):
                text(record, 90, 24)
        elif view != "rolling" or record["diagnosis"]["rolling_origin"]["predictions"]:
            assert text(record, 90, 24).count("\n") > 20
    assert ("best use of the compute" in FIT_VIEWS["frontier"][1](record, 90, 24)) is not one_variable
    assert drawn(record, "frontier", "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("view", "path", "says"),
    [
        ("isoflop", ("approaches",), "no IsoFLOP profiles"),
        ("rolling", ("diagnosis",), "no rolling-origin predictions"),
        ("contours", ("observations",), "no observations"),
        ("cloud", ("bootstrap",), "no resamples with an optimum"),
    ],
)
def test_a_fit_without_the_part_is_told(fit: dict[str, Any], view: str, path: tuple[str], says: str) -> None:
    lacking = {key: value for key, value in fit.items() if key not in path}
    for draw in (lambda: FIT_VIEWS[view][1](lacking, 80, 24), lambda: drawn(lacking, view, "svg")):
        with pytest.raises(BadInput, match=says):
            draw()


@pytest.mark.parametrize(
    ("view", "damage"),
    [
        ("isoflop", {"approaches": {"isoflop": {"profiles": [{"flops": 1e18}]}}}),
        ("rolling", {"diagnosis": {"rolling_origin": {"predictions": [{"reach": "far"}]}}}),
        ("residuals", {"observations": [{"n": 1e8, "d": 1e9, "loss_nats": 3.0, "cluster": 0}]}),
    ],
)
def test_damage_is_told_in_a_sentence(fit: dict[str, Any], view: str, damage: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="damaged"):
        FIT_VIEWS[view][1]({**fit, **damage}, 80, 24)


def test_colours_differ_in_lightness_alone() -> None:
    """Readable in grey and by the colour-blind: every step of the ramp is lighter than the one before."""
    luminance = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in ramp(8)]
    assert all(after - before > 0.03 for before, after in pairwise(luminance))


def test_contours_are_round_and_within_the_surface() -> None:
    law = published("hoffmann").law
    losses = law.loss(np.geomspace(1e7, 1e10, 50)[None], np.geomspace(1e9, 1e11, 50)[:, None])
    levels = contour_levels(losses)
    assert len(levels) >= 6 and losses.min() < levels.min() and levels.max() < losses.max()
    assert all(len(f"{level:g}") <= 4 for level in levels)


def test_text_of_the_envelope_names_sizes_and_handovers() -> None:
    text = envelope_text(curves(), "training", fit_envelope(curves()), 90, 24)
    assert "training loss (nats per token)" in text and "C = 6 N D (FLOP)" in text
    assert "b  N = 200M" in text and re.search(r"\*  4 handovers: N_opt = C\^0\.45", text)


def test_an_envelope_of_one_size_is_none() -> None:
    with pytest.raises(BadInput, match="no envelope can be drawn: no training curves"):
        read_envelope(CurveCollector())


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--view", "isoflop"), 2, "--view isoflop shows a fit"),
        (("--view", "envelope", "--metric", "ppl"), 2, "no --metric"),
        (("--view", "envelope"), 65, "no envelope can be drawn"),
        (("--view", "pie"), 2, "pie"),
    ],
)
def test_views_of_the_wrong_thing_are_refused(
    gpt2: Callable[..., Any], ladder_metrics: Path, words: tuple[str, ...], status: int, says: str
) -> None:
    done = gpt2("plot", ladder_metrics, *words)
    assert (done.returncode, done.stdout) == (status, b"") and says in done.stderr.decode()


def test_runs_views_of_a_fit_are_refused(gpt2: Callable[..., Any], fit: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "fit.jsonl"
    path.write_text(json.dumps({"schema": "gpt2.fit/1", **fit}) + "\n")
    for words, says in ((("--view", "envelope"), "shows runs"), (("--x", "steps"), "belong to curves")):
        done = gpt2("plot", path, *words)
        assert done.returncode == 2 and says in done.stderr.decode()
    gpt2("plot", path, "--view", "residuals", "-o", tmp_path / "x.svg", check=True)
    assert (tmp_path / "x.svg").read_bytes() == drawn(fit, "residuals", "svg")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, of lists the first two entries."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [found for key, entry in entries for found in ((*path, key), *places(entry, (*path, key)))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_only_our_errors_escape_a_view_of_a_damaged_fit(fit: dict[str, Any], data: st.DataObject) -> None:
    damaged = json.loads(json.dumps(fit))
    damaged["bootstrap"]["drawn"] = 3
    used = {"approaches", "allocations", "observations", "diagnosis"}
    place = data.draw(st.sampled_from([path for path in places(damaged) if path[0] in used]))
    holder = damaged
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = data.draw(st.sampled_from([None, "x", -1, 0, [], {}, 10**30, 1e-300, True, [1], {"a": 1}]))
    view = data.draw(st.sampled_from(OFFERED))
    with contextlib.suppress(Gpt2Error):
        assert FIT_VIEWS[view][1](damaged, 80, 24)
