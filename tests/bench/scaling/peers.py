"""The peers of tests/bench/scaling/run: `peers.py lbfgs|chinchilla RUNS.csv STARTS` prints one JSON line.

The grid is that of Hoffmann et al. 2022, appendix D.3: 4,500 starts. Exits 3 when a package is missing.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import sys
import tempfile
import warnings

import numpy as np

DELTA = 1e-3
GRID = {
    "e": np.arange(-1, 1.5, 0.5),
    "a": np.arange(0, 30, 5.0),
    "b": np.arange(0, 30, 5.0),
    "alpha": np.arange(0, 2.5, 0.5),
    "beta": np.arange(0, 2.5, 0.5),
}


def cpu_seconds() -> float:
    """Return CPU seconds of this process and its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def log_huber(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return Huber losses of log residuals."""
    size = np.abs(np.log(predicted) - np.log(observed))
    return np.where(size < DELTA, size**2 / 2, DELTA * (size - DELTA / 2))


def lbfgs(n: np.ndarray, d: np.ndarray, loss: np.ndarray, starts: int) -> dict[str, float]:
    """Minimise the sum over logsumexp from every start with scipy's L-BFGS-B and exact gradients."""
    from scipy.optimize import minimize

    log_n, log_d, log_loss = np.log(n), np.log(d), np.log(loss)

    def value_and_gradient(theta: np.ndarray) -> tuple[float, np.ndarray]:
        e, a, b, alpha, beta = theta
        terms = np.stack([np.full_like(log_n, e), a - alpha * log_n, b - beta * log_d])
        top = terms.max(axis=0)
        shares = np.exp(terms - top)
        total = shares.sum(axis=0)
        residual = top + np.log(total) - log_loss
        shares /= total
        slope = np.clip(residual, -DELTA, DELTA)
        size = np.abs(residual)
        value = np.where(size < DELTA, residual**2 / 2, DELTA * (size - DELTA / 2)).sum()
        e_, a_, b_ = shares @ slope
        return value, np.array([e_, a_, b_, -(shares[1] * log_n) @ slope, -(shares[2] * log_d) @ slope])

    found = [
        minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000})
        for start in thinned(starts)
    ]
    best = min(found, key=lambda each: each.fun).x
    return dict(zip(("E", "A", "B", "alpha", "beta"), (*np.exp(best[:3]), *best[3:]), strict=True)) | {
        "starts": len(found)
    }


def thinned(starts: int) -> list[tuple[float, ...]]:
    """Return every start, or evenly spaced ones."""
    every = list(itertools.product(*GRID.values()))
    return every[:: max(1, len(every) // max(1, starts))]


def package(n: np.ndarray, d: np.ndarray, loss: np.ndarray, starts: int) -> dict[str, float]:
    """Fit with the package chinchilla, its own optimiser on the same grid."""
    from chinchilla import Chinchilla

    grid = GRID if starts >= 4500 else {name: values[::2] for name, values in GRID.items()}
    with tempfile.TemporaryDirectory() as work:
        study = Chinchilla(work, param_grid=grid, loss_fn=log_huber, log_level=50)
        for size, length, reached in zip(n, d, loss, strict=True):
            study.database.append(N=round(size), D=round(length), loss=float(reached))
        study.fit()
        count = float(np.prod([len(values) for values in grid.values()]))
        return {name: float(getattr(study, name)) for name in ("E", "A", "B", "alpha", "beta")} | {"starts": count}


def main() -> None:
    """Run the peer that is asked for."""
    name, path, starts = sys.argv[1], sys.argv[2], int(sys.argv[3])
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    os.environ["MPLBACKEND"] = "Agg"
    n, d, loss = np.loadtxt(path, delimiter=",").T
    try:
        begin = cpu_seconds()
        found = {"lbfgs": lbfgs, "chinchilla": package}[name](n, d, loss, starts)
    except ModuleNotFoundError as error:
        print(f"missing {error.name}", file=sys.stderr)
        sys.exit(3)
    print(json.dumps({name: float(value) for name, value in found.items()} | {"seconds": cpu_seconds() - begin}))


if __name__ == "__main__":
    main()
