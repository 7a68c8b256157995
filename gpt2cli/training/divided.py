"""Ranks that hold a model in parts: rows of every tensor (FSDP2, Zhao et al. 2023), heads and inner units of each block
(tensor parallel, Shoeybi et al. 2019), the layers of a stage (pipeline.py), or several of these (layout.py).

The parts are made of one whole model on the leader and put together into one again for a checkpoint, tensor by tensor,
so that a checkpoint is the same file whatever wrote it, and any number of ranks goes on from it. The leader alone needs
room, in main memory, for the weights and moments of the whole.

Ranks that compute a block together compute every micro-batch in step, since they communicate inside it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gpt2cli.errors import Gpt2Error, Interrupted, OutOfMemory, allocations_told
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.gradient_sum import add_up_between_pair, add_up_between_ranks
from gpt2cli.training.layout import Layout, parse_layout
from gpt2cli.training.optimizer import AdamW, held_here
from gpt2cli.training.pipeline import ROUND, Pipeline
from gpt2cli.training.place import Place
from gpt2cli.training.ranks import Ranks, gradients_of
from gpt2cli.training.stages import Elsewhere, Stage
from gpt2cli.training.tensor_parts import part_of, split_blocks

TIED = "wte.weight"
"""The tensor that the first and the last stage both have."""


class Divided(Ranks):
    """The ranks of a layout."""

    in_step = True

    def __init__(self, ranks: Ranks, layout: Layout) -> None:
        super().__init__(Place(ranks.rank, ranks.world, ranks.local_rank), ranks.store)
        self.layout = layout
        self._replica, self._stage = layout.replica(self.rank), layout.stage(self.rank)
        self._part = layout.part(self.rank)
        self._groups: dict[str, Any] = {}
        self._model: GPT2 | None = None

    @property
    def replicas(self) -> int:
        """How many parts the micro-batches are divided into."""
        return self.layout.replicas

    def share(self, count: int) -> range:
        """Return which of `count` things this rank's replica has."""
        return range(count * self._replica // self.replicas, count * (self._replica + 1) // self.replicas)

    def check(self, config: TrainConfig) -> None:
        """Raise UsageFault for a configuration that these ranks cannot train."""
        self.layout.check(config)
        super().check(config)

    def stop_asked(self, wish: bool) -> bool:
        """Whether any rank was asked to stop: a collective, once in every micro-batch."""
        return self.any(wish)

    @contextlib.contextmanager
    def memory_alike(self) -> Iterator[None]:
        """Let OutOfMemory, which is this rank's alone, leave the block: the others are still inside it, and lose it."""
        with self.watched(), allocations_told():
            yield

    def agree(self, fault: Exception | None) -> None:
        """Raise `fault`, or Interrupted if another rank has one: a collective, before what all do in step."""
        others = self.any(fault is not None)
        if fault is not None:
            raise fault
        if others:
            raise Interrupted

    def rounds(self, count: int) -> list[int]:
        """Return share(count), its last once more where another rank has one more."""
        own = list(self.share(count))
        return own + (own or [0])[-1:] * (-(-count // self.replicas) - len(own))

    def settle(
        self, values: Mapping[int, float], count: int, fault: Interrupted | Gpt2Error | OSError | None = None
    ) -> list[float]:
        """As Ranks.settle(); the numbers of a replica are those of its first rank, which has the last stage.

        OutOfMemory is this rank's alone: the others are still inside the micro-batch.
        """
        if isinstance(fault, OutOfMemory):
            raise fault
        return super().settle(values if self._part == 0 and self._has_loss else {}, count, fault)

    def build(self, config: TrainConfig, device: torch.device) -> GPT2:
        """Return this rank's part of a model, its numbers yet to come."""
        from torch.distributed.device_mesh import init_device_mesh

        layout = self.layout
        mesh = init_device_mesh(device.type, (self.replicas, layout.stages, layout.width),
                                mesh_dim_names=("replica", "stage", "part"))
        self._groups = {name: mesh.get_group(name) for name in ("replica", "stage", "part")}
        with torch.device("meta"):
            model = (GPT2(config.shape, config.dropout) if layout.stages == 1
                     else Stage(config.shape, self._stage, layout.stages, config.dtype))
            if layout.width > 1:
                split_blocks(model, layout.width, self._groups["part"])
        if layout.sharded:
            _shard(model, mesh["replica"])
        model.to_empty(device=device)
        if isinstance(model, Stage):
            self.pipeline = Pipeline(model, config, device, self._groups["stage"], self.rank + layout.width,
                                     self.rank - layout.width, self._stop_in_schedule)
        self._model = model
        return model.train()

    def _stop_in_schedule(self, wish: bool) -> bool:
        """Whether a rank was asked to stop, as soon as this one knows, and the same to those that compute with it."""
        import torch.distributed as dist

        found = super().stop_asked(wish)
        together = [name for name, width in (("part", self.layout.width), ("replica", int(self.layout.sharded) * 2))
                    if width > 1]
        for name in together:
            flag = torch.tensor([float(found)])
            with self._contact():
                dist.all_reduce(flag, group=self._groups[name])
            found = bool(flag.item())
        return found

    def spread(self, whole: tuple[GPT2, AdamW] | None, model: GPT2, optimizer: AdamW, updates: int) -> None:
        """Fill each rank's part of model and optimizer from the leader's whole ones, after `updates` steps."""
        optimizer.restore_zeros(updates)
        for source, name, shape, place in self._pairs(whole, model, optimizer):
            full = torch.empty(shape, device=self._device)
            if source is not None:
                full.copy_(source)
            self.copy_from_leader([full])
            if place is not None:
                place.copy_(self._cut(name, full))

    def collect(self, model: GPT2, optimizer: AdamW, config: TrainConfig) -> tuple[GPT2, AdamW] | None:
        """Return the whole model and optimizer on the leader, put together from all ranks' parts."""
        whole = self.whole(model, optimizer, config)
        if whole is not None:
            whole[1].restore_zeros(optimizer.updates)
        for target, name, shape, place in self._pairs(whole, model, optimizer):
            full = self._join(name, shape, place)
            if target is not None:
                target.copy_(full)
        return whole

    def whole(self, model: GPT2, optimizer: AdamW, config: TrainConfig) -> tuple[GPT2, AdamW] | None:
        """Return a whole model and optimizer, to be filled, on the leader."""
        if not self.leader:
            return None
        empty = GPT2(config.shape, config.dropout)
        return empty, AdamW(empty, config)

    def _pairs(
        self, whole: tuple[GPT2, AdamW] | None, model: GPT2, optimizer: AdamW
    ) -> Iterator[tuple[Tensor | None, str, torch.Size, Tensor | None]]:
        """Yield the leader's whole tensor, its name and shape, and this rank's part or None, of weights and moments.

        The order is that of the whole model's parameters, the same on every rank.
        """
        with torch.device("meta"):
            shapes = {name: parameter.shape for name, parameter in GPT2(model.shape).named_parameters()}
        weights, moments = dict(model.named_parameters()), dict(optimizer.named_moments())
        theirs = dict(whole[1].named_moments()) if whole else {}
        wholes = dict(whole[0].named_parameters()) if whole else {}
        for name, shape in shapes.items():
            yield (wholes[name].data if whole else None), name, shape, (
                held_here(weights[name].data) if name in weights else None)
            for kind in ("exp_avg", "exp_avg_sq") if optimizer.updates else ():
                key = f"{kind}.{name}"
                yield theirs.get(key), name, shape, moments.get(key)

    def _cut(self, name: str, full: Tensor) -> Tensor:
        """Return this rank's part of a whole tensor."""
        own = part_of(name, full.shape, self._part, self.layout.width).take(full)
        return own[self._rows(len(own))]

    def _join(self, name: str, shape: torch.Size, part: Tensor | None) -> Tensor:
        """Return, on the leader, the whole tensor that `part` is this rank's part of. A collective."""
        where = part_of(name, shape, self._part, self.layout.width)
        full = torch.zeros(shape, device=self._device)
        first = ((where.split or self._part == 0) and (self.layout.sharded or self._replica == 0)
                 and (name != TIED or self._has_loss))
        if part is not None and first:  # what several ranks have is the first one's to give
            own = torch.zeros(where.local, device=self._device)
            own[self._rows(len(own))] = part
            where.put(full, own)
        self.reduce_to_leader(full)
        return full

    def _rows(self, count: int) -> slice:
        """Return which of the rows of a tensor this rank has: torch's chunks, where FSDP shards it."""
        if not self.layout.sharded:
            return slice(None)
        rows = -(-count // self.replicas)
        return slice(rows * self._replica, rows * (self._replica + 1))

    @property
    def _device(self) -> torch.device:
        assert self._model is not None
        return next(self._model.parameters()).device

    @property
    def _has_loss(self) -> bool:
        return self._stage == self.layout.stages - 1

    def hidden_states(
        self, inputs: Iterable[Tensor], compute: Callable[[Tensor], Tensor], stopping: Callable[[], bool]
    ) -> Iterator[Tensor | None]:
        """As Ranks.hidden_states()."""
        return (super().hidden_states(inputs, compute, stopping) if self.pipeline is None
                else self.pipeline.hidden_states(inputs, stopping))

    def after_evaluation(self, model: GPT2) -> None:
        """Let go of the whole tensors that a forward pass without a backward one leaves."""
        if self.layout.sharded:
            model.reshard()  # type: ignore[operator]

    def add_up(self, gradient: list[Tensor], deterministic: bool) -> None:
        """Replace each tensor by its sum over the replicas, unless FSDP did; the tied one's by that of its stages."""
        with self.watched():
            if self.replicas > 1 and not self.layout.sharded:
                add_up_between_ranks(gradient, self._groups["replica"])
            self._add_up_tied()

    def _add_up_tied(self) -> None:
        ends = self.layout.stages - 1
        if ends == 0 or self._stage not in (0, ends):
            return
        assert self._model is not None and self._model.wte.weight.grad is not None
        partner = self.rank + self.layout.width * (ends if self._has_loss else -ends)
        add_up_between_pair(held_here(self._model.wte.weight.grad), partner)

    def clip(self, model: GPT2, limit: float) -> float:
        """Scale the gradient so that its norm is at most `limit`; return its norm before."""
        norm = math.sqrt(math.fsum(self.squared_norms(gradients_of(model)).values()))
        factor = min(1.0, limit / (norm + 1e-6))
        if factor < 1.0:
            for gradient in gradients_of(model).values():
                held_here(gradient).mul_(factor)
        return norm

    def one_norm_squared(self, model: GPT2) -> float:
        """As Ranks.one_norm_squared(); every replica has computed the same, which FSDP has added up."""
        with self.watched():
            self._add_up_tied()
        times = self.replicas if self.layout.sharded else 1
        return math.fsum(self.squared_norms(gradients_of(model)).values()) / times**2

    def times_one(self, count: int) -> float:
        """As Ranks.times_one(), where stages work at the same time."""
        stages = self.layout.stages
        rounds = -(-count // (ROUND * stages))
        return (count + rounds * (stages - 1)) / stages

    def alone_in(self, count: int) -> range:
        """Return all of `count`: a gradient that is nobody else's too takes all ranks together."""
        return range(count)

    def squared_norms(self, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the squared norms of whole tensors, of which every rank gives its parts: a collective."""
        assert self._model is not None
        with torch.device("meta"):
            names = [name for name, _ in GPT2(self._model.shape).named_parameters()]
        own = {name: self._weight(name) * square
               for name, square in super().squared_norms({n: held_here(t) for n, t in tensors.items()}).items()}
        return dict(zip(names, self._sum([own.get(name, 0.0) for name in names]), strict=True))

    def _weight(self, name: str) -> float:
        """Return one over the number of ranks that hold an element of this parameter."""
        layout = self.layout
        split = part_of(name, torch.Size((1, 1)), self._part, layout.width).split
        holders = ((1 if layout.sharded else self.replicas) * (1 if split else layout.width)
                   * (2 if name == TIED and layout.stages > 1 else 1))
        return 1.0 / holders


def _shard(model: GPT2, mesh: Any) -> None:
    """Let FSDP2 divide the blocks and what is around them among the ranks of `mesh`."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    for block in model.h:
        if not isinstance(block, Elsewhere):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):  # the loss is divided by the batch's tokens: gradients only add up
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)


def divided(ranks: Ranks, how: str | None) -> Ranks:
    """Return `ranks` as --parallel says they divide the model, None: every rank has all of it.

    Raises UsageFault as parse_layout() does.
    """
    layout = parse_layout(how, ranks.world)
    return ranks if layout is None else Divided(ranks, layout)
