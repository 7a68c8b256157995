"""Approach 2 of Hoffmann et al. (2022, section 3.2): IsoFLOP profiles.

Runs that spent one budget C = 6 N D are a profile; a parabola of the final loss in log N has its minimum at N_opt(C),
and a line through the minima of several budgets gives N_opt as a power of C. A minimum that lies outside its profile,
or whose lowest run is the smallest or the largest, is at the edge: it is flagged and not used.

A loss surface with alpha unlike beta is no parabola in log N, so the minimum is displaced, the more the wider the
profile and the further its centre from the optimum. Profiles that all lie alike about their optima displace the
intercept alone; one grid of sizes for every budget bends the exponent too. `expected_exponent` says by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpt2cli.scaling.diagnosis import levels
from gpt2cli.scaling.laws import FLOPS_PER_ND
from gpt2cli.scaling.power_line import PowerLine, line_through, weighted_lines

SAME_BUDGET = 0.05
"""Runs whose budgets lie within this of the smallest, in logarithm, are one profile."""
MIN_SIZES = 3
"""A parabola has three coefficients."""
MIN_BUDGETS = 3
"""Two minima would leave nothing to judge the line by."""

Minimum = Literal["inside", "edge", "none"]


@dataclass(frozen=True)
class Profile:
    """The runs of one budget and their parabola loss = loss_nats + curvature (log N - log n_opt)^2.

    `members` index the observations. `minimum` is "edge" where n_opt is not to be trusted, "none" where the losses
    do not turn up at both ends, so that there is no minimum and n_opt is nan.
    """

    flops: float
    members: np.ndarray
    n_opt: float
    loss_nats: float
    curvature: float
    minimum: Minimum


@dataclass(frozen=True)
class IsoFlop:
    """The profiles by rising budget and the line through their inner minima; without one, `why` is a sentence."""

    profiles: tuple[Profile, ...]
    line: PowerLine | None
    why: str | None

    @property
    def inside(self) -> list[Profile]:
        """The profiles whose minimum counts."""
        return [profile for profile in self.profiles if profile.minimum == "inside"]


def fit_isoflop(n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> IsoFlop:
    """Fit approach 2 to M final losses in nats; `n`, `d`, `loss` are positive, (M,)."""
    groups = profiles_of(n, d)
    profiles = tuple(_profile(members, n, d, loss) for members in groups)
    inside = [profile for profile in profiles if profile.minimum == "inside"]
    if len(inside) < MIN_BUDGETS:
        return IsoFlop(profiles, None, _too_few(profiles, len(inside)))
    optima = np.array([(profile.flops, profile.n_opt) for profile in inside])
    return IsoFlop(profiles, line_through(optima[:, 0], optima[:, 1]), None)


def profiles_of(n: np.ndarray, d: np.ndarray) -> list[np.ndarray]:
    """Return the index arrays of the runs that share a budget and have at least MIN_SIZES sizes, by rising budget."""
    log_c = np.log(FLOPS_PER_ND * n * d)
    order = np.argsort(log_c, kind="stable")
    groups: list[list[int]] = []
    for index in order:
        if groups and log_c[index] - log_c[groups[-1][0]] <= SAME_BUDGET:
            groups[-1].append(int(index))
        else:
            groups.append([int(index)])
    return [np.array(group) for group in groups if levels(n[group]).max() + 1 >= MIN_SIZES]


def resampled_lines(
    found: IsoFlop, n: np.ndarray, loss: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return log coefficients and exponents, (R,), of refits to reweighted runs; `weights` (R, M) are counts.

    Only profiles whose minimum counts in the point fit are used; in a resample one drops out when it lacks three sizes
    or its minimum leaves the range of its runs. A resample with fewer than two profiles left gives nan.
    """
    inside = found.inside
    optima = np.zeros((len(weights), len(inside)))
    counted = np.zeros((len(weights), len(inside)))
    for k, profile in enumerate(inside):
        x = np.log(n[profile.members])
        part = weights[:, profile.members]
        present = part > 0
        size_of = levels(n[profile.members])
        distinct = sum(present[:, size_of == size].any(axis=1).astype(int) for size in range(size_of.max() + 1))
        vertex = np.full(len(weights), np.nan)
        enough = np.asarray(distinct) >= MIN_SIZES
        vertex[enough] = _vertices(x, loss[profile.members], part[enough])[0]
        low = np.where(present, x, np.inf).min(axis=1)
        high = np.where(present, x, -np.inf).max(axis=1)
        with np.errstate(invalid="ignore"):
            good = (vertex >= low) & (vertex <= high)
        optima[:, k] = np.where(good, vertex, 0.0)
        counted[:, k] = good
    log_c = np.log(np.array([profile.flops for profile in inside]))
    return weighted_lines(log_c, optima, counted)


