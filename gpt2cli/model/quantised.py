"""Quantised weights: what a matrix becomes in 8 or 4 bits, and the safetensors file that holds it.

8 bits: one scale for every output, symmetric. 4 bits: two weights a byte, a scale and an offset for every output and
group of inputs, the range of each group narrowed where that lowers the squared error. The token embedding, which is
the head too, takes 8 bits in both, less its mean row (narrow.py); norms, biases and positions stay fp32.
gpt2-checkpoint(5) describes the file. Shapes: I in, O out, G groups of a row of inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt2cli.errors import UsageFault
from gpt2cli.model.gpt2 import PROJECTIONS
from gpt2cli.model.integer_linear import widen_int4
from gpt2cli.sizes import ModelShape

SCHEMA = "gpt2.quantised/1"
GROUPS = (32, 64, 128, 256)
"""Inputs that may share a scale in 4 bits: what the kernel takes."""
_SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)


@dataclass(frozen=True)
class Quantisation:
    """Bits a weight, and for 4 bits how many inputs share a scale (None for 8: all of them)."""

    bits: int
    group: int | None = None

    @property
    def name(self) -> str:
        """Its short name: int8 or int4."""
        return f"int{self.bits}"

    def check(self, shape: ModelShape) -> None:
        """Raise UsageFault where a model of this shape cannot be stored so."""
        if self.bits not in (8, 4):
            raise UsageFault(f"{self.bits} bits a weight is not offered; choose 8 or 4")
        if self.bits == 8:
            if self.group is not None:
                raise UsageFault("a group size is for 4 bits; in 8 bits every output has one scale")
        elif self.group not in GROUPS:
            raise UsageFault(f"no groups of {self.group} inputs; group sizes are {', '.join(map(str, GROUPS))}")
        elif shape.n_embd % self.group:
            raise UsageFault(f"groups of {self.group} inputs do not divide the model's width of {shape.n_embd}; choose "
                             "a smaller --group-size or --bits 8")


def layout(shape: ModelShape, form: Quantisation) -> dict[str, tuple[str, list[int]]]:
    """Return the file's tensors: name -> (safetensors' name of the type, shape)."""
    width, vocabulary = shape.n_embd, shape.n_vocab
    tensors: dict[str, tuple[str, list[int]]] = {
        "wte.q": ("I8", [vocabulary, width]), "wte.scale": ("BF16", [vocabulary]), "wte.mean": ("F32", [width]),
        "wpe.weight": ("F32", [shape.n_ctx, width])}
    norms = ["ln_f", *(f"h.{layer}.{norm}" for layer in range(shape.n_layer) for norm in ("ln_1", "ln_2"))]
    tensors |= {f"{norm}.{part}": ("F32", [width]) for norm in norms for part in ("weight", "bias")}
    for layer in range(shape.n_layer):
        for projection, into, out in zip(PROJECTIONS, (1, 1, 1, 4), (3, 1, 4, 1), strict=True):
            name, n_in, n_out = f"h.{layer}.{projection}", into * width, out * width
            tensors[f"{name}.bias"] = ("F32", [n_out])
            if form.group is None:
                tensors[f"{name}.q"] = ("I8", [n_out, n_in])
                tensors[f"{name}.scale"] = ("BF16", [n_out])
            else:
                tensors[f"{name}.q"] = ("U8", [n_out, n_in // 2])
                for part in ("scale", "offset"):
                    tensors[f"{name}.{part}"] = ("BF16", [n_out, n_in // form.group])
    return tensors


def quantise(state: dict[str, Tensor], shape: ModelShape, form: Quantisation,
             done: Callable[[int, int], None] = lambda count, of: None) -> dict[str, Tensor]:
    """Return the tensors of `layout` for parameters under our names. done: told of every matrix, of how many."""
    mean_C = state["wte.weight"].float().mean(0)
    q_VC, scale_V = eight_bits(state["wte.weight"].float() - mean_C)
    tensors = {"wte.q": q_VC, "wte.scale": scale_V, "wte.mean": mean_C}
    names = [f"h.{layer}.{projection}" for layer in range(shape.n_layer) for projection in PROJECTIONS]
    for count, name in enumerate(names):
        done(count, len(names))
        w_OI = state[f"{name}.weight"].float().T
        if form.group is None:
            tensors[f"{name}.q"], tensors[f"{name}.scale"] = eight_bits(w_OI)
        else:
            for part, tensor in zip(("q", "scale", "offset"), four_bits(w_OI, form.group), strict=True):
                tensors[f"{name}.{part}"] = tensor
    kept = layout(shape, form).keys() - tensors.keys()
    tensors |= {name: state[name].float() for name in sorted(kept)}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def eight_bits(w_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Return integers (O, I) of -127 to 127 and scales (O,) in bf16: w is q scale."""
    scale_O = (w_OI.abs().amax(1) / 127).bfloat16()
    safe_O1 = scale_O.float().clamp_min(torch.finfo(torch.bfloat16).tiny)[:, None]
    return (w_OI / safe_O1).round_().clamp_(-127, 127).to(torch.int8), scale_O


def four_bits(w_OI: Tensor, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return nibbles (O, I / 2), scales and offsets (O, G) in bf16: w is (nibble - 8) scale + offset."""
    w_OGI = w_OI.reshape(w_OI.shape[0], -1, group)
    low, high = w_OGI.amin(2), w_OGI.amax(2)
    middle, width = (low + high) / 2, high - low
    best: tuple[Tensor, Tensor, Tensor] | None = None
    least = torch.full_like(low, torch.inf)
    for shrink in _SHRINK:
        scale = (width * shrink / 15).bfloat16()
        offset = (middle + scale.float() / 2).bfloat16()
        safe = scale.float().clamp_min(torch.finfo(torch.bfloat16).tiny)
        q = ((w_OGI - offset.float()[..., None]) / safe[..., None] + 8).round_().clamp_(0, 15)
        error = ((q - 8) * scale.float()[..., None] + offset.float()[..., None]).sub_(w_OGI).square_().sum(2)
        if best is None:
            best, least = (q.to(torch.uint8), scale, offset), error
            continue
        better = error < least
        best = (torch.where(better[..., None], q.to(torch.uint8), best[0]), torch.where(better, scale, best[1]),
                torch.where(better, offset, best[2]))
        least = torch.minimum(error, least)
    assert best is not None
    q_OI = best[0].flatten(1)
    return q_OI[:, ::2] | q_OI[:, 1::2] << 4, best[1], best[2]


def widened(tensors: dict[str, Tensor], form: Quantisation) -> dict[str, Tensor]:
    """Return fp32 parameters under our names that the quantised tensors stand for."""
    state = {name: tensor for name, tensor in tensors.items() if name.endswith((".weight", ".bias"))}
    state["wte.weight"] = tensors["wte.q"].float() * tensors["wte.scale"].float()[:, None] + tensors["wte.mean"]
    for name in (name.removesuffix(".q") for name in tensors if name.endswith(".q") and name != "wte.q"):
        if form.group is None:
            w_OI = tensors[f"{name}.q"].float() * tensors[f"{name}.scale"].float()[:, None]
        else:
            w_OI = widen_int4(*(tensors[f"{name}.{part}"] for part in ("q", "scale", "offset")))
        state[f"{name}.weight"] = w_OI.T.contiguous()
    return state


def as_config(form: Quantisation) -> dict[str, Any]:
    """Return what config.json says of it."""
    return {"schema": SCHEMA, "bits": form.bits, "group_size": form.group}
