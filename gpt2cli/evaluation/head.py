"""The tied head and the softmax on the positions that are scored, in chunks: (N x V) logits never exist whole.

Shapes: N positions, C width, V vocabulary. Whatever the dtype of the weights, the softmax runs in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from gpt2cli.evaluation.forward import linear

ROWS = 256
"""Positions whose logits exist at once: fewer make the matrix product slower, more only take memory."""
STRIP = 16
"""Positions whose softmax is worked out together: their logits (3 MB) stay in a processor's cache."""


@dataclass(frozen=True)
class Scores:
    """Of each target: nll in nats (fp32), and where asked for its rank (1: likeliest) and the entropy in nats."""

    nll_N: Tensor
    rank_N: Tensor | None = None
    entropy_N: Tensor | None = None


class Head:
    """The head of one model."""

    def __init__(self, wte_VC: Tensor, rows: int = ROWS) -> None:
        self._wte_VC = wte_VC
        self._rows = rows

    @torch.inference_mode()
    def score(self, x_NC: Tensor, targets_N: Tensor, *, details: bool = False) -> Scores:
        """Score `targets_N` given final hidden states. details: rank and entropy as well (a half slower)."""
        if not len(x_NC):
            return Scores(torch.empty(0))
        parts: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
        for x_RC, target_R in zip(x_NC.split(self._rows), targets_N.split(self._rows), strict=True):
            logits_RV = linear(x_RC, self._wte_VC)
            strips = zip(logits_RV.split(STRIP), target_R.split(STRIP), strict=True)
            parts += [_score(logits.float(), target[:, None], details) for logits, target in strips]
        nll_N = torch.cat([nll_S for nll_S, _, _ in parts])
        if not details:
            return Scores(nll_N)
        ranks, entropies = ([part[place] for part in parts] for place in (1, 2))
        return Scores(nll_N, torch.cat(cast(list[Tensor], ranks)), torch.cat(cast(list[Tensor], entropies)))


def _score(logits_SV: Tensor, target_S1: Tensor, details: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return nll, rank and entropy; `logits_SV` is used up."""
    top_S1 = logits_SV.amax(1, keepdim=True)
    of_target_S1 = logits_SV.gather(1, target_S1)
    rank_S = (logits_SV > of_target_S1).sum(1) + 1 if details else None
    shifted_SV = logits_SV.sub_(top_S1)
    if not details:
        return shifted_SV.exp_().sum(1).log() + (top_S1 - of_target_S1)[:, 0], None, None
    log_z_S1 = shifted_SV.exp().sum(1, keepdim=True).log()
    log_p_SV = shifted_SV.sub_(log_z_S1)
    entropy_S = torch.special.entr(log_p_SV.exp()).sum(1)
    return (log_z_S1 + top_S1 - of_target_S1)[:, 0], rank_S, entropy_S
