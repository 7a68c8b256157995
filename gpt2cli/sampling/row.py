"""A sample, and the row of a batch that it grows in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gpt2cli.sampling.context import Prompt
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.logprobs import TokenLogprob
from gpt2cli.sampling.streams import SampleStream
from gpt2cli.sampling.text import TextStream
from gpt2cli.tokens.encode import Encoder

Sink = Callable[[bytes], None]


@dataclass
class Sample:
    """One continuation. finish_reason: "end_of_text", "stop" (a stop string) or "length" (max_tokens or context).

    logprobs: of every id, where they were asked for; end_logprob: of the end-of-text that ended it.
    score: what beam search judged it by.
    """

    prompt: Prompt
    number: int
    text: bytes = b""
    ids: list[int] = field(default_factory=list)
    finish_reason: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    end_logprob: float | None = None
    score: float | None = None


class Row:
    """A sample that is growing. `limit` is how many tokens it may have."""

    def __init__(self, sample: Sample, decoding: Decoding, encoder: Encoder, n_ctx: int, sink: Sink | None = None,
                 ) -> None:
        self.sample = sample
        self.stream = SampleStream(decoding.seed, sample.prompt.number, sample.number)
        room = decoding.max_tokens if decoding.slide else n_ctx - len(sample.prompt.ids)
        self.limit = min(decoding.max_tokens, room)
        self._decoding, self._encoder = decoding, encoder
        self._text = TextStream(decoding.stop)
        self._sink = sink
        if self.limit < 1:
            self.finish("length")

    @property
    def given(self) -> Sequence[int]:
        """The prompt's ids that the model was given."""
        return self.sample.prompt.ids

    @property
    def made(self) -> list[int]:
        """The continuation's ids."""
        return self.sample.ids

    @property
    def finished(self) -> bool:
        """Whether the sample ended."""
        return bool(self.sample.finish_reason)

    def take(self, token: int, logprob: TokenLogprob | None = None) -> None:
        """Append one token, and end the sample where it ends."""
        if token == self._encoder.vocabulary.eot and not self._decoding.ignore_eot:
            self.sample.end_logprob = logprob.nats if logprob else None
            self.finish("end_of_text")
            return
        self.sample.ids.append(token)
        if logprob:
            self.sample.logprobs.append(logprob)
        look = len(self.sample.ids) > self._decoding.min_tokens
        self._show(self._text.feed(self._encoder.decode([token]), look=look))
        if self._text.stopped:
            self.finish("stop")
        elif len(self.sample.ids) >= self.limit:
            self.finish("length")

    def finish(self, reason: str) -> None:
        """End the sample."""
        self._show(self._text.close())
        self.sample.finish_reason = reason

    def _show(self, text: bytes) -> None:
        self.sample.text += text
        if self._sink is not None and text:
            self._sink(text)
