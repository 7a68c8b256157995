"""How large each layer's gradient is, and how far a step moves its weights: where a network learns too fast or not.

Layers are wte, wpe, every block h.0, h.1 ... and ln_f. An update of about a thousandth of the weights is usual.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.optimizer import AdamW
from gpt2cli.training.ranks import ALONE, Ranks, gradients_of


def layer_of(name: str) -> str:
    """Return the layer that a parameter belongs to: h.3 for h.3.mlp.c_fc.weight, ln_f for ln_f.bias."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first == "h" else first


def gradient_norms(model: GPT2, scale: float = 1.0, ranks: Ranks = ALONE) -> dict[str, float]:
    """Return the 2-norm of every layer's gradient, divided by `scale`, the whole layer's on every rank."""
    return _norms(gradients_of(model), ranks, scale)


@torch.no_grad()
def weights_before(model: GPT2, optimizer: AdamW) -> dict[str, Tensor]:
    """Return a copy of all fp32 weights, for layer_fields() after the step."""
    return {name: optimizer.weight(name, parameter).clone() for name, parameter in model.named_parameters()}


@torch.no_grad()
def layer_fields(
    model: GPT2, optimizer: AdamW, before: dict[str, Tensor], gradients: dict[str, float], ranks: Ranks = ALONE
) -> dict[str, dict[str, float]]:
    """Return grad_norm, weight_norm (before the step), update_norm and their ratio of every layer."""
    weights = _norms(before, ranks)
    # in place: the copies are not wanted any more
    updates = _norms({name: before[name].sub_(optimizer.weight(name, p)) for name, p in model.named_parameters()},
                     ranks)
    return {layer: {"grad_norm": gradients[layer], "weight_norm": weights[layer], "update_norm": updates[layer],
                    "update_ratio": updates[layer] / weights[layer] if weights[layer] else 0.0}
            for layer in weights}


def _norms(tensors: dict[str, Tensor], ranks: Ranks, scale: float = 1.0) -> dict[str, float]:
    squares: dict[str, float] = {}
    for name, square in ranks.squared_norms(tensors).items():
        squares[layer_of(name)] = squares.get(layer_of(name), 0.0) + square / scale**2
    return {layer: math.sqrt(square) for layer, square in squares.items()}
