"""Who proposes tokens that the model then verifies: a smaller model, or the text itself.

Shapes: T proposed tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sampling.choose import Chooser
from gpt2cli.sampling.feed import CachedFeed
from gpt2cli.sampling.picking import draw_weighted
from gpt2cli.sampling.row import Row
from gpt2cli.sampling.streams import SampleStream

_LONGEST_MATCH = 3


@dataclass(frozen=True)
class Proposal:
    """Tokens, and the distribution [V] that each was drawn from; none where nothing was drawn."""

    ids: list[int]
    drawn_from: list[Tensor] = field(default_factory=list)


class Proposer(Protocol):
    """Proposes how a text may go on."""

    def propose(self, row: Row, room: int) -> Proposal:
        """Return at most `room` tokens to follow the row's text."""


class PromptLookup:
    """Proposes what followed the last few tokens where they stood before (Saxena 2023). It costs nothing."""

    def __init__(self, count: int) -> None:
        """At most `count` tokens are proposed."""
        self._count = count

    def propose(self, row: Row, room: int) -> Proposal:
        """Return what followed the most recent earlier place of the last 3 tokens, else of the last 2, else of 1.

        Where that is nearer than the tokens asked for, they repeat: a text that runs in a circle goes on so.
        """
        text, count = [*row.given, *row.made], min(self._count, room)
        distance = _distance(text)
        if distance is None:
            return Proposal([])
        for _ in range(count):
            text.append(text[-distance])
        return Proposal(text[-count:])


def _distance(text: list[int]) -> int | None:
    """Return how far back the text's last tokens stood before."""
    for size in range(min(_LONGEST_MATCH, len(text) - 1), 0, -1):
        last = text[-size:]
        for end in range(len(text) - 1, size - 1, -1):
            if text[end - size : end] == last:
                return len(text) - end
    return None


@dataclass(frozen=True)
class _Imagined:
    """A text that the draft goes on with; see choose.Drawing."""

    given: Sequence[int]
    made: Sequence[int]
    stream: SampleStream


class Draft:
    """Proposes what a smaller model would say, by the same temperature, filters and penalties."""

    def __init__(self, model: GPT2, chooser: Chooser, count: int, capacity: int) -> None:
        """At most `count` tokens are proposed; texts have at most `capacity` tokens."""
        self._model, self._chooser, self._count = model, chooser, count
        self._capacity = min(capacity, model.shape.n_ctx)
        self._feed: CachedFeed | None = None
        self._read: list[int] = []

    def propose(self, row: Row, room: int) -> Proposal:
        """Return tokens, until the draft's own context is full."""
        text = [*row.given, *row.made]
        count = min(self._count, room, self._capacity - len(text) + 1)
        if count < 1:
            return Proposal([])
        logits_V = self._catch_up(text)
        ids: list[int] = []
        drawn_from: list[Tensor] = []
        while True:
            imagined = _Imagined(row.given, [*row.made, *ids], row.stream)
            if self._chooser.decoding.greedy:
                ids += self._chooser.choose(logits_V[None], [imagined])
            else:
                drawn_from.append(self._chooser.probabilities(logits_V, imagined))
                ids.append(draw_weighted(drawn_from[-1], row.stream.uniform()))
            if len(ids) == count:
                return Proposal(ids, drawn_from)
            logits_V = self._more([ids[-1]])

    def _catch_up(self, text: list[int]) -> Tensor:
        """Read what the draft lacks of `text`, after forgetting what was not taken of its proposals."""
        if self._feed is None:
            self._feed, self._read = CachedFeed(self._model, [tuple(text)], self._capacity), list(text)
            return self._feed.logits_BV[0]
        same = next((index for index, (ours, theirs) in enumerate(zip(self._read, text, strict=False))
                     if ours != theirs), min(len(self._read), len(text)))
        same = min(same, len(text) - 1)
        self._feed.rewind([same])
        del self._read[same:]
        return self._more(text[same:])

    def _more(self, ids: list[int]) -> Tensor:
        assert self._feed is not None
        self._read += ids
        return self._feed.extend(torch.tensor([ids]))[0, -1]
