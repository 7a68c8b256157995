"""Generation: prompts in, continuations out, token by token, in batches that change nothing but speed.

Consecutive samples are computed together, whatever the lengths of their prompts. A batch's prompts are read once, then
each step feeds one token a row; rows that end leave the batch.
Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sampling.choose import Chooser
from gpt2cli.sampling.context import Prompt, slid
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.feed import CachedFeed, WholeFeed
from gpt2cli.sampling.logprobs import TokenLogprob, token_logprobs
from gpt2cli.sampling.row import Row, Sample, Sink
from gpt2cli.tokens.encode import Encoder

OnToken = Callable[[int], None]


class Generator:
    """A model with its encoder, ready to continue prompts."""

    def __init__(self, model: GPT2, encoder: Encoder, *, use_cache: bool = True, batch: int = 8) -> None:
        """`batch` rows are computed together; without the cache every step reads the whole text again."""
        self.model = model
        self.encoder = encoder
        self._feed = CachedFeed if use_cache else WholeFeed
        self._batch = batch

    def generate(
        self, prompts: Sequence[Prompt], num_samples: int, decoding: Decoding, sink: Sink | None = None,
        on_token: OnToken = lambda count: None,
    ) -> Iterator[Sample]:
        """Yield `num_samples` samples of every prompt, in order of prompt and sample.

        sink: is given the text as it comes, whole characters at a time; only for a single prompt and sample.
        on_token: is called with the number of tokens of each step; what it raises ends the generation.
        """
        if sink is not None and len(prompts) * num_samples != 1:
            raise ValueError("only a single sample can be streamed")
        n_ctx = self.model.shape.n_ctx
        samples = (Sample(prompt, number) for prompt in prompts for number in range(num_samples))
        while group := list(islice(samples, self._batch)):
            rows = [Row(sample, decoding, self.encoder, n_ctx, sink) for sample in group]
            self._run([row for row in rows if not row.finished], decoding, on_token)
            yield from group

    @torch.inference_mode()
    def _run(self, rows: list[Row], decoding: Decoding, on_token: OnToken) -> None:
        if not rows:
            return
        vocabulary, n_ctx = self.encoder.vocabulary, self.model.shape.n_ctx
        chooser = Chooser(decoding, vocabulary.n_vocab, vocabulary.eot)
        texts = [row.sample.prompt.ids for row in rows]
        state = self._read(texts, rows)
        while True:
            ids = chooser.choose(state.logits_BV, rows)
            for row, token, logprob in zip(rows, ids, self._logprobs(state.logits_BV, ids, decoding), strict=True):
                row.take(token, logprob)
            on_token(len(rows))
            going = [index for index, row in enumerate(rows) if not row.finished]
            if not going:
                return
            rows, texts = [rows[index] for index in going], [(*texts[index], ids[index]) for index in going]
            if any(len(text) > n_ctx for text in texts):
                texts = [slid(text, n_ctx) if len(text) > n_ctx else text for text in texts]
                state = self._read(texts, rows)
            else:
                state.step([ids[index] for index in going], going)

    def _read(self, texts: list[tuple[int, ...]], rows: list[Row]) -> CachedFeed | WholeFeed:
        longest = max(len(text) + row.limit - len(row.made) for text, row in zip(texts, rows, strict=True))
        return self._feed(self.model, texts, min(longest, self.model.shape.n_ctx))

    def _logprobs(self, logits_BV: Tensor, ids: list[int], decoding: Decoding) -> Sequence[TokenLogprob | None]:
        if decoding.logprobs is None:
            return [None] * len(ids)
        return token_logprobs(logits_BV[:, : self.encoder.vocabulary.n_vocab], ids, decoding.logprobs)
