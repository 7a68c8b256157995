"""Speculative decoding: several proposed tokens are verified by one reading of the model (Leviathan et al. 2023).

Where nothing is drawn by the proposer (prompt lookup) or by the model (temperature 0), the model chooses each token as
it would alone, and a proposal counts as long as it is the same: the text is that of plain decoding, seed for seed.
Where a draft draws x from q and the model has p, x is kept with probability min(1, p(x) / q(x)), else a token is drawn
from max(0, p - q): what comes out is distributed as p, though at one seed it is another text than without the draft.
Shapes: T proposed tokens, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sampling.choose import Chooser
from gpt2cli.sampling.context import Prompt
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.feed import CachedFeed
from gpt2cli.sampling.logprobs import token_logprobs
from gpt2cli.sampling.picking import draw_weighted
from gpt2cli.sampling.proposals import Draft, PromptLookup, Proposal, Proposer
from gpt2cli.sampling.row import Row, Sample, Sink
from gpt2cli.tokens.encode import Encoder


@dataclass(frozen=True)
class Speculation:
    """Who proposes, and how many tokens at once: a draft model, or without one the text itself.

    plain_steps: a sample's first steps have no proposal, to know what a step costs. Those of every sample, since what
    a sample says may depend on no other.
    """

    count: int
    draft: GPT2 | None = None
    plain_steps: int = 3


@dataclass
class Tally:
    """What speculation brought. Seconds are for people alone."""

    verifications: int = 0
    proposed: int = 0
    accepted: int = 0
    tokens: int = 0
    seconds: float = 0.0
    plain_steps: list[float] = field(default_factory=list)

    @property
    def tokens_each(self) -> float:
        """Tokens of text that a verification gave, the model's own included."""
        return self.tokens / self.verifications if self.verifications else 0.0

    @property
    def speedup(self) -> float | None:
        """How many times as fast as without it; None where too little was done to tell."""
        if not self.verifications or not self.plain_steps or not self.seconds:
            return None
        plain = sorted(self.plain_steps)[len(self.plain_steps) // 2]
        return self.tokens * plain / self.seconds


class Speculator:
    """Makes samples one at a time, several tokens a reading."""

    def __init__(self, model: GPT2, encoder: Encoder, decoding: Decoding, speculation: Speculation) -> None:
        self._model, self._encoder, self._decoding, self._speculation = model, encoder, decoding, speculation
        self._chooser = Chooser(decoding, encoder.vocabulary.n_vocab, encoder.vocabulary.eot)
        self.tally = Tally()

    @torch.inference_mode()
    def sample(self, prompt: Prompt, number: int, sink: Sink | None = None,
               on_token: Callable[[int], None] = lambda count: None) -> Sample:
        """Return sample `number` of a prompt. sink, on_token: see Generator.generate."""
        row = Row(Sample(prompt, number), self._decoding, self._encoder, self._model.shape.n_ctx, sink)
        if row.finished:
            return row.sample
        capacity = len(prompt.ids) + row.limit
        feed = CachedFeed(self._model, [prompt.ids], capacity)
        proposer = self._proposer(capacity)
        self._take(row, feed.logits_BV[0], self._chooser.choose(feed.logits_BV, [row])[0])
        on_token(1)
        while not row.finished:
            on_token(self._round(row, feed, proposer))
        return row.sample

    def _proposer(self, capacity: int) -> Proposer:
        if self._speculation.draft is None:
            return PromptLookup(self._speculation.count)
        return Draft(self._speculation.draft, self._chooser, self._speculation.count, capacity)

    def _round(self, row: Row, feed: CachedFeed, proposer: Proposer) -> int:
        """Verify a proposal; return how many tokens the row took. The row's last token was not read yet."""
        began, before = time.perf_counter(), len(row.made)
        room = row.limit - len(row.made) - 1
        plain = room < 1 or len(row.made) <= self._speculation.plain_steps
        proposal = Proposal([]) if plain else proposer.propose(row, room)
        text = len(row.given) + len(row.made)
        logits_TV = feed.extend(torch.tensor([[row.made[-1], *proposal.ids]]))[0]
        self._verify(row, logits_TV, proposal)
        if not row.finished:
            feed.rewind([text + len(row.made) - before - 1])
        took = max(1, len(row.made) - before)
        seconds = time.perf_counter() - began
        if not proposal.ids:
            self.tally.plain_steps.append(seconds)
        else:
            self.tally.verifications += 1
            self.tally.proposed += len(proposal.ids)
            self.tally.tokens += took
            self.tally.seconds += seconds
        return took

    def _verify(self, row: Row, logits_TV: Tensor, proposal: Proposal) -> None:
        """Let the row take the proposals that stand, and one token more of the model's own."""
        for place, token in enumerate(proposal.ids):
            if proposal.drawn_from:
                stands, choice = self._judge(row, logits_TV[place], token, proposal.drawn_from[place])
            else:
                choice = self._chooser.choose(logits_TV[place : place + 1], [row])[0]
                stands = choice == token
            self.tally.accepted += stands
            self._take(row, logits_TV[place], choice)
            if not stands or row.finished:
                return
        self._take(row, logits_TV[-1], self._chooser.choose(logits_TV[-1:], [row])[0])

    def _judge(self, row: Row, logits_V: Tensor, token: int, q_V: Tensor) -> tuple[bool, int]:
        p_V = self._chooser.probabilities(logits_V, row)
        if row.stream.uniform() * float(q_V[token]) < float(p_V[token]):
            return True, token
        rest_V = (p_V - q_V).clamp(min=0)
        return False, draw_weighted(rest_V if float(rest_V.sum()) > 0 else p_V, row.stream.uniform())

    def _take(self, row: Row, logits_V: Tensor, token: int) -> None:
        if self._decoding.logprobs is None:
            row.take(token)
        else:
            logits_BV = logits_V[None, : self._encoder.vocabulary.n_vocab]
            row.take(token, token_logprobs(logits_BV, [token], self._decoding.logprobs)[0])