def expected_exponent(found: IsoFlop, n: np.ndarray, predicted: np.ndarray) -> float | None:
    """Return the exponent that the profiles in use would give if the losses were `predicted` (M,) by a known law.

    Its distance from the law's own exponent is the bias of the method on this design.
    """
    points = []
    for profile in found.inside:
        vertex, curvature, _ = _vertices(
            np.log(n[profile.members]), predicted[profile.members], np.ones((1, profile.members.size))
        )
        if curvature[0] <= 0:
            return None
        points.append((np.log(profile.flops), vertex[0]))
    x, y = np.array(points).reshape(-1, 2).T
    slope = weighted_lines(x, y[None, :], np.ones((1, x.size)))[1][0]
    return float(slope) if np.isfinite(slope) else None


def _profile(members: np.ndarray, n: np.ndarray, d: np.ndarray, loss: np.ndarray) -> Profile:
    x, own = np.log(n[members]), loss[members]
    flops = float(np.exp(np.log(FLOPS_PER_ND * n[members] * d[members]).mean()))
    vertex, curvature, lowest = (float(value[0]) for value in _vertices(x, own, np.ones((1, x.size))))
    if not curvature > 0:
        return Profile(flops, members, float("nan"), float("nan"), curvature, "none")
    best = x[int(np.argmin(own))]
    minimum: Minimum = "inside" if x.min() < best < x.max() and x.min() < vertex < x.max() else "edge"
    return Profile(flops, members, float(np.exp(min(vertex, 700.0))), lowest, curvature, minimum)


def _vertices(x: np.ndarray, loss: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log N_opt, curvature and lowest loss, (R,), of parabolas weighted by (R, m); nan: no minimum."""
    centre, scale = float(x.mean()), float(np.ptp(x)) / 2
    u = (x - centre) / scale
    basis = np.stack([np.ones_like(u), u, u * u])
    gram = np.einsum("rm,im,jm->rij", weights, basis, basis)
    right = np.einsum("rm,im,m->ri", weights, basis, loss)
    c, b, a = np.linalg.solve(gram, right[:, :, None])[:, :, 0].T
    flat = a <= 1e-12 * np.abs(loss).max()
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.where(flat, np.nan, -b / (2 * a))
        lowest = c - b * b / (4 * a)
    return centre + scale * vertex, np.where(flat, np.minimum(a, 0.0), a) / scale**2, np.where(flat, np.nan, lowest)


def _too_few(profiles: tuple[Profile, ...], inside: int) -> str:
    if len(profiles) < MIN_BUDGETS:
        have = {0: "no budget", 1: "only one budget", 2: "only two budgets"}[len(profiles)]
        return (
            f"{have} with runs of {MIN_SIZES} sizes or more; train {MIN_SIZES} sizes or more, better five, at each of "
            f"{MIN_BUDGETS} budgets C = 6 N D or more"
        )
    edge = sum(profile.minimum == "edge" for profile in profiles)
    return (
        f"of {len(profiles)} budgets only {inside} have a minimum between their runs ({edge} at the edge, "
        f"{len(profiles) - inside - edge} without one); add smaller or larger models at the budgets flagged"
    )
