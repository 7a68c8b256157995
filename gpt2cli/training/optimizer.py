"""AdamW as GPT-2's reproductions set it up: decay on matrices only, fused kernels, moments by parameter name."""

from __future__ import annotations

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.training.config import TrainConfig

ADAM_EPS = 1e-8


def build_optimizer(model: GPT2, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with decoupled decay on projection matrices, none on embeddings, biases and norms."""
    decayed = [p for name, p in model.named_parameters() if _decays(name, p)]
    plain = [p for name, p in model.named_parameters() if not _decays(name, p)]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    # the foreach default is several times slower than the fused kernel on a CPU
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=ADAM_EPS, fused=True)


def export_moments(model: GPT2, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """Return exp_avg.NAME and exp_avg_sq.NAME for every parameter that has taken a step."""
    moments = {}
    for name, parameter in model.named_parameters():
        for moment in ("exp_avg", "exp_avg_sq"):
            if parameter in optimizer.state:
                moments[f"{moment}.{name}"] = optimizer.state[parameter][moment].detach().to("cpu")
    return moments


def import_moments(model: GPT2, optimizer: torch.optim.AdamW, moments: dict[str, Tensor], step: int) -> None:
    """Put moments saved by export_moments back, as after `step` optimizer steps. KeyError when one is missing."""
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(step), dtype=torch.float32, device=parameter.device),
            "exp_avg": moments[f"exp_avg.{name}"].to(parameter.device),
            "exp_avg_sq": moments[f"exp_avg_sq.{name}"].to(parameter.device),
        }


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and not name.startswith(("wte.", "wpe."))
