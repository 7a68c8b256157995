"""Beam search: the most probable continuations that a search of a given width finds.

Step by step it does what `generate(num_beams=...)` of transformers does, so that its texts are the same: twice as many
candidates as beams are looked at; those that end among the best `width` may become results; a result is judged by its
summed log-probability over its length to the power of the length penalty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sampling.choose import Chooser
from gpt2cli.sampling.context import Prompt
from gpt2cli.sampling.decoding import Beams, Decoding
from gpt2cli.sampling.feed import CachedFeed, WholeFeed
from gpt2cli.sampling.logprobs import TokenLogprob, token_logprobs
from gpt2cli.sampling.row import Row, Sample
from gpt2cli.tokens.encode import Encoder

_NEVER = -math.inf


@dataclass(frozen=True)
class _Hypothesis:
    """A continuation, with the end-of-text that ended it if one did. `given` and `made`: see choose.Said."""

    given: tuple[int, ...]
    made: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    def plus(self, token: int, logprob: TokenLogprob | None) -> _Hypothesis:
        return _Hypothesis(self.given, (*self.made, token), (*self.logprobs, *([logprob] if logprob else [])))


class BeamSearch:
    """A search of one model and its settings, for prompt after prompt."""

    def __init__(self, model: GPT2, encoder: Encoder, decoding: Decoding, beams: Beams, *, use_cache: bool = True,
                 ) -> None:
        self._model, self._encoder, self._decoding, self._beams = model, encoder, decoding, beams
        self._feed = CachedFeed if use_cache else WholeFeed
        self._chooser = Chooser(decoding, encoder.vocabulary.n_vocab, encoder.vocabulary.eot)

    @torch.inference_mode()
    def search(self, prompt: Prompt, n_best: int, on_token: Callable[[int], None] = lambda count: None) -> list[Sample]:
        """Return the `n_best` best continuations, best first. on_token: see Generator.generate."""
        limit = min(self._decoding.max_tokens, self._model.shape.n_ctx - len(prompt.ids))
        if limit < 1:
            return [self._sample(prompt, number, _Hypothesis(prompt.ids), 0.0) for number in range(n_best)]
        search = _Search(self, prompt, limit)
        while search.going:
            search.step()
            on_token(n_best)
        return [self._sample(prompt, number, search.finished[number], float(search.finished_scores[number]))
                for number in range(n_best)]

    def _sample(self, prompt: Prompt, number: int, found: _Hypothesis, score: float) -> Sample:
        sample = Sample(prompt, number, score=score)
        row = Row(sample, self._decoding, self._encoder, self._model.shape.n_ctx)
        for index, token in enumerate(found.made):
            row.take(token, found.logprobs[index] if found.logprobs else None)
        return sample


class _Search:
    """One prompt's search. Shapes: W beams, K = 2 W candidates, V vocabulary."""

    def __init__(self, owner: BeamSearch, prompt: Prompt, limit: int) -> None:
        self._owner, self._beams, self._limit = owner, owner._beams, limit
        width = self._beams.width
        self._state = owner._feed(owner._model, [prompt.ids] * width, len(prompt.ids) + limit)
        empty = _Hypothesis(prompt.ids)
        self._running = [empty] * width
        self._running_scores = torch.tensor([0.0] + [_NEVER] * (width - 1))
        self.finished = [empty] * width
        self.finished_scores = torch.full((width,), _NEVER)
        self._is_finished = torch.zeros(width, dtype=torch.bool)
        self._improvable = True
        self.going = True

    def step(self) -> None:
        """Make every going hypothesis one token longer."""
        width, length = self._beams.width, len(self._running[0].made) + 1
        logits_WV = self._state.logits_BV[:, : self._owner._chooser.n_vocab]
        scores_WV = self._owner._chooser.scores(logits_WV.float().log_softmax(dim=1).cpu(), self._running)
        totals, places = (scores_WV + self._running_scores[:, None]).flatten().topk(2 * width)
        parents = (places // scores_WV.shape[1]).tolist()
        tokens = (places % scores_WV.shape[1]).tolist()
        candidates = self._extended(logits_WV, parents, tokens)
        ends = torch.tensor([length >= self._limit or self._ends(candidate) for candidate in candidates])
        open_scores = totals.masked_fill(ends, _NEVER)
        going = open_scores.topk(width).indices
        self._finish(totals, ends, candidates, length)
        self._running = [candidates[index] for index in going.tolist()]
        self._running_scores = open_scores[going]
        self._improvable = self._improvable and self._may_improve(length)
        enough = self._beams.early_stopping == "yes" and bool(self._is_finished.all())
        self.going = self._improvable and not enough and not bool(ends.all())
        if self.going:
            self._state.step([tokens[index] for index in going.tolist()], [parents[index] for index in going.tolist()])

    def _extended(self, logits_WV: Tensor, parents: Sequence[int], tokens: Sequence[int]) -> list[_Hypothesis]:
        logprobs: Sequence[TokenLogprob | None] = [None] * len(tokens)
        if self._owner._decoding.logprobs is not None:
            logprobs = token_logprobs(logits_WV[list(parents)], tokens, self._owner._decoding.logprobs)
        return [self._running[parent].plus(token, logprob)
                for parent, token, logprob in zip(parents, tokens, logprobs, strict=True)]

    def _ends(self, candidate: _Hypothesis) -> bool:
        decoding, encoder = self._owner._decoding, self._owner._encoder
        if candidate.made[-1] == encoder.vocabulary.eot and not decoding.ignore_eot:
            return True
        if not decoding.stop:
            return False
        said = encoder.decode(list(candidate.made[decoding.min_tokens:]))
        return any(stop.encode() in said for stop in decoding.stop)

    def _finish(self, totals: Tensor, ends: Tensor, candidates: list[_Hypothesis], length: int) -> None:
        """Let candidates that end, and are among the best `width`, become results."""
        width = self._beams.width
        ended = ends & (torch.arange(2 * width) < width)
        full = self._beams.early_stopping == "yes" and bool(self._is_finished.all())
        scores = totals / length**self._beams.length_penalty
        merged = torch.cat([self.finished_scores, scores.masked_fill(~ended | full | (not self._improvable), _NEVER)])
        best = merged.topk(width).indices
        pool = [*self.finished, *candidates]
        self.finished = [pool[index] for index in best.tolist()]
        self.finished_scores = merged[best]
        self._is_finished = torch.cat([self._is_finished, ended])[best]

    def _may_improve(self, length: int) -> bool:
        penalty = self._beams.length_penalty
        longest = self._limit if self._beams.early_stopping == "never" and penalty > 0 else length
        possible = self._running_scores[0] / longest**penalty
        worst = torch.where(self._is_finished, self.finished_scores.min(), torch.tensor(_NEVER))
        return bool((possible > worst).any())
