"""What was said already changes what is said next: repetition, presence and frequency penalties.

Repetition (Keskar et al. 2019) counts the prompt too and equals transformers' RepetitionPenaltyLogitsProcessor.
Presence and frequency count the continuation alone, by OpenAI's published formula, as vLLM does:
logit - frequency * count - presence * [count > 0]. Repetition comes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def penalise_repetition(logits_V: Tensor, said: Sequence[int], penalty: float) -> Tensor:
    """Return logits [V] with those of ids in `said` divided by `penalty` where positive, multiplied where negative."""
    index = torch.tensor(sorted(set(said)), dtype=torch.int64, device=logits_V.device)
    score = logits_V[index]
    return logits_V.index_put((index,), torch.where(score < 0, score * penalty, score / penalty))


def penalise_counts(logits_V: Tensor, said: Sequence[int], presence: float, frequency: float) -> Tensor:
    """Return logits [V] less `presence` for every id in `said`, and less `frequency` for each time it was said."""
    counts = Counter(said)
    index = torch.tensor(list(counts), dtype=torch.int64, device=logits_V.device)
    times = torch.tensor(list(counts.values()), dtype=logits_V.dtype, device=logits_V.device)
    return logits_V.index_put((index,), logits_V[index] - frequency * times - presence)
