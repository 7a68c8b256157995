"""Records are anybody's: a run's name is shown in a picture and never typeset, and no name or number fills it."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import pytest

from gpt2cli.scaling.curves import Curve
from gpt2cli.scaling.foreign_names import LONGEST, figure_name, short_name
from gpt2cli.scaling.plot_curves import draw_curves
from gpt2cli.scaling.terminal_plot import curves_text

HOSTILE = "$\\frac{0$ \x1b[2J\x00\n" + "x" * 70_000


def curve(run: str, n_params: float | None = None) -> Curve:
    steps = [{"step": step, "tokens": step, "loss_nats": 3.0 + 1 / step, "lr": 1.0, "lr_phase": "done"}
             for step in (1, 2)]
    return Curve(run, n_params, steps=steps)


def test_names_are_one_short_line() -> None:
    assert short_name("l2-e32") == figure_name("l2-e32") == "l2-e32"
    assert short_name(HOSTILE).isprintable() and len(short_name(HOSTILE)) == LONGEST
    assert figure_name("a $x$") == "a \\$x\\$"


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_figure_takes_any_name(kind: str, count: int) -> None:
    picture = io.BytesIO()
    draw_curves([curve(f"{number}{HOSTILE}") for number in range(count)], picture, kind,
                references={"$\\alpha_{$": 3.0})
    if kind == "svg":
        assert ET.fromstring(picture.getvalue()).tag.endswith("svg")  # control characters are not XML
    else:
        assert picture.getvalue().startswith(b"\x89PNG")


def test_of_many_runs_some_are_named() -> None:
    many = [curve(f"r{number}", 1000.0 + number) for number in range(300)]
    lines = curves_text(many, "tokens", {}, 80, 24).split("\n")
    assert len(lines) < 130 and "and 200 more" in lines[-2]
    draw_curves(many, io.BytesIO(), "png")
