"""What the model is fed while it generates: the prompts, then new tokens a row and step; with a cache and without.

Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt2cli.model.decoder import Decoder
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.packed import hidden_states


class _Feed:
    """The rows' lengths and the logits of their last positions, whatever computes them."""

    def __init__(self) -> None:
        self._recent_BTV: Tensor
        self._last: list[int] | None

    @property
    def logits_BV(self) -> Tensor:
        """Logits of the token after each row. ValueError after a rewind beyond what was read last: they are gone."""
        if self._last is None:
            raise ValueError("rewound beyond what was read last; read a token to have logits again")
        if self._recent_BTV.shape[1] == 1:
            return self._recent_BTV[:, 0]
        return self._recent_BTV[torch.arange(len(self._last)), self._last]

    def _set(self, logits_BTV: Tensor) -> None:
        self._recent_BTV = logits_BTV
        self._last = [logits_BTV.shape[1] - 1] * len(logits_BTV)

    def _select(self, rows: Sequence[int]) -> None:
        self._recent_BTV = self._recent_BTV[list(rows)]
        self._last = None if self._last is None else [self._last[row] for row in rows]

    def _went_back(self, before: list[int], after: Sequence[int]) -> None:
        if any(not 0 <= new <= old for old, new in zip(before, after, strict=True)):
            raise ValueError(f"rows of {before} positions cannot be rewound to {list(after)}")
        if self._last is not None:
            last = [at - (old - new) for at, old, new in zip(self._last, before, after, strict=True)]
            self._last = last if min(last) >= 0 else None


class CachedFeed(_Feed):
    """Keys and values of what was read are kept. Equal prompts are read once."""

    def __init__(self, model: GPT2, prompts: Sequence[tuple[int, ...]], capacity: int) -> None:
        """`prompts` are the ids of the rows, of any lengths; `capacity` positions is what any may grow to."""
        self._decoder = Decoder(model)
        unique = list(dict.fromkeys(prompts))
        self._cache = self._decoder.cache(len(prompts), capacity)
        self._set(self._decoder.logits(self._decoder.begin(unique, self._cache))[:, None])
        self._keep([unique.index(prompt) for prompt in prompts])

    @property
    def lengths(self) -> list[int]:
        """The number of positions each row holds."""
        return list(self._cache.lengths)

    def step(self, ids: Sequence[int], rows: Sequence[int]) -> None:
        """Go on with `rows` of the batch (left out, moved, repeated), giving each its next id."""
        self._keep(rows)
        self.extend(torch.tensor(ids, device=self._decoder.device)[:, None])

    def extend(self, ids_BT: Tensor) -> Tensor:
        """Feed T more ids to every row; return the logits (B, T, V) after each of them."""
        logits_BTV = self._decoder.logits(self._decoder.read(ids_BT.to(self._decoder.device), self._cache))
        self._set(logits_BTV)
        return logits_BTV

    def rewind(self, lengths: Sequence[int]) -> None:
        """Forget what is beyond lengths[i] positions of row i."""
        self._went_back(self._cache.lengths, lengths)
        self._cache.set_lengths(lengths)

    def _keep(self, rows: Sequence[int]) -> None:
        if list(rows) != list(range(len(self._recent_BTV))):
            self._cache.reorder(rows)
            self._select(rows)


class WholeFeed(_Feed):
    """Everything is computed from the whole text at every step: slow, and what the cache is measured against."""

    def __init__(self, model: GPT2, prompts: Sequence[tuple[int, ...]], capacity: int) -> None:
        """`prompts` are the ids of the rows, of any lengths; `capacity` is not needed."""
        self._model = model
        self._rows = [list(prompt) for prompt in prompts]
        self._read(1)

    @property
    def lengths(self) -> list[int]:
        """The number of positions each row holds."""
        return [len(row) for row in self._rows]

    def step(self, ids: Sequence[int], rows: Sequence[int]) -> None:
        """Go on with `rows` of the batch (left out, moved, repeated), giving each its next id."""
        self._rows = [[*self._rows[row], token] for row, token in zip(rows, ids, strict=True)]
        self._read(1)

    def extend(self, ids_BT: Tensor) -> Tensor:
        """Feed T more ids to every row; return the logits (B, T, V) after each of them."""
        self._rows = [row + new for row, new in zip(self._rows, ids_BT.tolist(), strict=True)]
        return self._read(ids_BT.shape[1])

    def rewind(self, lengths: Sequence[int]) -> None:
        """Forget what is beyond lengths[i] positions of row i."""
        self._went_back(self.lengths, lengths)
        self._rows = [row[:length] for row, length in zip(self._rows, lengths, strict=True)]

    def _read(self, last: int) -> Tensor:
        device = self._model.wte.weight.device
        ends = torch.tensor([len(row) for row in self._rows], device=device).cumsum(0)
        wanted_BT = ends[:, None] - torch.arange(last, 0, -1, device=device)
        ids_N = torch.tensor([token for row in self._rows for token in row], device=device)
        x_MC = hidden_states(self._model, ids_N, [(1, len(row)) for row in self._rows], wanted_BT.flatten())
        logits_BTV = self._model.logits(x_MC).view(*wanted_BT.shape, -1)
        self._set(logits_BTV)
        return logits_BTV
