"""The processes that train one run together: who this one is, what they agree on, and how they all end when one does.

Rank 0 leads: it alone writes and speaks. What the ranks say to each other beside tensors is JSON; nothing is pickled.

Two channels: collectives, in which every rank takes part in the same order, and the launcher's key-value store, where
one rank can leave word at any time: that it was asked to stop, or why it failed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gpt2cli.errors import (
    BadInput,
    Gpt2Error,
    Interrupted,
    IOFailure,
    OthersFailed,
    OutOfMemory,
    StoppedEarly,
    UsageFault,
    allocations_told,
)
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.gradient_sum import add_up_between_ranks, climb_between_ranks
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.pipeline import Pipeline
from gpt2cli.training.place import Place
from gpt2cli.training.precision import total_norm

LEADER = 0
_POLL_SECONDS = 0.05
_STOP, _FAULT, _LOST, _ENDED = "gpt2/stop", "gpt2/fault", "gpt2/lost", "gpt2/ended"
_BY_STATUS: dict[int, type[Gpt2Error]] = {2: UsageFault, 65: BadInput, 74: IOFailure, 75: StoppedEarly}


_ELSEWHERE = "out of memory on another rank"


class LostRank(StoppedEarly):
    """Another rank is gone; what this one holds is the state after the last whole step."""


class Ranks:
    """This process among those of one run, each with the whole model and a share of the micro-batches.

    One that is alone has no process group, and every method is then free. divided.py has ranks that share the model.
    """

    in_step = False
    """Whether the ranks communicate inside a micro-batch, so that each has to do what the others do."""
    pipeline: Pipeline | None = None
    """What micro-batches go through, where this rank has only one stage of the model."""

    def __init__(self, place: Place | None = None, store: Any = None) -> None:
        place = place or Place()
        self.rank, self.world, self.local_rank = place.rank, place.world, place.local_rank
        self.store = store
        self._next_poll = 0.0

    @property
    def leader(self) -> bool:
        """Whether this rank is the one that writes and speaks."""
        return self.rank == LEADER

    @property
    def replicas(self) -> int:
        """How many parts the micro-batches are divided into."""
        return self.world

    def share(self, count: int) -> range:
        """Return which of `count` things in order this rank has: neighbours, within one as many as any other rank."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def device(self, chosen: torch.device) -> torch.device:
        """Return this rank's own device of the kind `chosen`; UsageFault when there is none for it."""
        if self.world == 1 or chosen.type == "cpu":
            return chosen
        if chosen.type != "cuda":
            raise UsageFault(f"several ranks train on CPUs or on CUDA devices, not on {chosen}")
        if chosen.index is not None:
            raise UsageFault(f"every rank takes the GPU of its own number; give --device cuda, not {chosen}")
        if self.local_rank >= torch.cuda.device_count():
            raise UsageFault(f"no GPU for rank {self.rank}: it is number {self.local_rank} on its machine, where torch "
                             f"sees {torch.cuda.device_count()} CUDA devices; give a smaller --nproc-per-node")
        device = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(device)
        return device

    def check(self, config: TrainConfig) -> None:
        """Raise UsageFault for a configuration that these ranks cannot train."""
        if config.micro_batches < self.replicas:
            many = "1 micro-batch" if config.micro_batches == 1 else f"{config.micro_batches} micro-batches"
            raise UsageFault(f"a batch of {many} is none for each of {self.replicas} ranks; give fewer ranks, a "
                             "smaller --micro-batch or a larger --batch-tokens")
        if config.deterministic and self.world & (self.world - 1):
            raise UsageFault("--deterministic sums by a binary tree: that takes 1, 2, 4, 8 ... ranks, not "
                             f"{self.world}")

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Leave the block on all ranks alike: a failure on any of them ends them all, told once."""
        fault: Gpt2Error | OSError | None = None
        try:
            yield
        except (Gpt2Error, OSError) as error:
            fault = error
        if self.world == 1:
            if fault is not None:
                raise fault
            return
        told = self._gather_text("" if fault is None else _encode(self.rank, fault))
        first = next((text for text in told if text), None)
        if first is not None:
            self._raise(first, fault)

    @contextlib.contextmanager
    def memory_alike(self) -> Iterator[None]:
        """Leave the block, in which each rank works by itself, on all ranks alike: OutOfMemory on any is on all."""
        short = None
        try:
            with allocations_told():
                yield
        except OutOfMemory as error:
            short = error
        if self.any(short is not None):
            raise short or OutOfMemory(_ELSEWHERE)

    def from_leader(self, value: Any) -> Any:
        """Return the leader's `value`, made of what JSON knows, on every rank."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        data = json.dumps(value).encode() if self.leader else b""
        with self._contact():
            length = torch.tensor([len(data)])
            dist.broadcast(length, LEADER)
            content = _as_tensor(data) if self.leader else torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(content, LEADER)
        return json.loads(content.numpy().tobytes())

    def copy_from_leader(self, tensors: list[Tensor]) -> None:
        """Fill `tensors`, which every rank has in equal shapes, with the leader's."""
        if self.world == 1:
            return
        import torch.distributed as dist

        with self._contact():
            for tensor in tensors:
                dist.broadcast(tensor, LEADER)

    def reduce_to_leader(self, tensor: Tensor) -> None:
        """Add up `tensor` over all ranks into the leader's."""
        import torch.distributed as dist

        with self._contact():
            dist.reduce(tensor, LEADER)

    def stop_asked(self, wish: bool) -> bool:
        """Whether this rank, whose wish is `wish`, or any other was asked to stop. For inner loops; see settle()."""
        if self.world == 1:
            return wish
        if wish:
            self._leave_word(_STOP, "1")
            return True
        if time.monotonic() < self._next_poll:
            return False
        self._next_poll = time.monotonic() + _POLL_SECONDS
        with self._contact():
            return bool(self.store.check([_STOP]))

    def agree(self, fault: Exception | None) -> None:
        """Raise `fault` if there is one, before what all ranks do in step; here they don't, so alone."""
        if fault is not None:
            raise fault

    def rounds(self, count: int) -> list[int]:
        """Return share(count), and whatever else this rank has to compute beside the others."""
        return list(self.share(count))

    def build(self, config: TrainConfig, device: torch.device) -> GPT2:
        """Return a model whose numbers are yet to come, or this rank's part of it."""
        return GPT2(config.shape, config.dropout).to(device).train()

    def whole(self, model: GPT2, optimizer: AdamW, config: TrainConfig) -> tuple[GPT2, AdamW] | None:
        """Return a whole model and optimizer on the leader, to read a checkpoint into."""
        return (model, optimizer) if self.leader else None

    def spread(self, whole: tuple[GPT2, AdamW] | None, model: GPT2, optimizer: AdamW, updates: int) -> None:
        """Fill model and optimizer on every rank from what the leader has in whole(), after `updates` steps."""
        self.copy_from_leader([parameter.data for parameter in model.parameters()])
        if not self.leader:
            optimizer.restore_zeros(updates)
        self.copy_from_leader(list(optimizer.state()))

    def collect(self, model: GPT2, optimizer: AdamW, config: TrainConfig) -> tuple[GPT2, AdamW] | None:
        """Return the whole model and optimizer on the leader, to write a checkpoint from."""
        return (model, optimizer) if self.leader else None

    def add_up(self, gradient: list[Tensor], deterministic: bool) -> None:
        """Replace the tensors, the sums over this rank's micro-batches, by those over all."""
        if self.world == 1:
            return
        with self.watched():
            if deterministic:
                climb_between_ranks(gradient, self.rank, self.world)
            else:
                add_up_between_ranks(gradient)

    def clip(self, model: GPT2, limit: float) -> float:
        """Scale the gradient so that its norm is at most `limit`; return its norm before."""
        norm = total_norm(gradients_of(model).values())
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)
        return float(norm)

    def hidden_states(
        self, inputs: Iterable[Tensor], compute: Callable[[Tensor], Tensor], stopping: Callable[[], bool]
    ) -> Iterator[Tensor | None]:
        """Yield compute(each) of `inputs` (B, T), or None where only another rank gets it.

        Raises Interrupted, on this rank at least, when stopping() says so on any.
        """
        for each in inputs:
            if self.stop_asked(stopping()):
                raise Interrupted
            yield compute(each)

    def times_one(self, count: int) -> float:
        """Return how many times as long as one micro-batch alone so many take, one after the other."""
        return count

    def alone_in(self, count: int) -> range:
        """Return in which of `count` gradients, each of one sequence and nothing else, this rank takes part."""
        return self.share(count)

    def one_norm_squared(self, model: GPT2) -> float:
        """Return the squared norm of such a gradient, which is in the parameters."""
        return float(total_norm(gradients_of(model).values())) ** 2

    def squared_norms(self, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the squared norms of tensors by their parameters' names, of which every rank gives what it has."""
        return {name: float(torch.linalg.vector_norm(tensor, dtype=torch.float32)) ** 2
                for name, tensor in tensors.items()}

    def after_evaluation(self, model: GPT2) -> None:
        """Let go of what only computing without gradients left."""

    def any(self, wish: bool) -> bool:
        """Whether `wish` is true on any rank: a collective."""
        if self.world == 1:
            return wish
        return self._sum([float(wish)])[0] > 0

    def least(self, number: int | None) -> int | None:
        """Return the smallest number that any rank has, None where none has one: a collective."""
        if self.world == 1:
            return number
        found = self._sum([(-1.0 if number is None else float(number)) if rank == self.rank else 0.0
                           for rank in range(self.world)])
        return min((int(each) for each in found if each >= 0), default=None)

    def largest(self, numbers: list[float]) -> list[float]:
        """Return the largest that any rank has in each place: a collective. None is negative."""
        if self.world == 1:
            return numbers
        found = self._sum([number if rank == self.rank else 0.0 for number in numbers for rank in range(self.world)])
        return [max(found[i : i + self.world]) for i in range(0, len(found), self.world)]

    def settle(
        self, values: Mapping[int, float], count: int, fault: Interrupted | Gpt2Error | OSError | None = None
    ) -> list[float]:
        """Return `count` numbers of which each rank gives its own, to the bit; a collective, which ends a stage.

        If any rank gives a fault instead, all raise: the leader as its own would be, Interrupted if it was no failure.
        OutOfMemory, which ends nothing, is raised on all alike.
        """
        if self.world == 1:
            if fault is not None:
                raise fault
            return [values[i] for i in range(count)]
        short = fault if isinstance(fault, OutOfMemory) else None
        ends = fault is not None and short is None
        if ends and isinstance(fault, (Gpt2Error, OSError)):
            self._leave_word(_FAULT, _encode(self.rank, fault))
        if ends:
            self._leave_word(_STOP, "1")
        *union, faults, shortages = self._sum([values.get(i, 0.0) for i in range(count)]
                                              + [float(ends), float(short is not None)])
        if faults:
            with self._contact():
                if self.store.check([_FAULT]):
                    self._raise(self.store.get(_FAULT).decode(), fault)
            raise Interrupted
        if shortages:
            raise short or OutOfMemory(_ELSEWHERE)
        return union

    def _sum(self, values: list[float]) -> list[float]:
        import torch.distributed as dist

        numbers = torch.tensor(values, dtype=torch.float64)
        with self._contact():
            dist.all_reduce(numbers)
        result: list[float] = numbers.tolist()
        return result

    def _gather_text(self, text: str) -> list[str]:
        import torch.distributed as dist

        data = text.encode()
        with self._contact():
            lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
            dist.all_gather(lengths, torch.tensor([len(data)]))
            longest = max(int(length) for length in lengths)
            if not longest:
                return [""] * self.world
            contents = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.world)]
            dist.all_gather(contents, _as_tensor(data.ljust(longest)))
        return [content.numpy().tobytes()[: int(length)].decode()
                for content, length in zip(contents, lengths, strict=True)]

    def _raise(self, encoded: str, own: BaseException | None) -> None:
        """End with what some rank failed of: the leader tells it, the others follow with its status."""
        rank, status, text = json.loads(encoded)
        if not self.leader:
            raise OthersFailed(status)
        if rank == self.rank and own is not None:
            raise own
        raise _BY_STATUS.get(status, Gpt2Error)(f"rank {rank}: {text}")

    def _leave_word(self, key: str, text: str) -> None:
        with self._contact():
            self.store.set(key, text)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turn the backends' own words for a peer that is gone into LostRank, where a library communicates for us."""
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or not any(word in str(error) for word in ("gloo", "NCCL", "Connection", "by peer")):
                raise
            raise self._lost() from None

    @contextlib.contextmanager
    def _contact(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError:  # every error of torch.distributed is one
            raise self._lost() from None

    def _lost(self) -> Gpt2Error:
        try:
            if self.store.check([_ENDED]):  # it could still say why
                return OthersFailed(int(self.store.get(_ENDED)))
            told = self.store.add(_LOST, 1) > 1
        except RuntimeError:
            told = False
        return LostRank("" if told else f"lost contact with another of the {self.world} ranks")

    def ended(self, status: int) -> None:
        """Leave word that this rank ends with `status` and says why itself, if anybody is there to read it."""
        with contextlib.suppress(RuntimeError):
            self.store.set(_ENDED, str(status))


ALONE = Ranks()
"""The ranks of a run of one process."""


def gradients_of(model: GPT2) -> dict[str, Tensor]:
    """Return the gradients that there are, by their parameters' names."""
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def _encode(rank: int, error: Exception) -> str:
    if isinstance(error, Gpt2Error):
        return json.dumps([rank, error.status, str(error)])
    assert isinstance(error, OSError)
    where = f"{error.filename}: " if error.filename is not None else ""
    return json.dumps([rank, IOFailure.status, f"{where}{error.strerror or error}"])


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
