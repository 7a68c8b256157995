"""A model read from another program's file, under our names, and the checks that stand before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sizes import GPT2_VOCAB_SIZE, ModelShape
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary

PREFIX = "transformer."
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_BUFFERS = (".attn.bias", ".attn.masked_bias")
_HEAD = "lm_head.weight"
_PADDING = 128
"""Trainers pad 50,257 ids to a multiple of at most this."""


@dataclass(frozen=True)
class ForeignModel:
    """What a file held: tensors in fp32 by our names and layout, and its vocabulary when it came with one.

    sources are the files that were read; left_out says in words what of them was not taken.
    """

    shape: ModelShape
    tensors: dict[str, Tensor]
    sources: tuple[Path, ...]
    vocabulary: Vocabulary | None = None
    left_out: str = ""
    caution: str = ""


def tensor_sizes(shape: ModelShape, name: str) -> dict[str, tuple[int, ...]]:
    """Return our names and sizes of a network's tensors; `name` is the file that asks for it. Raises BadInput."""
    try:
        with torch.device("meta"):
            return {key: tuple(tensor.shape) for key, tensor in GPT2(shape).state_dict().items()}
    except RuntimeError as error:
        raise BadInput(f"{name} asks for tensors that no machine holds: {error}") from None


def named_shape(values: dict[str, object], name: str) -> ModelShape:
    """Return a shape of n_layer, n_head, n_embd, n_ctx and n_vocab; raise BadInput for any that is no such number."""
    numbers = {}
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise BadInput(f"{name}: {key} is {ascii(value)[:40]}, not a positive number")
        numbers[key] = value
    try:
        return ModelShape(**numbers)
    except UsageFault as error:
        raise BadInput(f"{name}: {error}") from None


def own_names(state: dict[str, object], name: str) -> dict[str, Tensor]:
    """Return a state dict's tensors without `transformer.`, masks and tied head, as they are stored.

    Raises BadInput for what is no tensor, for a name that is there twice and for a head that is not tied.
    """
    tensors: dict[str, Tensor] = {}
    head = None
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise BadInput(f"{name} is no state dict: {ascii(key)[:80]} names no tensor")
        short = key.removeprefix(PREFIX)
        if short.endswith(_BUFFERS):
            continue
        if short == _HEAD:
            head = value
        elif short in tensors:
            raise BadInput(f"{name} holds {ascii(short)[:80]} twice, with and without {PREFIX!r}")
        else:
            tensors[short] = value
    wte = tensors.get("wte.weight")
    if head is not None and wte is not None and head is not wte:
        same = head.shape == wte.shape and _is_plain(head) and _is_plain(wte) and torch.equal(head, wte)
        if not same:
            raise BadInput(f"{name}: {_HEAD} is not wte.weight; GPT-2's head is tied to its token embedding")
    return tensors


def fitted(tensors: dict[str, Tensor], shape: ModelShape, source_bytes: int, name: str) -> dict[str, Tensor]:
    """Return the tensors of `shape` in fp32, contiguous, each looked at: there, of its size, plain, finite.

    source_bytes bounds what they may fill together, since a tensor in a pickle can claim to be larger than the file.
    Raises BadInput.
    """
    if 4 * shape.n_layer > len(tensors):  # a layer has twelve; looked at before a claimed billion of them is laid out
        raise BadInput(f"{name} holds {len(tensors)} tensors and claims {shape.n_layer} layers")
    sizes = tensor_sizes(shape, name)
    unknown = sorted(tensors.keys() - sizes.keys())
    if unknown:
        raise BadInput(f"{name} holds a tensor that GPT-2 has not: {ascii(unknown[0])[:80]}")
    missing = [key for key in sizes if key not in tensors]
    if missing:
        more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
        raise BadInput(f"{name} lacks {missing[0]}{more}")
    for key, size in sizes.items():
        tensor = tensors[key]
        if not _is_plain(tensor):
            raise BadInput(f"{name}: {key} is no plain tensor of floating-point numbers")
        if tuple(tensor.shape) != size:
            raise BadInput(f"{name}: {key} has shape {list(tensor.shape)}, not {list(size)}")
        source_bytes -= tensor.numel() * tensor.element_size()
    if source_bytes < 0:
        raise BadInput(f"{name} claims more numbers than it has bytes")
    taken = {}
    for key in sizes:
        taken[key] = tensors[key].detach().to(torch.float32).contiguous()
        if not bool(torch.isfinite(taken[key]).all()):
            raise BadInput(f"{name}: {key} holds values that are not finite")
    return taken


def padded_gpt2_vocabulary(n_vocab: int, name: str) -> Vocabulary:
    """Return GPT-2's vocabulary for a file without any, when its ids are GPT-2's, padded or not; else UsageFault."""
    if GPT2_VOCAB_SIZE <= n_vocab < GPT2_VOCAB_SIZE + _PADDING:
        return gpt2_vocabulary()
    raise UsageFault(f"{name} carries no vocabulary, and its {n_vocab:,} ids are not GPT-2's {GPT2_VOCAB_SIZE:,}; give "
                     "the vocabulary it was trained with by --vocab FILE")


def _is_plain(tensor: Tensor) -> bool:
    return tensor.dtype in FLOATS and tensor.layout == torch.strided and tensor.device.type == "cpu"
