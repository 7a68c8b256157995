"""nanoGPT's ckpt.pt: a pickled dict of `model` (a state dict) and `model_args`.

Its matrices are nn.Linear's, [out, in]; torch.compile put `_orig_mod.` before names; `bias: False` leaves out every
bias, which is the same as zeros. Its MLP computes the exact GELU since 2023, GPT-2 the tanh form: a file does not say
which it was trained with, so the difference is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt2cli.errors import BadInput
from gpt2cli.interchange.foreign_model import ForeignModel, fitted, named_shape, own_names
from gpt2cli.interchange.pickled_tensors import read_pickle

COMPILED = "_orig_mod."
_ARGUMENTS = {"n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd", "n_ctx": "block_size",
              "n_vocab": "vocab_size"}
_CAUTION = ("nanoGPT computes the exact GELU since 2023 and its files do not say which; this program computes GPT-2's "
            "tanh form, so logits may differ in the third decimal")


def read_nanogpt(path: Path, allow_pickle: bool) -> ForeignModel:
    """Read a ckpt.pt, or the one in a directory. Raises UsageFault without the flag, BadInput for another network."""
    if path.is_dir():
        path = path / "ckpt.pt"
    checkpoint = read_pickle(path, allow_pickle)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict) or not isinstance(
            checkpoint.get("model_args"), dict):
        raise BadInput(f"{path} is no nanoGPT checkpoint: it has no `model` and `model_args`")
    arguments: dict[str, Any] = checkpoint["model_args"]
    name = f"{path}: model_args"
    shape = named_shape({ours: arguments.get(theirs) for ours, theirs in _ARGUMENTS.items()}, name)
    state = {key.removeprefix(COMPILED) if isinstance(key, str) else key: value
             for key, value in checkpoint["model"].items()}
    tensors = {key: _turned(key, tensor, str(path)) for key, tensor in own_names(state, str(path)).items()}
    size = path.stat().st_size
    if arguments.get("bias", True) is False:
        if any(key.endswith(".bias") for key in tensors):
            raise BadInput(f"{name} says bias False, and yet {path.name} holds biases")
        zeros = _zero_biases(tensors)
        tensors |= zeros
        size += sum(4 * tensor.numel() for tensor in zeros.values())
    others = sorted(key for key in map(str, checkpoint) if key not in ("model", "model_args"))
    left_out = f"all but the weights ({ascii(', '.join(others))[1:-1][:80]})" if others else ""
    return ForeignModel(shape, fitted(tensors, shape, size, str(path)), (path,), None, left_out, _CAUTION)


def _turned(key: str, tensor: Tensor, name: str) -> Tensor:
    if key.endswith(".weight") and ".c_" in key:
        if tensor.dim() != 2:
            raise BadInput(f"{name}: {ascii(key)[:80]} has {tensor.dim()} dimensions, a matrix has 2")
        return tensor.T
    return tensor


def _zero_biases(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a bias of zeros beside each weight of a norm or a matrix (stored [in, out] by now)."""
    zero = torch.zeros(())  # expanded, it takes no room before its claimed size was checked
    return {key.removesuffix("weight") + "bias": zero.expand(tensor.shape[-1])
            for key, tensor in tensors.items()
            if key.endswith(".weight") and key not in ("wte.weight", "wpe.weight") and tensor.dim() > 0}
