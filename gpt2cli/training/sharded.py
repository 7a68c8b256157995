"""Ranks that hold a model in parts: fully sharded (FSDP2), or every matrix of a block split between them (tensor).

Either way the parts are made of one whole model on the leader and put together into one again for a checkpoint, tensor
by tensor, so that a checkpoint is the same file whatever wrote it, and any number of ranks goes on from it. The leader
alone needs room, in main memory, for the weights and moments of the whole.

All ranks of a group compute every micro-batch in step, since they communicate inside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gpt2cli.errors import Gpt2Error, Interrupted, UsageFault
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.gradient_sum import add_up_between_ranks
from gpt2cli.training.optimizer import AdamW, held_here
from gpt2cli.training.place import Place
from gpt2cli.training.ranks import Ranks
from gpt2cli.training.tensor_parts import Part, part_of, split_blocks


class Sharded(Ranks, ABC):
    """What both ways have in common."""

    in_step = True
    mode = ""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(Place(ranks.rank, ranks.world, ranks.local_rank), ranks.store)

    def check(self, config: TrainConfig) -> None:
        """Raise UsageFault for a configuration that these ranks cannot train."""
        if config.deterministic:
            raise UsageFault(f"--deterministic sums whole gradients; it does not go with --parallel {self.mode}")
        if config.noise_every:
            raise UsageFault(f"--noise-every needs whole gradients; it does not go with --parallel {self.mode}")
        if config.layers_every:
            raise UsageFault(f"--layers-every needs whole layers; it does not go with --parallel {self.mode}")
        super().check(config)
        if config.micro_batches % self.replicas:
            raise UsageFault(f"with --parallel {self.mode} each of {self.replicas} ranks takes as many micro-batches; "
                             f"a batch of {config.micro_batches} cannot be divided so: give another --micro-batch")

    def stop_asked(self, wish: bool) -> bool:
        """Whether any rank was asked to stop: a collective, once in every micro-batch."""
        return self.any(wish)

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

    def whole(self, model: GPT2, optimizer: AdamW, config: TrainConfig) -> tuple[GPT2, AdamW] | None:
        """Return a whole model and optimizer, to be filled, on the leader."""
        if not self.leader:
            return None
        empty = GPT2(config.shape, config.dropout)
        return empty, AdamW(empty, config)

    def spread(self, whole: tuple[GPT2, AdamW] | None, model: GPT2, optimizer: AdamW, updates: int) -> None:
        """Fill each rank's part of model and optimizer from the leader's whole ones, after `updates` steps."""
        optimizer.restore_zeros(updates)
        for source, (name, shape, place) in self._pairs(whole, model, optimizer):
            full = torch.empty(shape, device=place.device)
            if source is not None:
                full.copy_(source)
            self.copy_from_leader([full])
            place.copy_(self.cut(name, full))

    def collect(self, model: GPT2, optimizer: AdamW, config: TrainConfig) -> tuple[GPT2, AdamW] | None:
        """Return the whole model and optimizer on the leader, put together from all ranks' parts."""
        whole = self.whole(model, optimizer, config)
        if whole is not None:
            whole[1].restore_zeros(optimizer.updates)
        for target, (name, shape, place) in self._pairs(whole, model, optimizer):
            full = self.join(name, shape, place)
            if target is not None and full is not None:
                target.copy_(full)
        return whole

    def _pairs(
        self, whole: tuple[GPT2, AdamW] | None, model: GPT2, optimizer: AdamW
    ) -> Iterator[tuple[Tensor | None, tuple[str, torch.Size, Tensor]]]:
        """Yield (the leader's whole tensor, (parameter's name, whole shape, this rank's part)) of weights and moments.

        The order is that of the model's parameters on every rank.
        """
        with torch.device("meta"):
            shapes = {name: parameter.shape for name, parameter in GPT2(model.shape).named_parameters()}
        ours = dict(optimizer.named_moments())
        theirs = dict(whole[1].named_moments()) if whole else {}
        wholes = dict(whole[0].named_parameters()) if whole else {}
        for name, parameter in model.named_parameters():
            yield (wholes[name].data if whole else None), (name, shapes[name], held_here(parameter.data))
            for kind in ("exp_avg", "exp_avg_sq"):
                key = f"{kind}.{name}"
                if key in ours:
                    yield theirs.get(key), (name, shapes[name], ours[key])

    @abstractmethod
    def cut(self, name: str, full: Tensor) -> Tensor:
        """Return this rank's part of a whole tensor."""

    @abstractmethod
    def join(self, name: str, shape: torch.Size, part: Tensor) -> Tensor | None:
        """Return the whole tensor that `part` is this rank's part of, on the leader at least. A collective."""

    def clip(self, model: GPT2, limit: float) -> float:
        """Scale the gradient so that its norm is at most `limit`; return its norm before."""
        squares = torch.zeros((), dtype=torch.float64)
        gradients = [(name, held_here(parameter.grad)) for name, parameter in model.named_parameters()
                     if parameter.grad is not None]
        for name, gradient in gradients:
            squares += self.weight(name) * float(torch.linalg.vector_norm(gradient)) ** 2
        norm = float(self._sum([float(squares)])[0]) ** 0.5
        factor = min(1.0, limit / (norm + 1e-6))
        if factor < 1.0:
            for _, gradient in gradients:
                gradient.mul_(factor)
        return norm

    @abstractmethod
    def weight(self, name: str) -> float:
        """Return one over the number of ranks that hold an element of this parameter."""


