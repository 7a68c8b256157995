"""Samples by whatever way was asked for: plain generation, beam search or speculative decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gpt2cli.errors import UsageFault
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.beams import BeamSearch
from gpt2cli.sampling.context import Prompt
from gpt2cli.sampling.decoding import Beams, Decoding
from gpt2cli.sampling.generate import Generator
from gpt2cli.sampling.open_model import ModelChoice, OpenModel, open_model
from gpt2cli.sampling.row import Sample, Sink
from gpt2cli.sampling.speculative import Speculation, Speculator, Tally

OnToken = Callable[[int], None]


@dataclass(frozen=True)
class Way:
    """How samples are made; at most one of beams, draft (a MODEL) and prompt_lookup (tokens at once) is given."""

    beams: Beams | None = None
    draft: str | None = None
    draft_tokens: int = 4
    prompt_lookup: int | None = None
    use_cache: bool = True
    batch: int = 8

    @property
    def speculates(self) -> bool:
        """Whether tokens are proposed and verified."""
        return self.draft is not None or self.prompt_lookup is not None

    def rows(self, samples: int) -> int:
        """Return how many positions a step computes for `samples` samples in all; without a cache, many."""
        if not self.use_cache:
            return 1024
        if self.beams is not None:
            return self.beams.width
        if self.speculates:
            return 1 + (self.prompt_lookup or self.draft_tokens)
        return max(1, min(self.batch, samples))

    def check(self, decoding: Decoding, num_samples: int) -> None:
        """Raise UsageFault for settings that contradict each other."""
        decoding.check()
        if (self.beams is not None) + (self.draft is not None) + (self.prompt_lookup is not None) > 1:
            raise UsageFault("--beams, --draft and --prompt-lookup are different ways to decode; give one of them")
        if self.beams is not None:
            self.beams.check(decoding, num_samples)
        if self.speculates and decoding.slide:
            raise UsageFault("--draft and --prompt-lookup work within one context; leave --slide out")
        if self.speculates and not self.use_cache:
            raise UsageFault("--draft and --prompt-lookup live by the cache; leave --no-cache out")


class Producer:
    """Makes samples of prompts."""

    def __init__(self, opened: OpenModel, choice: ModelChoice, decoding: Decoding, way: Way, reporter: Reporter,
                 ) -> None:
        """Open the draft, if there is one, as the model was; raise UsageFault if it has another vocabulary."""
        self._opened, self._decoding, self._way = opened, decoding, way
        self.encoder, self.n_ctx = opened.encoder, opened.shape.n_ctx
        self._speculator = self._speculation(choice, reporter) if way.speculates else None

    @property
    def tally(self) -> Tally | None:
        """What speculation brought; None without it."""
        return self._speculator.tally if self._speculator else None

    def samples(self, prompts: Sequence[Prompt], num_samples: int, sink: Sink | None = None,
                on_token: OnToken = lambda count: None) -> Iterator[Sample]:
        """Yield `num_samples` samples of every prompt, in order. sink, on_token: see Generator.generate."""
        opened, way = self._opened, self._way
        if way.beams is not None:
            search = BeamSearch(opened.model, opened.encoder, self._decoding, way.beams, use_cache=way.use_cache)
            for prompt in prompts:
                for sample in search.search(prompt, num_samples, on_token):
                    if sink is not None:
                        sink(sample.text)
                    yield sample
        elif self._speculator is not None:
            for prompt in prompts:
                for number in range(num_samples):
                    yield self._speculator.sample(prompt, number, sink, on_token)
        else:
            generator = Generator(opened.model, opened.encoder, use_cache=way.use_cache, batch=way.batch)
            yield from generator.generate(prompts, num_samples, self._decoding, sink, on_token)

    def _speculation(self, choice: ModelChoice, reporter: Reporter) -> Speculator:
        opened, way = self._opened, self._way
        draft = None
        if way.draft is not None:
            found = open_model(dataclasses.replace(choice, path=way.draft), reporter, "draft")
            if found.vocabulary.sha256 != opened.vocabulary.sha256:
                raise UsageFault(f"{found.source.directory} speaks another vocabulary than {opened.source.directory}; "
                                 "a draft must have the same")
            draft = found.model
        count = way.prompt_lookup if way.prompt_lookup is not None else way.draft_tokens
        return Speculator(opened.model, opened.encoder, self._decoding, Speculation(count, draft))


def tell_speculation(tally: Tally, reporter: Reporter) -> None:
    """Say what speculation brought, and plainly when it brought nothing."""
    if not tally.verifications:
        reporter.note("speculation: nothing was proposed; without it the same is made with less ado")
        return
    text = (f"speculation: {tally.accepted:,} of {tally.proposed:,} proposed tokens accepted, "
            f"{tally.tokens_each:.1f} tokens a verification")
    speedup = tally.speedup
    if speedup is None:
        reporter.note(text)
    elif speedup > 1:
        reporter.note(f"{text}: about {speedup:.1f} times as fast as without it")
    else:
        reporter.note(f"{text}: it did not pay, plain decoding would have been about {1 / speedup:.1f} times as fast")
