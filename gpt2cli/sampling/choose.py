"""The next token of each row, from the model's logits: penalties and bans, then the most probable or a draw.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gpt2cli.errors import BadInput
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.filters import apply_filters
from gpt2cli.sampling.penalties import penalise_counts, penalise_repetition
from gpt2cli.sampling.picking import draw_filtered
from gpt2cli.sampling.streams import SampleStream


class Said(Protocol):
    """What was said in a row so far: what the model was given at first, and the continuation."""

    @property
    def given(self) -> Sequence[int]:
        """The prompt's ids that the model was given."""

    @property
    def made(self) -> Sequence[int]:
        """The continuation's ids."""


class Drawing(Said, Protocol):
    """A row that draws from its own stream."""

    @property
    def stream(self) -> SampleStream:
        """The row's random numbers."""


class Chooser:
    """Chooses as `decoding` says, among the first n_vocab logits; `eot` is banned before min_tokens."""

    def __init__(self, decoding: Decoding, n_vocab: int, eot: int) -> None:
        self.decoding = decoding
        self.n_vocab = n_vocab
        self._eot = eot

    def choose(self, logits_BV: Tensor, rows: Sequence[Drawing]) -> list[int]:
        """Return each row's next id."""
        scores_BV = self.scores(logits_BV, rows)
        if self.decoding.greedy:
            return scores_BV.argmax(dim=1).tolist()
        return draw_filtered(scores_BV, self.decoding, [row.stream for row in rows])

    def scores(self, logits_BV: Tensor, rows: Sequence[Said]) -> Tensor:
        """Return fp32 logits after penalties and bans, before temperature and filters. BadInput: not finite."""
        logits_BV = logits_BV[:, : self.n_vocab].float()
        if not math.isfinite(float(logits_BV.sum())):
            raise BadInput("the model's logits are not finite: its weights are damaged, or its numbers too large for "
                           "the dtype; --dtype fp32 tells which")
        if self.decoding.penalised:
            logits_BV = torch.stack([self._penalise(logits, row) for logits, row in zip(logits_BV, rows, strict=True)])
        young = [index for index, row in enumerate(rows) if len(row.made) < self.decoding.min_tokens]
        if young and not self.decoding.ignore_eot:
            logits_BV = logits_BV.clone()
            logits_BV[young, self._eot] = -torch.inf
        return logits_BV

    def probabilities(self, logits_V: Tensor, row: Said) -> Tensor:
        """Return the whole distribution [V] that choose draws from; not for greedy decoding."""
        return apply_filters(self.scores(logits_V[None], [row]), self.decoding).softmax(dim=1)[0]

    def _penalise(self, logits_V: Tensor, row: Said) -> Tensor:
        decoding = self.decoding
        if decoding.repetition_penalty != 1.0:
            logits_V = penalise_repetition(logits_V, [*row.given, *row.made], decoding.repetition_penalty)
        if row.made and (decoding.presence_penalty or decoding.frequency_penalty):
            logits_V = penalise_counts(logits_V, row.made, decoding.presence_penalty, decoding.frequency_penalty)
        return logits_V
