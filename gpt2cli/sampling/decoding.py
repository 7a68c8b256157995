"""How tokens are chosen and when a sample ends: every setting of decoding, and which of them go together."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2cli.errors import UsageFault

COLDEST = 1e-6
"""Below this temperature the most probable token is taken: logits divided by less may overflow fp32."""


@dataclass(frozen=True)
class Decoding:
    """temperature 0 takes the most probable token; None leaves a filter out.

    max_tokens, min_tokens: longest and shortest continuation; before min_tokens neither end-of-text nor a stop ends it.
    ignore_eot: end-of-text is a token like others. slide: go on beyond the context (see context.py).
    logprobs: log-probabilities are kept, and of so many most probable tokens besides; None: they are not.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int = 0
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    min_tokens: int = 0
    ignore_eot: bool = False
    slide: bool = False
    logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is taken and nothing is drawn."""
        return self.temperature < COLDEST

    @property
    def filtered(self) -> bool:
        """Whether some filter but temperature reshapes what is drawn from."""
        return not (self.top_k is None and self.top_p is None and self.min_p is None and self.typical_p is None)

    @property
    def penalised(self) -> bool:
        """Whether what was said already changes what is said next."""
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != (1.0, 0.0, 0.0)

    def check(self) -> None:
        """Raise UsageFault for settings that contradict each other."""
        if any(not stop for stop in self.stop):
            raise UsageFault("an empty --stop would stop before the first token")
        if self.min_tokens > self.max_tokens:
            raise UsageFault(f"--min-tokens {self.min_tokens} is more than --max-tokens {self.max_tokens}")


@dataclass(frozen=True)
class Beams:
    """Beam search: the width, and how finished hypotheses are judged.

    A hypothesis scores its summed log-probability over its length to the power of length_penalty: above 0 favours long
    ones. early_stopping: "yes" ends once `width` are finished, "no" when no going one would win at its present length,
    "never" when none could win at any length.
    """

    width: int
    length_penalty: float = 1.0
    early_stopping: str = "no"

    def check(self, decoding: Decoding, num_samples: int) -> None:
        """Raise UsageFault for settings that mean nothing in a search."""
        if num_samples > self.width:
            raise UsageFault(f"--num-samples {num_samples} of --beams {self.width}: a search has as many results as "
                             "beams; ask for more beams")
        if decoding.filtered or decoding.temperature not in (0.0, 1.0):
            raise UsageFault("--beams searches and draws nothing: leave temperature, top-k, top-p, min-p and typical-p "
                             "out")
        if decoding.slide:
            raise UsageFault("--beams compares texts within one context; leave --slide out")
