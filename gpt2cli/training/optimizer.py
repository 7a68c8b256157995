"""AdamW as GPT-2's reproductions set it up: decay on matrices only, fused kernels, moments by parameter name.

The optimizer owns the fp32 weights: where the network computes with bf16 ones, it has what those lack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from gpt2cli.model.device import DTYPES
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.native_kernels import native_kernels
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.master_weights import divide, join
from gpt2cli.training.narrow_adamw import Narrow, NarrowAdamW

ADAM_EPS = 1e-8


@dataclass
class _Group:
    """Parameters of one weight decay, with their moments and steps taken, in one order."""

    weight_decay: float
    names: list[str] = field(default_factory=list)
    parameters: list[Tensor] = field(default_factory=list)
    exp_avgs: list[Tensor] = field(default_factory=list)
    exp_avg_sqs: list[Tensor] = field(default_factory=list)
    steps: list[Tensor] = field(default_factory=list)


class AdamW:
    """Adam with decoupled decay (Loshchilov & Hutter 2019, algorithm 2) of projection matrices, by torch's kernels.

    Embeddings, biases and norms do not decay. torch.optim.AdamW does the same, bit for bit, but its first call imports
    torch's compiler, which takes longer than many a small run.
    """

    def __init__(self, model: GPT2, config: TrainConfig) -> None:
        self.betas = config.beta1, config.beta2
        self._moment_dtype = DTYPES[config.moments]
        self._low: dict[str, Tensor] = {}
        """What bf16 weights lack of their fp32 masters (master_weights.py), by parameter."""
        if config.weights == "bf16":
            self._low = {name: torch.zeros_like(parameter, dtype=torch.int16)
                         for name, parameter in model.named_parameters()}
        self._narrow: NarrowAdamW | None = None
        if config.weights == "bf16" or config.moments == "bf16":
            self._narrow = NarrowAdamW(self.betas, ADAM_EPS, config.seed, next(model.parameters()).device,
                                       native_kernels() if config.compile == "native" else None)
        self._decayed, self._plain = _Group(config.weight_decay), _Group(0.0)
        for name, parameter in model.named_parameters():
            group = self._decayed if _decays(name, parameter) else self._plain
            group.names.append(name)
            group.parameters.append(parameter)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move every parameter by its gradient, which must be there, at the learning rate `lr`."""
        self.make_room()
        for group in (self._decayed, self._plain):
            if self._narrow is not None:
                self._move_narrow(self._narrow, group, lr)
                continue
            parameters = [held_here(parameter) for parameter in group.parameters]
            gradients = [held_here(parameter.grad) for parameter in group.parameters if parameter.grad is not None]
            # the foreach default is several times slower than the fused kernel on a CPU
            adamw(parameters, gradients, group.exp_avgs, group.exp_avg_sqs, [], group.steps, fused=True,
                  amsgrad=False, beta1=self.betas[0], beta2=self.betas[1], lr=lr, weight_decay=group.weight_decay,
                  eps=ADAM_EPS, maximize=False)
            torch.autograd.graph.increment_version(parameters)  # the fused kernel does not, and copies are kept by it

    def make_room(self) -> None:
        """Take the memory of the moments, if that is still to be done: step() takes none that counts afterwards."""
        for group in (self._decayed, self._plain):
            if not group.exp_avgs:
                self._begin(group)

    def moments(self) -> dict[str, Tensor]:
        """Return exp_avg.NAME and exp_avg_sq.NAME of every parameter, on the CPU; nothing before the first step."""
        return {name: moment.to("cpu") for name, moment in self.named_moments()} if self.updates else {}

    @property
    def updates(self) -> int:
        """How many steps were taken."""
        return int(self._plain.steps[0]) if self._plain.steps else 0

    def restore(self, moments: dict[str, Tensor], updates: int) -> None:
        """Put back what moments() returned after `updates` steps, 0: as at the start. KeyError when one is missing."""
        for group in (self._decayed, self._plain):
            if not updates:
                group.exp_avgs, group.exp_avg_sqs, group.steps = [], [], []
                continue
            places = list(zip(group.names, group.parameters, strict=True))
            dtype = self._moment_dtype
            group.exp_avgs = [moments[f"exp_avg.{name}"].to(place.device, dtype) for name, place in places]
            group.exp_avg_sqs = [moments[f"exp_avg_sq.{name}"].to(place.device, dtype) for name, place in places]
            group.steps = [_counter(updates, place) for _, place in places]

    def restore_zeros(self, updates: int) -> None:
        """Stand after `updates` steps with moments of zero, to be filled through named_moments()."""
        for group in (self._decayed, self._plain):
            group.exp_avgs, group.exp_avg_sqs, group.steps = [], [], []
            if updates:
                self._begin(group)
                group.steps = [_counter(updates, parameter) for parameter in group.parameters]

    def named_moments(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the moments themselves by the names of moments(), in an order that is the same for every rank."""
        for group in (self._decayed, self._plain):
            for kind, moments in (("exp_avg", group.exp_avgs), ("exp_avg_sq", group.exp_avg_sqs)):
                yield from ((f"{kind}.{name}", moment) for name, moment in zip(group.names, moments, strict=False))

    def state(self) -> Iterator[Tensor]:
        """Yield all that another rank needs beside the parameters to go on alike, in types that every backend sends."""
        yield from (moment for _, moment in self.named_moments())
        yield from (low.view(torch.uint8) for low in self._low.values())

    @torch.no_grad()
    def take_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Fill the parameters, by name, with fp32 weights."""
        places = {name: parameter for group in (self._decayed, self._plain)
                  for name, parameter in zip(group.names, group.parameters, strict=True)}
        for name, tensor in weights:
            if name in self._low:
                divide(tensor.to(places[name].device, torch.float32), places[name].data, self._low[name])
            else:
                places[name].copy_(tensor)

    def weight(self, name: str, parameter: Tensor) -> Tensor:
        """Return the fp32 weights of a parameter of that name: itself, or put together."""
        return join(parameter.detach(), self._low[name]) if name in self._low else parameter.detach()

    def _move_narrow(self, kernel: NarrowAdamW, group: _Group, lr: float) -> None:
        places = zip(group.names, group.parameters, group.exp_avgs, group.exp_avg_sqs, group.steps, strict=True)
        for name, parameter, exp_avg, exp_avg_sq, steps in places:
            low = self._low.get(name)
            assert parameter.grad is not None
            part = Narrow(name, held_here(parameter).view(-1), None if low is None else low.view(-1),
                          held_here(parameter.grad).reshape(-1), exp_avg.view(-1), exp_avg_sq.view(-1))
            kernel.move(part, int(steps.add_(1.0)), lr, group.weight_decay)
        torch.autograd.graph.increment_version(group.parameters)  # as after the fused kernel

    def _begin(self, group: _Group) -> None:
        places, dtype = [held_here(parameter) for parameter in group.parameters], self._moment_dtype
        group.exp_avgs = [torch.zeros_like(place, dtype=dtype) for place in places]
        group.exp_avg_sqs = [torch.zeros_like(place, dtype=dtype) for place in places]
        group.steps = [_counter(0, parameter) for parameter in group.parameters]


def held_here(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor distributed over several (a DTensor); any other as it is."""
    to_local: Callable[[], Tensor] | None = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local().detach()


def _counter(step: int, parameter: Tensor) -> Tensor:
    return torch.tensor(float(step), dtype=torch.float32, device=parameter.device)


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and not name.startswith(("wte.", "wpe."))
