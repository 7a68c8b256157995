"""Designs that cannot carry a fit are refused with the run to add; weak ones are warned of."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2cli.scaling import diagnosis
from gpt2cli.scaling.fit import fit_surface
from gpt2cli.scaling.laws import published

SIZES, LENGTHS = np.geomspace(1e6, 1e8, 4), np.geomspace(1e8, 1e10, 4)
LAW = published("hoffmann").law


def grid(sizes: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, d = (axis.ravel() for axis in np.meshgrid(sizes, lengths))
    return n, d


def warned(n: np.ndarray, d: np.ndarray, loss: np.ndarray | None = None) -> str:
    fit = fit_surface(n, d, LAW.loss(n, d) if loss is None else loss)
    return "; ".join(diagnosis.warnings(diagnosis.diagnose(n, d, fit)))


def test_a_sound_grid_passes_without_a_word() -> None:
    n, d = grid(SIZES, LENGTHS)
    assert diagnosis.refusals(n, d) == []
    assert warned(n, d) == ""


@pytest.mark.parametrize(
    ("n", "d", "says", "adds"),
    [
        (*grid(SIZES[:1], np.geomspace(1e8, 1e10, 6)), "only one model size", "N = 4M and 16M"),
        (*grid(SIZES[:2], LENGTHS), "only two model sizes", "N = 18.6M"),
        (*grid(np.geomspace(1e6, 1e8, 6), LENGTHS[:1]), "only one length", "D = 400M and 1.6B"),
        (*grid(SIZES, LENGTHS[:2]), "only two lengths", "D = 1.86B"),
        (np.geomspace(1e6, 1e9, 8), 20 * np.geomspace(1e6, 1e9, 8), "in proportion to N", "N = 1M with D = 20B"),
        (np.geomspace(1e6, 1e9, 8), 1e17 / np.geomspace(1e6, 1e9, 8), "one compute budget", "N = 1M with D = 100B"),
        (SIZES, LENGTHS[[2, 0, 3, 1]], "4 observations cannot determine five", "at least one run"),
    ],
)
def test_unidentified_designs(n: np.ndarray, d: np.ndarray, says: str, adds: str) -> None:
    sentence = "; ".join(diagnosis.refusals(n, d))
    assert says in sentence
    assert adds in sentence


def test_short_span_of_d_is_warned_of() -> None:
    assert "D spans only 4.0 times" in warned(*grid(SIZES, np.geomspace(1e8, 4e8, 4)))


def test_poor_condition_is_warned_of() -> None:
    n = np.geomspace(1e6, 1e9, 12)
    d = 20 * n * np.where(np.arange(12) % 2, 1.1, 0.9)
    assert diagnosis.refusals(n, d) == []
    assert "condition number" in warned(n, d)


def test_a_term_that_is_not_there_is_named() -> None:
    """Larger models that are a little worse leave nothing for A."""
    n, d = grid(SIZES, LENGTHS)
    said = warned(n, d, 1.69 + 410.7 * d**-0.28 + 3e-4 * np.log(n / 1e6))
    assert "A ran to 0: the runs show no gain from size" in said
    assert "alpha" not in said, "the exponent of a term that is not there says nothing"


def test_one_run_off_the_surface_is_named() -> None:
    n, d = grid(SIZES, LENGTHS)
    loss = LAW.loss(n, d)
    loss[5] *= 1.05
    assert warned(n, d, loss).startswith("the worst residual is 4.9 %")


def test_levels_join_what_is_nearly_equal() -> None:
    assert diagnosis.levels(np.array([100.0, 1e6, 101.0, 1.005e6, 1e3])).tolist() == [0, 2, 0, 2, 1]


@pytest.mark.parametrize(
    ("value", "text"), [(124_439_808, "124M"), (2.98e12, "2.98T"), (1e15, "1e+15"), (512, "512"), (0.25, "0.25")]
)
def test_short_counts(value: float, text: str) -> None:
    assert diagnosis.short(value) == text
