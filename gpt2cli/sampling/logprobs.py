"""The model's own log-probabilities of the tokens it said, before penalties, temperature and filters.

They equal `compute_transition_scores` of transformers on the raw logits, normalised. Natural logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenLogprob:
    """The log-probability of a token in nats, and the most probable tokens of its place: (id, nats), best first."""

    nats: float
    top: tuple[tuple[int, float], ...]


def token_logprobs(logits_BV: Tensor, ids: Sequence[int], n_top: int) -> list[TokenLogprob]:
    """Return what the logits (B, V) say of ids (B), with `n_top` alternatives each."""
    logprobs_BV = logits_BV.float().log_softmax(dim=1)
    own = logprobs_BV.gather(1, torch.tensor(ids, device=logits_BV.device)[:, None])[:, 0].tolist()
    best = logprobs_BV.topk(min(n_top, logprobs_BV.shape[1]), dim=1)
    return [TokenLogprob(nats, tuple(zip(tokens, values, strict=True)))
            for nats, tokens, values in zip(own, best.indices.tolist(), best.values.tolist(), strict=True)]
