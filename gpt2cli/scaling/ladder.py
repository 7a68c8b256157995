"""A ladder of small models that fits the time there is: which widths, how many steps, which learning rates.

Every size is trained once at a stable rate (its trunk) and decayed from several steps of it (its rungs), so that D
spans eight times and more at every N; a wider model is trained as long as the longest rung and held out of the fit.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpt2cli.errors import UsageFault
from gpt2cli.sizes import ModelShape

WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256)
FITTED = 4
"""Widths that carry a fit: those just below the one held out, down to a quarter of it. Over a wider span the gains from
width change: laws fitted to all widths from 16 missed 192 by 6.3 % and 96 by 1.5 %, to these four by 1.0 and 0.3 %."""
BETWEEN = (40, 56, 80, 112, 160)
"""Widths for the time that the text cannot fill: a seed moves a loss by 0.2 %, at times 0.9; more sizes average it."""
N_LAYER = 2
"""One depth for all: from two layers to three the loss falls more than N explains."""
HEAD_SIZE = 8
BATCH_TOKENS = 512
"""Small, for the sake of many steps: a rung that takes too few says nothing about its size."""
SHORTEST_STEPS = 500
SPAN = 8
"""The longest rungs are at least this many times the shortest."""
MOST_EPOCHS = 4
"""Passes over the training tokens: up to so many, repeated text is nearly as good as new (Muennighoff et al. 2023)."""
FEWEST_TOKENS_PER_PARAMETER = 8.0
"""Of the model held out. With less, sizes differ by how fast they begin, not by what they can hold."""
EVAL_TOKENS = 1 << 17
_DECAY = 5
"""One over the share of a rung in which its rate decays."""
_GRAIN = 400
"""Trunks are whole multiples of this, so that every branch begins at a checkpoint."""
_EVAL_COST = 0.4
"""Time of a token that is scored over one that is trained on."""
_MARGIN = 0.92
"""Share of the time that is planned for: machines wander."""


@dataclass(frozen=True)
class Speed:
    """What a short measurement found: seconds of a step of BATCH_TOKENS by width, and of a run that takes no step."""

    step_seconds: Mapping[int, float]
    start_seconds: float

    def of(self, shape: ModelShape) -> float:
        """Return the seconds of a step: interpolated in logarithms by FLOP, beyond the widest at its FLOP a second."""
        known = sorted(self.step_seconds)
        flops = np.log([network(width, shape).train_flops_per_token() for width in known])
        x = np.log(shape.train_flops_per_token())
        seconds = np.log([self.step_seconds[width] for width in known])
        return float(np.exp(np.interp(x, flops, seconds) + max(0.0, x - flops[-1])))


@dataclass(frozen=True)
class Rung:
    """One run of a ladder. `steps` None: the trunk of its shape; else a run, or a branch of that trunk, that decays.

    seconds: what it is expected to take.
    """

    shape: ModelShape
    lr: float
    steps: int | None
    seconds: float
    held_out: bool = False

    @property
    def network(self) -> str:
        """Name of the shape, which is its trunk's: l2-e16-h2."""
        return f"l{self.shape.n_layer}-e{self.shape.n_embd}-h{self.shape.n_head}"

    @property
    def name(self) -> str:
        """Name of the run: its configuration."""
        return self.network if self.steps is None else f"{self.network}-s{self.steps}"


@dataclass(frozen=True)
class Ladder:
    """Runs, longest jobs first, trunks before their branches; the steps that rungs end at; the expected seconds.

    data_bound: the training tokens, not the time, kept it this short.
    """

    rungs: tuple[Rung, ...]
    steps: tuple[int, ...]
    seconds: float
    jobs: int
    data_bound: bool = False

    @property
    def trunk_steps(self) -> int:
        """Steps of every trunk: up to where its last branch begins."""
        return branch_step(self.steps[-1]) if self.steps else 0


def peak_lr(width: int) -> float:
    """Return the peak learning rate of a width, for steps of BATCH_TOKENS: 0.01 (16/width)^0.6.

    Found by trial with 1,000 steps of two layers: the best of six rates was 0.014, 0.008, 0.005 and 0.0034 for widths
    16, 24, 48 and 96, and flat within a third of it; twice this rule lost 4 % at width 96.
    """
    return float(f"{0.01 * (16 / width) ** 0.6:.2g}")