class FullySharded(Sharded):
    """Every tensor in as many parts as there are ranks, whole only while a block computes (Zhao et al. 2023)."""

    mode = "fsdp"
    _mesh: Any = None

    def build(self, config: TrainConfig, device: torch.device) -> GPT2:
        """Return this rank's part of a model, its numbers yet to come."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        self._mesh = init_device_mesh(device.type, (self.world,))
        with torch.device("meta"):
            model = GPT2(config.shape, config.dropout)
        for block in model.h:
            fully_shard(block, mesh=self._mesh)
        fully_shard(model, mesh=self._mesh)
        for module in model.modules():
            if isinstance(module, FSDPModule):  # the loss is divided by the batch's tokens: gradients only add up
                module.set_force_sum_reduction_for_comms(True)
                module.set_gradient_divide_factor(1.0)
        model.to_empty(device=device)
        return model.train()

    def after_evaluation(self, model: GPT2) -> None:
        """Let go of the whole tensors that a forward pass without a backward one leaves."""
        model.reshard()  # type: ignore[operator]

    def add_up(self, gradient: list[Tensor], deterministic: bool) -> None:
        """Do nothing: FSDP adds up as it goes."""

    def cut(self, name: str, full: Tensor) -> Tensor:
        """Return this rank's rows: torch's chunks of the first dimension."""
        rows = -(-len(full) // self.world)
        return full[rows * self.rank : rows * (self.rank + 1)]

    def join(self, name: str, shape: torch.Size, part: Tensor) -> Tensor | None:
        """Return the whole tensor."""
        full = torch.zeros(shape, device=part.device)
        self.cut(name, full).copy_(part)
        self.reduce_to_leader(full)
        return full

    def weight(self, name: str) -> float:
        """Return 1: nobody has what another has."""
        return 1.0


class TensorSplit(Sharded):
    """Groups of `width` neighbouring ranks that split the matrices of every block (Shoeybi et al. 2019).

    Groups divide the micro-batches; within one every rank has the heads and the inner width of its part, and all else
    whole: embeddings, norms and the head.
    """

    def __init__(self, ranks: Ranks, width: int) -> None:
        super().__init__(ranks)
        self.mode = f"tp={width}"
        if self.world % width:
            raise UsageFault(f"--parallel {self.mode} takes a multiple of {width} ranks, not {self.world}")
        self.width, self.place_in_group = width, self.rank % width
        self._tensor_group: Any = None
        self._data_group: Any = None

    @property
    def replicas(self) -> int:
        """How many groups there are."""
        return self.world // self.width

    def share(self, count: int) -> range:
        """Return which of `count` things this rank's group has."""
        group = self.rank // self.width
        return range(count * group // self.replicas, count * (group + 1) // self.replicas)

    def check(self, config: TrainConfig) -> None:
        """Raise UsageFault for a configuration that these ranks cannot train."""
        super().check(config)
        if config.n_head % self.width:
            raise UsageFault(f"--parallel {self.mode} splits the heads, and {config.n_head} cannot be divided so")
        if config.dropout:
            raise UsageFault(f"--parallel {self.mode} does not go with --dropout: its masks would be other ones")

    def settle(
        self, values: Mapping[int, float], count: int, fault: Interrupted | Gpt2Error | OSError | None = None
    ) -> list[float]:
        """As Ranks.settle(); a group's numbers are its first rank's to give."""
        return super().settle(values if self.place_in_group == 0 else {}, count, fault)

    def build(self, config: TrainConfig, device: torch.device) -> GPT2:
        """Return this rank's part of a model, its numbers yet to come."""
        from torch.distributed.device_mesh import init_device_mesh

        mesh = init_device_mesh(device.type, (self.replicas, self.width), mesh_dim_names=("data", "tensor"))
        self._data_group, self._tensor_group = mesh.get_group("data"), mesh.get_group("tensor")
        with torch.device("meta"):
            model = GPT2(config.shape)
            split_blocks(model, self.width, self._tensor_group)
        model.to_empty(device=device)
        return model.train()

    def add_up(self, gradient: list[Tensor], deterministic: bool) -> None:
        """Replace each tensor by its sum over the groups."""
        if self.replicas > 1:
            add_up_between_ranks(gradient, self._data_group)

    def cut(self, name: str, full: Tensor) -> Tensor:
        """Return this rank's part."""
        return self._part(name, full.shape).take(full)

    def join(self, name: str, shape: torch.Size, part: Tensor) -> Tensor | None:
        """Return the whole tensor on the leader."""
        where = self._part(name, shape)
        if not where.split:
            return part
        full = torch.zeros(shape, device=part.device)
        if self.rank < self.width:
            where.put(full, part)
        self.reduce_to_leader(full)
        return full

    def weight(self, name: str) -> float:
        """Return one over the number of ranks that hold an element of this parameter."""
        split = self._part(name, torch.Size((1, 1))).split
        return 1.0 / self.replicas / (1 if split else self.width)

    def _part(self, name: str, shape: torch.Size) -> Part:
        return part_of(name, shape, self.place_in_group, self.width)


def divided(ranks: Ranks, how: str | None) -> Ranks:
    """Return `ranks` as --parallel says they divide the model, None: every rank has all of it.

    Raises UsageFault for another word than fsdp or tp=N, and where there are not the ranks for it.
    """
    if how is None:
        return ranks
    kind, _, number = how.partition("=")
    if how != "fsdp" and not (kind == "tp" and number.isascii() and number.isdigit() and int(number) > 0):
        raise UsageFault(f"no --parallel {how!r}; there are fsdp and tp=N. Without it every rank has the whole model")
    if ranks.world == 1 and how != "tp=1":
        raise UsageFault(f"--parallel {how} divides a model among ranks, and this process is alone; start several with "
                         "torchrun --nproc-per-node N -m gpt2cli train ...")
    if how == "tp=1":
        return ranks
    return FullySharded(ranks) if how == "fsdp" else TensorSplit(ranks, int(number))
