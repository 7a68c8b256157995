"""Generation: prompts in, continuations out, token by token, in batches that change nothing but speed.

Work is cut into groups of consecutive samples whose prompts have equally many tokens (all samples of one prompt among
them). A group's prompts are read once, then each step feeds one token a row; rows that end leave the batch.
Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sampling.feed import CachedFeed, WholeFeed
from gpt2cli.sampling.filters import apply_filters
from gpt2cli.sampling.streams import SampleStream, draw
from gpt2cli.sampling.text import TextStream
from gpt2cli.tokens.encode import Encoder

COLDEST = 1e-6
"""Below this temperature the most probable token is taken: logits divided by less may overflow fp32."""


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen and when a sample ends. temperature 0 takes the most probable token."""

    max_tokens: int = 256
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Prompt:
    """One prompt: its number, its text (bytes, UTF-8) and the ids the model is given: the last that fit, never none."""

    number: int
    text: bytes
    ids: tuple[int, ...]
    dropped: int


@dataclass
class Sample:
    """One continuation. finish_reason: "end_of_text", "stop" (a stop string) or "length" (max_tokens or context)."""

    prompt: Prompt
    number: int
    text: bytes = b""
    ids: list[int] = field(default_factory=list)
    finish_reason: str = ""


Sink = Callable[[bytes], None]


def read_prompt(number: int, text: bytes, encoder: Encoder, n_ctx: int, max_tokens: int) -> Prompt:
    """Encode a prompt (UTF-8; `<|endoftext|>` in it is plain text). An empty one is end-of-text alone.

    A prompt that leaves less room in the context than min(max_tokens, n_ctx // 2) loses its first tokens;
    `dropped` says how many.
    """
    ids = encoder.encode(text.decode("utf-8")).tolist() or [encoder.vocabulary.eot]
    kept = n_ctx - min(max_tokens, max(1, n_ctx // 2))
    dropped = max(0, len(ids) - max(1, kept))
    return Prompt(number, text, tuple(ids[dropped:]), dropped)


class Generator:
    """A model with its encoder, ready to continue prompts."""

    def __init__(self, model: GPT2, encoder: Encoder, *, use_cache: bool = True, batch: int = 8) -> None:
        """`batch` rows are computed together; without the cache every step reads the whole text again."""
        self.model = model
        self.encoder = encoder
        self._use_cache = use_cache
        self._batch = batch

    def generate(
        self, prompts: Sequence[Prompt], num_samples: int, decoding: Decoding, sink: Sink | None = None,
        on_token: Callable[[int], None] = lambda count: None,
    ) -> Iterator[Sample]:
        """Yield `num_samples` samples of every prompt, in order of prompt and sample.

        sink: is given the text as it comes, whole characters at a time; only for a single prompt and sample.
        on_token: is called with the number of tokens of each step.
        """
        if sink is not None and len(prompts) * num_samples != 1:
            raise ValueError("only a single sample can be streamed")
        for group in self._groups(prompts, num_samples):
            rows = [_Row(sample, decoding, sink) for sample in group]
            self._run(rows, decoding, on_token)
            yield from group

    def _groups(self, prompts: Sequence[Prompt], num_samples: int) -> Iterator[list[Sample]]:
        group: list[Sample] = []
        for prompt in prompts:
            for number in range(num_samples):
                if group and (len(group) == self._batch or len(group[0].prompt.ids) != len(prompt.ids)):
                    yield group
                    group = []
                group.append(Sample(prompt, number))
        if group:
            yield group

    @torch.inference_mode()
    def _run(self, rows: list[_Row], decoding: Decoding, on_token: Callable[[int], None]) -> None:
        start = len(rows[0].sample.prompt.ids)
        limit = min(decoding.max_tokens, self.model.shape.n_ctx - start)
        if limit < 1:
            for row in rows:
                row.finish("length")
            return
        feed = CachedFeed if self._use_cache else WholeFeed
        state = feed(self.model, [row.sample.prompt.ids for row in rows], start + limit)
        for count in range(1, limit + 1):
            ids = self._choose(state.logits_BV, rows, decoding)
            for row, token in zip(rows, ids, strict=True):
                row.take(token, self.encoder, last=count == limit)
            on_token(len(rows))
            going = [index for index, row in enumerate(rows) if not row.sample.finish_reason]
            if not going:
                return
            state.step([ids[index] for index in going], going)
            rows = [rows[index] for index in going]

    def _choose(self, logits_BV: Tensor, rows: list[_Row], decoding: Decoding) -> list[int]:
        logits_BV = logits_BV[:, : self.encoder.vocabulary.n_vocab].float()
        if decoding.temperature < COLDEST:
            return logits_BV.argmax(dim=1).tolist()
        logits_BV = apply_filters(logits_BV, decoding.temperature, decoding.top_k, decoding.top_p)
        return draw(logits_BV, [row.stream.uniform() for row in rows]).tolist()


class _Row:
    """A sample that is growing."""

    def __init__(self, sample: Sample, decoding: Decoding, sink: Sink | None) -> None:
        self.sample = sample
        self.stream = SampleStream(decoding.seed, sample.prompt.number, sample.number)
        self._text = TextStream(decoding.stop)
        self._sink = sink

    def take(self, token: int, encoder: Encoder, *, last: bool) -> None:
        """Append one token, and end the sample where it ends."""
        if token == encoder.vocabulary.eot:
            self.finish("end_of_text")
            return
        self.sample.ids.append(token)
        self._show(self._text.feed(encoder.decode([token])))
        if self._text.stopped:
            self.finish("stop")
        elif last:
            self.finish("length")

    def finish(self, reason: str) -> None:
        """End the sample."""
        self._show(self._text.close())
        self.sample.finish_reason = reason

    def _show(self, text: bytes) -> None:
        self.sample.text += text
        if self._sink is not None and text:
            self._sink(text)
