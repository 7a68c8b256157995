"""The tied head and the softmax on the positions that are scored, in chunks: (N x V) logits never exist whole.

Shapes: N positions, C width, V vocabulary. Whatever the dtype of the weights, the softmax runs in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2cli.evaluation.predictions import Foremost, Predictions, Wanted, joined
from gpt2cli.model.linear import linear

ROWS = 256
"""Positions whose logits exist at once: fewer make the matrix product slower, more only take memory."""
STRIP = 16
"""Positions whose softmax is worked out together: their logits (3 MB) stay in a processor's cache."""


@dataclass(frozen=True)
class Scores:
    """Of each target: nll in nats (fp32), and where asked for its rank (1: likeliest) and the entropy in nats.

    predictions: what the model expected instead, where asked for.
    """

    nll_N: Tensor
    rank_N: Tensor | None = None
    entropy_N: Tensor | None = None
    predictions: Predictions | None = None


class Head:
    """The head of one model."""

    def __init__(self, wte_VC: Tensor, rows: int = ROWS) -> None:
        self._wte_VC = wte_VC
        self._rows = rows

    @torch.inference_mode()
    def score(self, x_NC: Tensor, targets_N: Tensor, *, details: bool = False, wanted: Wanted | None = None) -> Scores:
        """Score `targets_N` given final hidden states. details: rank and entropy as well (a half slower).

        wanted: the predictions as well, and the details.
        """
        if not len(x_NC):
            return Scores(torch.empty(0))
        parts: list[Scores] = []
        for x_RC, target_R in zip(x_NC.split(self._rows), targets_N.split(self._rows), strict=True):
            logits_RV = linear(x_RC, self._wte_VC)
            strips = zip(logits_RV.split(STRIP), target_R.split(STRIP), strict=True)
            parts += [_score(logits.float(), target[:, None], details or wanted is not None, wanted)
                      for logits, target in strips]
        nll_N = torch.cat([part.nll_N for part in parts])
        if parts[0].rank_N is None:
            return Scores(nll_N)
        ranks, entropies = ([getattr(part, name) for part in parts] for name in ("rank_N", "entropy_N"))
        return Scores(nll_N, torch.cat(ranks), torch.cat(entropies),
                      None if wanted is None else joined([part.predictions for part in parts if part.predictions]))


def _score(logits_SV: Tensor, target_S1: Tensor, details: bool, wanted: Wanted | None) -> Scores:
    """Score one strip; `logits_SV` is used up."""
    top_S1 = logits_SV.amax(1, keepdim=True)
    of_target_S1 = logits_SV.gather(1, target_S1)
    rank_S = (logits_SV > of_target_S1).sum(1) + 1 if details else None
    foremost = None if wanted is None else Foremost(logits_SV, wanted)
    shifted_SV = logits_SV.sub_(top_S1)
    if not details:
        return Scores(shifted_SV.exp_().sum(1).log() + (top_S1 - of_target_S1)[:, 0])
    log_z_S1 = shifted_SV.exp().sum(1, keepdim=True).log()
    log_p_SV = shifted_SV.sub_(log_z_S1)
    p_SV = log_p_SV.exp()
    entropy_S = torch.special.entr(p_SV).sum(1)
    predictions = None if foremost is None else foremost.predictions(log_p_SV, p_SV, entropy_S)
    return Scores((log_z_S1 + top_S1 - of_target_S1)[:, 0], rank_S, entropy_S, predictions)
