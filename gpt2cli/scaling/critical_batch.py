"""The critical batch size: what a batch of B tokens costs against it, and its measure from gradient noise.

McCandlish et al. 2018 (arXiv 1812.06162): S = S_min (1 + B_crit/B) steps and E = E_min (1 + B/B_crit) tokens reach one
loss, and B_crit is near B_simple = tr(Sigma)/|G|^2, which two batch sizes' gradient norms estimate without bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, Record, read_records
from gpt2cli.records.streams import display_name
from gpt2cli.reporter import Reporter
from gpt2cli.scaling.curves import metric_files

FIELDS = ("batch_tokens_small", "batch_tokens_large", "grad_sq_small", "grad_sq_large")
"""What a gpt2.step record holds where the noise scale is measured; squared norms are of unclipped gradients."""
_MOST = 1e60
LONGEST_HALF_LIFE = 100.0
_SHARE = 1 / 20
"""Unless told, the averages' half-life is this share of the measurements so far, from 1 to LONGEST_HALF_LIFE of them.

The first gradients' squared norms are a thousand times those of later: a half-life of a fixed number of measurements
would give a short run the noise scale of its start.
"""


@dataclass(frozen=True)
class BatchCost:
    """A batch of `batch` tokens at a critical batch size: how many times the fewest steps and the fewest tokens."""

    batch: float
    steps_factor: float
    tokens_factor: float


@dataclass(frozen=True)
class NoiseScale:
    """The noise scale of one run: tr(Sigma), |G|^2 and their ratio in tokens (None: |G|^2 drowned in the noise).

    Averages over `measurements` steps up to `step`, at loss `loss`.
    """

    run: str
    step: int
    loss: float
    measurements: int
    trace: float
    gradient_squared: float
    noise_scale: float | None


def cost(batch: float, critical: float) -> BatchCost:
    """Return what `batch` tokens a step cost: S/S_min = 1 + B_crit/B, E/E_min = 1 + B/B_crit."""
    return BatchCost(batch, 1 + critical / batch, 1 + batch / critical)


def estimate(small: float, large: float, grad_sq_small: float, grad_sq_large: float) -> tuple[float, float]:
    """Return unbiased (|G|^2, tr(Sigma)) from squared gradient norms at batches of `small` and `large` tokens.

    Appendix A.1 of 1812.06162. Each is noisy and either may be negative: average each over steps before dividing.
    """
    squared = (large * grad_sq_large - small * grad_sq_small) / (large - small)
    trace = (grad_sq_small - grad_sq_large) / (1 / small - 1 / large)
    return squared, trace


def averages(values: Sequence[float] | np.ndarray, half_life: float | None = None) -> np.ndarray:
    """Return the exponential moving average (M,) of `values` at each of them, corrected for its start.

    half_life: in values; None: it grows with their number.
    """
    total, weight, means = 0.0, 0.0, []
    for i, value in enumerate(values, 1):
        keep = 0.5 ** (1 / (half_life or min(LONGEST_HALF_LIFE, max(1.0, i * _SHARE))))
        total, weight = total * keep + value, weight * keep + 1
        means.append(total / weight)
    return np.array(means)


def along(
    run: str, records: Sequence[Record], half_life: float | None = None
) -> tuple[list[Record], np.ndarray, np.ndarray]:
    """Return a run's gpt2.step records that measured the noise, by step, and what they and those before say at each.

    The latter are the averages of |G|^2 and of tr(Sigma) (M, 2), and what each step says alone (M, 2). A step that is
    there twice counts once. Raises BadInput for a measurement that no two batch sizes can give.
    """
    measured_steps = _by_step(run, [record for record in records if record.get(FIELDS[0]) is not None])
    pairs = np.array([estimate(*_norms(run, record)) for record in measured_steps]).reshape(-1, 2)
    means = np.stack([averages(pairs[:, 0], half_life), averages(pairs[:, 1], half_life)], axis=1)
    return measured_steps, means, pairs


def ratios(pairs: np.ndarray) -> np.ndarray:
    """Return tr(Sigma)/|G|^2 in tokens of pairs (M, 2) of |G|^2 and tr(Sigma), nan where either drowned in noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((pairs > 0).all(axis=1), pairs[:, 1] / pairs[:, 0], np.nan)


def measured(files: Sequence[str], half_life: float | None, reporter: Reporter) -> list[NoiseScale]:
    """Return the noise scale of every run whose gpt2.step records have FIELDS, in the order met.

    `files` may be runs' directories too.

    Raises BadInput when none has them, or a measurement that no two batch sizes can give.
    """
    found: dict[str, list[Record]] = {}
    for path in metric_files(files):
        tally = ReadTally()
        for record in read_records(path, tally, kinds=("gpt2.step",)):
            if record.get(FIELDS[0]) is not None:
                found.setdefault(str(record["run"]), []).append(record)
        for text in tally.warnings:
            reporter.warn(text)
    if not found:
        names = ", ".join(display_name(path) for path in list(files)[:3])
        raise BadInput(f"no step in {names} measures the gradient noise: none has {', '.join(FIELDS)}")
    return [_of_run(run, records, half_life) for run, records in found.items()]


def _by_step(run: str, records: list[Record]) -> list[Record]:
    for record in records:
        if not all(_is_number(record[name]) for name in ("step", "loss_nats")):
            raise BadInput(f"run {run!r} step {str(record['step'])[:20]!r}: step and loss_nats are not both numbers")
    by_step = {float(record["step"]): record for record in records}
    return [by_step[step] for step in sorted(by_step)]


def _of_run(run: str, records: list[Record], half_life: float | None) -> NoiseScale:
    steps, means, _ = along(run, records, half_life)
    squared, trace = map(float, means[-1])
    ratio = float(ratios(means[-1:])[0])
    last = steps[-1]
    return NoiseScale(run, int(last["step"]), float(last["loss_nats"]), len(steps), trace, squared,
                      None if math.isnan(ratio) else ratio)  # fmt: skip


def _norms(run: str, record: Record) -> tuple[float, float, float, float]:
    values = [record.get(name) for name in FIELDS]
    numbers = [float(value) if _is_number(value) and isinstance(value, int | float) else math.nan for value in values]
    if not all(0 <= number < _MOST for number in numbers) or not 0 < numbers[0] < numbers[1]:
        raise BadInput(f"run {run!r} step {record['step']}: {', '.join(FIELDS)} are not a smaller batch, a larger one "
                       "and their squared gradient norms")  # fmt: skip
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
