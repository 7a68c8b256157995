"""What the model is fed while it generates: the prompts, then one token a row and step; with a cache and without.

Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.kv_cache import KVCache


class CachedFeed:
    """Logits of the next token; keys and values of what was read are kept. Equal prompts are read once."""

    def __init__(self, model: GPT2, prompts: list[tuple[int, ...]], capacity: int) -> None:
        """`prompts` are the ids of the rows, all of one length; `capacity` positions is what they may grow to."""
        self._model = model
        weight = model.wte.weight
        unique = list(dict.fromkeys(prompts))
        self._cache = KVCache(model.shape, len(unique), capacity, device=weight.device, dtype=weight.dtype)
        self._read(torch.tensor(unique, device=weight.device))
        rows = [unique.index(prompt) for prompt in prompts]
        if rows != list(range(len(unique))):
            self._keep(rows)

    def step(self, ids: list[int], rows: list[int]) -> None:
        """Go on with `rows` of the batch, giving each its next id."""
        if len(rows) != len(self.logits_BV):
            self._keep(rows)
        self._read(torch.tensor(ids, device=self.logits_BV.device)[:, None])

    def _read(self, ids_BT: Tensor) -> None:
        self.logits_BV = self._model.logits(self._model(ids_BT, self._cache)[:, -1])

    def _keep(self, rows: list[int]) -> None:
        index = torch.tensor(rows, device=self.logits_BV.device)
        self._cache.reorder(index)
        self.logits_BV = self.logits_BV[index]


class WholeFeed:
    """Logits of the next token, computed from the whole text at every step."""

    def __init__(self, model: GPT2, prompts: list[tuple[int, ...]], capacity: int) -> None:
        """`prompts` are the ids of the rows, all of one length; `capacity` positions is what they may grow to."""
        self._model = model
        self._ids_BT = torch.tensor(prompts, device=model.wte.weight.device)
        self._read()

    def step(self, ids: list[int], rows: list[int]) -> None:
        """Go on with `rows` of the batch, giving each its next id."""
        new_B1 = torch.tensor(ids, device=self._ids_BT.device)[:, None]
        self._ids_BT = torch.cat([self._ids_BT[rows], new_B1], dim=1)
        self._read()

    def _read(self) -> None:
        self.logits_BV = self._model.logits(self._model(self._ids_BT)[:, -1])