def network(width: int, data: ModelShape) -> ModelShape:
    """Return the ladder's model of a width, for the context and vocabulary of `data`."""
    return ModelShape(N_LAYER, max(1, width // HEAD_SIZE), width, data.n_ctx, data.n_vocab)


def branch_step(steps: int) -> int:
    """Return the step of the trunk at which a rung of `steps` steps branches off to decay."""
    return steps - steps // _DECAY


def plan_ladder(minutes: float, jobs: int, speed: Speed, data: ModelShape, train_tokens: int) -> Ladder:
    """Return the ladder with the widest held-out model that `jobs` runs at a time finish in so many minutes.

    data: its context and vocabulary count. Raises UsageFault when the time or the training tokens are too few.
    """
    check_tokens(train_tokens)
    least = SHORTEST_STEPS * SPAN
    enough = MOST_EPOCHS * train_tokens // BATCH_TOKENS
    best = None
    for last in range(FITTED, len(WIDTHS)):
        held, fitted = WIDTHS[last], WIDTHS[last - FITTED : last]
        longest = _longest(held, fitted, minutes, jobs, speed, data, enough)
        tokens_a_parameter = longest * BATCH_TOKENS / network(held, data).n_params
        if longest < least or tokens_a_parameter < FEWEST_TOKENS_PER_PARAMETER:
            break
        more = sorted({*fitted, *(width for width in BETWEEN if fitted[0] < width < fitted[-1])})
        dense = _ladder(held, more, longest, jobs, speed, data)
        in_time = dense.seconds <= _planned_for(minutes)
        best = replace(dense if in_time else _ladder(held, fitted, longest, jobs, speed, data),
                       data_bound=longest + _GRAIN > enough)  # fmt: skip
    if best is None:
        shortest = _ladder(WIDTHS[FITTED], WIDTHS[:FITTED], least, jobs, speed, data)
        raise UsageFault(f"the shortest ladder would take {shortest.seconds / 60:.1f} minutes here, {jobs} runs at a "
                         f"time; --minutes {minutes:g} is too few")
    return best


def check_tokens(train_tokens: int) -> None:
    """Raise UsageFault when the training tokens are too few for any ladder."""
    least = SHORTEST_STEPS * SPAN * BATCH_TOKENS // MOST_EPOCHS
    if train_tokens < least:
        raise UsageFault(f"a ladder needs {least:,} training tokens at the least, and the shards have "
                         f"{train_tokens:,}: pack more text, or take a smaller vocabulary")


def plan_shapes(minutes: float, jobs: int, speed: Speed, data: ModelShape, train_tokens: int) -> Ladder:
    """Return runs of one N and D whose depth, width and heads differ (Kaplan et al. 2020, section 3.1, figure 5).

    N is without embeddings, within 3 % of that of two layers 64 wide. Raises UsageFault when time or tokens are few.
    """
    check_tokens(train_tokens)
    shapes = [ModelShape(n_layer, n_head, n_embd, data.n_ctx, data.n_vocab) for n_layer, n_embd, n_head in SHAPES]
    ladder = None
    for steps in range(SHORTEST_STEPS, MOST_EPOCHS * train_tokens // BATCH_TOKENS + 1, SHORTEST_STEPS):
        longer = _in_time([_run(shape, steps, speed) for shape in shapes], (), jobs)
        if longer.seconds > _planned_for(minutes):
            break
        ladder = longer
    if ladder is None:
        raise UsageFault(f"{len(shapes)} runs of {SHORTEST_STEPS} steps do not fit into --minutes {minutes:g} here, or "
                         f"their tokens not into {MOST_EPOCHS} passes over {train_tokens:,}")
    return ladder


SHAPES = (
    (2, 64, 8), (1, 90, 9), (3, 52, 4), (4, 45, 5), (5, 40, 5), (8, 32, 4),
    (2, 64, 1), (2, 64, 2), (2, 64, 4), (2, 64, 16),
)  # fmt: skip
"""(layers, width, heads) of the experiment on shape; the first is what the others are measured by."""


def _planned_for(minutes: float) -> float:
    return minutes * 60 * _MARGIN


def _longest(
    held: int, fitted: Sequence[int], minutes: float, jobs: int, speed: Speed, data: ModelShape, enough: int
) -> int:  # fmt: skip
    """Return the most steps, a multiple of the grain up to `enough`, for which a ladder of these widths is in time."""
    low, high = 0, enough // _GRAIN
    while low < high:
        middle = (low + high + 1) // 2
        if _ladder(held, fitted, middle * _GRAIN, jobs, speed, data).seconds <= _planned_for(minutes):
            low = middle
        else:
            high = middle - 1
    return low * _GRAIN


def _ladder(held: int, fitted: Sequence[int], longest: int, jobs: int, speed: Speed, data: ModelShape) -> Ladder:
    steps = _lengths(longest)
    first = _run(network(held, data), longest, speed, held_out=True)
    trunks, branches = [], []
    for width in sorted(fitted, reverse=True):
        shape, lr = network(width, data), peak_lr(width)
        second = speed.of(shape)
        trunks.append(Rung(shape, lr, None, speed.start_seconds + second * branch_step(longest)))
        scoring = second * _EVAL_COST * EVAL_TOKENS / BATCH_TOKENS
        branches += [Rung(shape, lr, length, speed.start_seconds + second * (length // _DECAY) + scoring)
                     for length in sorted(steps, reverse=True)]  # fmt: skip
    return _in_time([first, *trunks, *branches], steps, jobs)


def _run(shape: ModelShape, steps: int, speed: Speed, *, held_out: bool = False) -> Rung:
    second = speed.of(shape)
    seconds = speed.start_seconds + second * (steps + _EVAL_COST * EVAL_TOKENS / BATCH_TOKENS)
    return Rung(shape, peak_lr(shape.n_embd), steps, seconds, held_out)


def _lengths(longest: int) -> tuple[int, ...]:
    """Return where rungs end: the longest, halved while the shortest has enough steps and a whole branching step."""
    lengths = [longest]
    while lengths[-1] // 2 >= SHORTEST_STEPS and len(lengths) < 5 and lengths[-1] % (2 * _DECAY) == 0:
        lengths.append(lengths[-1] // 2)
    return tuple(reversed(lengths))


def _in_time(rungs: Sequence[Rung], steps: tuple[int, ...], jobs: int) -> Ladder:
    """Return the ladder with its expected seconds, each of `jobs` workers taking the first run that may begin."""
    free = [0.0] * max(1, jobs)
    done: dict[str, float] = {}
    for rung in rungs:
        begin = max(heapq.heappop(free), done.get(rung.network, 0.0) if rung.steps is not None else 0.0)
        end = begin + rung.seconds
        heapq.heappush(free, end)
        if rung.steps is None:
            done[rung.network] = end
    return Ladder(tuple(rungs), steps, max(free), jobs)
