"""Whether a set of runs can carry a fit: its ranges, its condition, and what run to add when it cannot.

The five parameters of E + A N^-alpha + B D^-beta need at least three sizes and three lengths that vary independently.
A design that lacks this still yields numbers, which is why it is refused here and not left to the reader.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from gpt2cli.scaling.fit import Fit

MIN_D_SPAN = 8.0
"""Below this ratio of longest to shortest training, E tends to run to zero."""
MAX_CONDITION = 100.0
"""Above this the parameters trade off against each other; healthy public sets have 27 to 62."""
LEVEL_GAP = 0.02
"""Values of N (or D) closer than this in logarithm count as one."""
COLLINEAR = 0.9999
"""Correlation of log N and log D from which D counts as a function of N."""
BAD_RESIDUAL = 0.02


@dataclass(frozen=True)
class Diagnosis:
    """What to know before trusting a fit. Ranges are (smallest, largest)."""

    n_observations: int
    n_levels: int
    d_levels: int
    n_range: tuple[float, float]
    d_range: tuple[float, float]
    d_per_n_range: tuple[float, float]
    log_correlation: float | None
    condition: float | None
    at_bound: tuple[str, ...]
    rms_log_residual: float
    max_log_residual: float
    converged: bool
    n_parameters: int = 5
    d_matters: bool = True

    def record(self) -> dict[str, object]:
        """Return the fields as JSON values."""
        fields = {name: value for name, value in asdict(self).items() if name != "d_matters"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def levels(values: np.ndarray) -> np.ndarray:
    """Label each value (M,) with the rank of its distinct level, 0 for the smallest; near-equal values share one."""
    order = np.argsort(values, kind="stable")
    logs = np.log(np.asarray(values, dtype=float)[order])
    ranks = np.concatenate([[0], np.cumsum(np.diff(logs) > LEVEL_GAP)])
    labels = np.empty(len(ranks), dtype=int)
    labels[order] = ranks
    return labels


def refusals(
    n: np.ndarray, d: np.ndarray, parameters: int = 5, second: tuple[str, str] = ("D", "length")
) -> list[str]:
    """Return a sentence for each reason why no fit can be identified from sizes `n` and lengths `d`, both (M,).

    Each says what run to add. An empty list means the design can carry so many `parameters`. `second` is the letter
    and the name of what varies beside N.
    """
    letter, noun = second
    n_levels, d_levels = int(levels(n).max()) + 1, int(levels(d).max()) + 1
    reasons = []
    if len(n) < parameters:
        reasons.append(
            f"{_count(len(n), 'observation')} cannot determine {_NUMBERS[parameters]} parameters; "
            f"add at least {_count(parameters - len(n), 'run')}, better ten or more in all"
        )
    if n_levels < 3:
        reasons.append(
            f"the runs have {_count(n_levels, 'model size')}, so the term in N cannot be told from the rest; add runs "
            f"of at least {_count(3 - n_levels, 'other size')}, for example N = {_suggest(n, n_levels)}"
        )
    if d_levels < 3:
        reasons.append(
            f"the runs have {_count(d_levels, noun)}, so the term in {letter} cannot be told from the rest; add runs "
            f"of at least {_count(3 - d_levels, 'other ' + noun)}, for example {letter} = {_suggest(d, d_levels)}"
        )
    correlation = log_correlation(n, d)
    if n_levels >= 3 and d_levels >= 3 and correlation is not None and abs(correlation) >= COLLINEAR:
        rule = "grows in proportion to N" if _slope(n, d) > 0 else "falls as N grows (one compute budget)"
        reasons.append(
            f"{letter} {rule} in every run, so the two terms cannot be told apart; add a run of N = "
            f"{short(float(np.min(n)))} with {letter} = {short(float(np.max(d)))}, or of N = "
            f"{short(float(np.max(n)))} with {letter} = {short(float(np.min(d)))}"
        )
    return reasons


def diagnose(n: np.ndarray, d: np.ndarray, fit: Fit, d_matters: bool = True) -> Diagnosis:
    """Describe the design and the fit. `n`, `d` are (M,). Of a law without D its span is nothing to warn of."""
    ratio = d / n
    return Diagnosis(
        n_observations=len(n),
        n_levels=int(levels(n).max()) + 1,
        d_levels=int(levels(d).max()) + 1,
        n_range=_range(n),
        d_range=_range(d),
        d_per_n_range=_range(ratio),
        log_correlation=log_correlation(n, d),
        condition=fit.condition,
        at_bound=fit.at_bound,
        rms_log_residual=float(np.sqrt(np.mean(fit.residuals**2))),
        max_log_residual=float(np.abs(fit.residuals).max()),
        converged=fit.converged,
        n_parameters=len(fit.parameters),
        d_matters=d_matters,
    )


def warnings(diagnosis: Diagnosis) -> list[str]:
    """Return what a careful person should read before using the numbers, as sentences."""
    said = []
    span = diagnosis.d_range[1] / diagnosis.d_range[0]
    if span < MIN_D_SPAN and diagnosis.d_matters:
        said.append(
            f"D spans only {span:.1f} times; below {MIN_D_SPAN:.0f} times E is not identified. "
            f"Add runs of {short(diagnosis.d_range[0] * MIN_D_SPAN)} tokens or more"
        )
    if diagnosis.condition is None:
        said.append("the Jacobian is singular: at least one parameter has no effect on these losses")
    elif diagnosis.condition > MAX_CONDITION:
        said.append(
            f"condition number {diagnosis.condition:.0f} is above {MAX_CONDITION:.0f}: the parameters trade off "
            "against each other. Vary N and D further and more independently"
        )
    gone = {"A": "alpha", "B": "beta"}
    for name in [name for name in diagnosis.at_bound if name not in [gone.get(other) for other in diagnosis.at_bound]]:
        said.append(_BOUND_SENTENCES.get(name, f"{name} ran to its bound: its term is not visible in these runs"))
    spare = diagnosis.n_observations - diagnosis.n_parameters
    if spare <= 2:
        said.append(
            f"{diagnosis.n_observations} observations for {_NUMBERS[diagnosis.n_parameters]} parameters leave "
            f"{_count(max(0, spare), 'degree')} of freedom: "
            "the residuals say nothing about the quality of the fit"
        )
    if diagnosis.max_log_residual > BAD_RESIDUAL:
        said.append(
            f"the worst residual is {100 * diagnosis.max_log_residual:.1f} %: some run is off the surface "
            "(learning rate, too few steps, another schedule?)"
        )
    if not diagnosis.converged:
        said.append("the fit did not converge")
    return said


def log_correlation(n: np.ndarray, d: np.ndarray) -> float | None:
    """Return the correlation of log n and log d, None when one of them does not vary."""
    x, y = np.log(n) - np.log(n).mean(), np.log(d) - np.log(d).mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 1e-12 else None


def short(value: float) -> str:
    """Write a count for people: 1.23M, 45.6B, 7.8e15."""
    value = float(f"{value:.3g}")
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if scale <= value < scale * 1e3:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}
_BOUND_SENTENCES = {
    "E": "E ran to 0: the runs show no floor, so extrapolations have none. Longer runs of the largest models show it",
    "A": "A ran to 0: the runs show no gain from size, so there is no optimal N. Add runs of other sizes at large D",
    "B": "B ran to 0: the runs show no gain from data, so there is no optimal D. Add shorter runs",
    "kappa": "kappa ran to its bound: N and D do not join as the form says in these runs",
    "R_D": "R_D ran to its bound: the runs do not show how repeated data loses its worth. Add runs of more repetitions",
    "R_N": "R_N ran to its bound: the runs do not show how size beyond the data's loses its worth. Add larger models",
    "alpha": "alpha ran to its bound: the dependence on size is not a power law in these runs",
    "beta": "beta ran to its bound: the dependence on data is not a power law in these runs",
}


def _slope(n: np.ndarray, d: np.ndarray) -> float:
    x = np.log(n) - np.log(n).mean()
    return float(x @ np.log(d)) / float(x @ x)


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def _count(number: int, noun: str) -> str:
    only = noun in ("model size", "length", "number of steps")
    words = {0: "no", 1: "only one", 2: "only two"} if only else {0: "no", 1: "one", 2: "two"}
    plural = noun.replace("number ", "numbers ", 1) if noun.endswith("number of steps") else f"{noun}s"
    return f"{words.get(number, str(number))} {noun if number == 1 else plural}"


def _suggest(values: np.ndarray, found: int) -> str:
    top = float(np.max(values))
    return f"{short(top * 4)} and {short(top * 16)}" if found == 1 else short(top * 4)
