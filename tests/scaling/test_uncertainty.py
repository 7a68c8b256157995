"""Intervals: reproducible, by cluster, and about as often right as they say."""

from __future__ import annotations

import numpy as np
import pytest

from gpt2cli.scaling.fit import fit_surface
from gpt2cli.scaling.laws import ChinchillaLaw, allocate
from gpt2cli.scaling.uncertainty import Bootstrap, bootstrap

LAW = ChinchillaLaw(1.8, 400.0, 400.0, 0.34, 0.30)
N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e6, 6e7, 4), np.geomspace(2e7, 2e9, 5)))


def resampled(loss: np.ndarray, clusters: np.ndarray, resamples: int = 200, seed: int = 0) -> Bootstrap:
    start = fit_surface(N, D, loss).parameters
    return bootstrap(N, D, loss, clusters, start, resamples=resamples, seed=seed)


def noisy(seed: int, noise: float = 0.004) -> np.ndarray:
    return LAW.loss(N, D) * np.exp(np.random.default_rng(seed).normal(size=N.size) * noise)


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Of 60 simulated ladders 95 % should cover; fewer than 85 % has a chance of 1 in 400."""
    truth_n, _, truth_loss = allocate(LAW.array(), 1e19)
    covered = np.zeros(3)
    for seed in range(60):
        boot = resampled(noisy(seed), np.arange(N.size), seed=seed)
        n_opt, _, loss = allocate(boot.parameters, 1e19)
        for i, (values, truth) in enumerate(((n_opt, truth_n), (loss, truth_loss), (boot.parameters[:, 3], LAW.alpha))):
            low, high = boot.interval(values) or (np.nan, np.nan)
            covered[i] += low <= truth <= high
    assert (covered >= 51).all(), covered
    assert (covered < 60).any(), "intervals that always cover are too wide"


def test_same_seed_same_intervals_and_another_seed_others() -> None:
    loss, clusters = noisy(1), np.arange(N.size)
    first, again, other = (resampled(loss, clusters, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first.parameters, again.parameters)
    assert not np.array_equal(first.parameters, other.parameters)


def test_branches_of_one_trunk_are_drawn_together() -> None:
    """Errors shared within a trunk leave half as many independent errors: knowing the trunks widens beta's interval."""
    trunk, widths = np.repeat(np.arange(10), 2), []
    for seed in range(3):
        shared = np.random.default_rng(seed).normal(size=10)[trunk] * 0.01
        loss = LAW.loss(N, D) * np.exp(shared)
        for clusters in (trunk, np.arange(N.size)):
            boot = resampled(loss, clusters, 400)
            assert boot.clusters == len(set(clusters))
            widths.append(np.ptp(boot.interval(boot.parameters[:, 4]) or (0.0, 0.0)))
    assert all(together > 1.2 * apart for together, apart in zip(widths[::2], widths[1::2], strict=True))


def test_resamples_that_cannot_carry_a_fit_are_dropped_and_counted() -> None:
    boot = resampled(noisy(2), np.repeat(np.arange(4), 5), 300)
    assert boot.drawn == 300
    assert 0 < boot.degenerate < 300
    assert len(boot.parameters) == 300 - boot.degenerate


def test_without_resamples_there_is_no_interval() -> None:
    boot = resampled(noisy(2), np.arange(N.size), 0)
    assert boot.interval(boot.parameters[:, 0]) is None
