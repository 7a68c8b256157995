"""The training pass of a small network in one call: small_network.cpp, compiled for this machine, behind one method.

A step of a network 16 wide takes torch ten times as long as its arithmetic, whatever of it is compiled. The kernel
computes what gpt2.py and nll.py compute in fp32, to rounding, on CPUs. Wherever it cannot, torch does as ever.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import accumulate

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.native_kernels import NoKernelsError, compiled_library
from gpt2cli.sizes import ModelShape

MOST_WIDTH = 256
"""Wider, torch's matrix products are as fast."""
MOST_CONTEXT = 256
MOST_LAYERS = 64
MOST_VOCABULARY = 8192
MOST_THREADS = 64
_FLOPS_OF_A_THREAD = 100_000_000
"""Less than this takes a thread less time than waking it and waiting for it."""
LIMITS = (f"in fp32 it is for networks up to {MOST_WIDTH} wide, a vocabulary up to {MOST_VOCABULARY:,} and a context "
          f"up to {MOST_CONTEXT} that is a multiple of 16")
_GRAIN = 16
_LINE = 64


def computes(shape: ModelShape) -> bool:
    """Whether the kernel is for networks of this shape: small ones, with a context that is a multiple of 16."""
    return (shape.n_embd <= MOST_WIDTH and shape.n_ctx <= MOST_CONTEXT and shape.n_layer <= MOST_LAYERS
            and shape.n_vocab <= MOST_VOCABULARY and shape.n_ctx % _GRAIN == 0)


@cache
def small_network_library() -> ctypes.CDLL:
    """Return the kernel, compiled by this call if it never was. Raises NoKernelsError."""
    source = files("gpt2cli.model").joinpath("small_network.cpp")
    try:
        library = ctypes.CDLL(str(compiled_library("small-network", [(source.name, source.read_bytes())])))
        library.small_network_room.restype = ctypes.c_int64
        library.small_network_room.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        library.small_network.restype = ctypes.c_double
        library.small_network.argtypes = [*[ctypes.c_void_p] * 6, ctypes.c_int64, ctypes.c_float, ctypes.c_int64]
    except (OSError, AttributeError) as error:
        raise NoKernelsError(f"the compiled kernels do not load ({error})") from None
    return library


@dataclass(frozen=True)
class _Workspace:
    """The kernel's own memory for one shape of batch and number of threads; its first byte begins a cache line."""

    shape: ctypes.Array[ctypes.c_int64]
    threads: int
    floats: Tensor


@dataclass(frozen=True)
class _Gradients:
    """One tensor, and each parameter's part of it."""

    flat: Tensor
    parts: list[Tensor]
    pointers: ctypes.Array[ctypes.c_void_p]


class SmallNetwork:
    """The pass of one model, whose parameters are fp32 and on the CPU; they are read anew at every call."""

    def __init__(self, model: GPT2, library: ctypes.CDLL, *, reuse: bool = False) -> None:
        """reuse: gradients that were given, and that the parameters have no longer, may be overwritten."""
        self._shape, self._library, self._reuse = model.shape, library, reuse
        self.parameters = list(model.parameters())
        self._sizes = [parameter.numel() for parameter in self.parameters]
        self._starts = [0, *accumulate(self._sizes)]
        self._pointers = ctypes.c_void_p * len(self.parameters)
        self._workspaces: dict[tuple[int, int, int], _Workspace] = {}
        self._given: _Gradients | None = None

    @torch.no_grad()
    def add(self, ids_BT: Tensor, targets_BT: Tensor, scale: float) -> Tensor:
        """Add the gradient of `scale` times the summed nll of a micro-batch; return that nll (scalar, nats).

        Where there was no gradient, the new ones are views of one tensor. Raises IndexError for an id outside the
        vocabulary.
        """
        if self.parameters[0].grad is None:
            gradients = self._begin()
        else:
            gradients = self._pointers(*(parameter.grad.data_ptr() for parameter in self.parameters
                                         if parameter.grad is not None))
        return torch.tensor(self._run(ids_BT, targets_BT, gradients, scale), dtype=torch.float64)

    def whole_gradient(self) -> Tensor | None:
        """Return the gradient of all parameters as the one tensor that theirs are views of; None where they are not.

        Nor where gradients are kept apart to be summed (--deterministic): ranks with one alone would measure it
        otherwise than ranks with several.
        """
        if not self._reuse:
            return None
        given, first = self._given, self.parameters[0].grad
        ours = given is not None and first is not None and first.data_ptr() == given.flat.data_ptr()
        return given.flat if given is not None and ours else None

    def forget_weights(self) -> None:
        """Do nothing: no weights are kept from one call to the next."""

    def free_rooms(self) -> None:
        """Let go of the memory that add() would use again."""
        self._workspaces, self._given = {}, None

    def _begin(self) -> ctypes.Array[ctypes.c_void_p]:
        """Give every parameter a gradient of zero, and return where they are."""
        if self._given is None or not self._reuse:
            flat = torch.empty(self._starts[-1])
            parts = zip(self.parameters, flat.split(self._sizes), strict=True)
            first = flat.data_ptr()
            self._given = _Gradients(flat, [part.view_as(parameter) for parameter, part in parts],
                                     self._pointers(*(first + 4 * start for start in self._starts[:-1])))
        self._given.flat.zero_()
        for parameter, part in zip(self.parameters, self._given.parts, strict=True):
            parameter.grad = part
        return self._given.pointers

    def _run(self, ids_BT: Tensor, targets_BT: Tensor, gradients: ctypes.Array[ctypes.c_void_p],
             scale: float) -> float:
        room = self._workspace(*ids_BT.shape)
        if ids_BT.stride() != targets_BT.stride() or ids_BT.stride(1) != 1:
            ids_BT, targets_BT = ids_BT.contiguous(), targets_BT.contiguous()
        nll = self._library.small_network(
            room.shape, room.floats.data_ptr(), self._pointers(*(each.data_ptr() for each in self.parameters)),
            gradients, ids_BT.data_ptr(), targets_BT.data_ptr(), ids_BT.stride(0), scale, room.threads)
        if nll == -1.0:
            raise IndexError(f"an id is outside the vocabulary of {self._shape.n_vocab:,}")
        return float(nll)

    def _workspace(self, B: int, T: int) -> _Workspace:
        worth = int(B * T * self._shape.train_flops_per_token() // _FLOPS_OF_A_THREAD)
        threads = max(1, min(torch.get_num_threads(), MOST_THREADS, worth))
        room = self._workspaces.get((B, T, threads))
        if room is None:
            s = self._shape
            shape = (ctypes.c_int64 * 6)(s.n_layer, s.n_head, s.n_embd, T, s.n_vocab, B)
            floats = torch.zeros(self._library.small_network_room(shape, threads) + _LINE // 4)
            room = _Workspace(shape, threads, floats[-floats.data_ptr() // 4 % (_LINE // 4) :])
            self._workspaces[B, T, threads] = room
        return room
