"""How likely another model finds each text: evaluation's scoring by the sliding protocol, prompts read but not counted.

End-of-text stands before each document, its prompt follows, then the text; windows overlap, every token of the text
counts once and sees what of all this the context holds. Prompt and text are encoded apart, as the sampler joined them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.evaluation.perplexity import BATCH_TOKENS
from gpt2cli.evaluation.protocols import Protocol, settle
from gpt2cli.evaluation.scoring import Scorer
from gpt2cli.quality.documents import Text
from gpt2cli.quality.uncertainty import Estimate, Resampling, ratio
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.open_model import ModelChoice, OpenModel, open_model


@dataclass(frozen=True)
class Likelihood:
    """Each document's nll in nats, its tokens and bytes, without its prompt: [D] each."""

    nll_D: np.ndarray
    tokens_D: np.ndarray
    bytes_D: np.ndarray

    def nats_per_token(self, resampling: Resampling) -> Estimate:
        """Return the summed nll over the summed tokens."""
        return ratio(self.nll_D, self.tokens_D, resampling)

    def perplexity(self, resampling: Resampling) -> Estimate:
        """Return exp of nats a token: of all documents together, not a mean of theirs."""
        return ratio(self.nll_D, self.tokens_D, resampling, exponential)

    def bits_per_byte(self, resampling: Resampling) -> Estimate:
        """Return the summed nll in bits over the summed bytes of UTF-8, which compares any two models."""
        return ratio(self.nll_D / np.log(2), self.bytes_D, resampling)


class Judge:
    """A model that scores sets of texts. Raises what open_model and settle raise."""

    def __init__(self, choice: ModelChoice, context: int | None, stride: int | None, reporter: Reporter) -> None:
        self._opened: OpenModel = open_model(choice, reporter)
        self.protocol: Protocol = settle("sliding", self._opened.shape.n_ctx, context, stride)
        self._reporter = reporter

    def score(self, texts: Sequence[Text]) -> Likelihood:
        """Return the likelihood of every text given its prompt. Raises BadInput and Interrupted as Scorer.score."""
        encoder, protocol = self._opened.encoder, self.protocol
        prompts = [encoder.encode(text.prompt) for text in texts]
        bodies = [encoder.encode(text.text) for text in texts]

        def documents() -> Iterator[list[np.ndarray]]:
            # a prompt with nothing after it is not worth reading
            yield from ([prompt, body] if len(body) else [] for prompt, body in zip(prompts, bodies, strict=True))

        scorer = Scorer(self._opened.model, self._opened.vocabulary.eot, protocol,
                        max(BATCH_TOKENS, protocol.context))
        total = sum(len(prompt) + len(body) for prompt, body in zip(prompts, bodies, strict=True) if len(body))
        nll = np.zeros(len(texts))
        for window in scorer.score(documents(), self._reporter, total):
            begin = protocol.has_bos + len(prompts[window.document])
            counted = window.nll_nats[max(0, begin - window.first) :]
            nll[window.document] += float(counted.sum(dtype=np.float64))
        return Likelihood(nll, np.array([len(body) for body in bodies], dtype=np.float64),
                          np.array([len(text.text.encode()) for text in texts], dtype=np.float64))

    def as_fields(self) -> dict[str, Any]:
        """Return the JSON object of a record's `model`."""
        source = self._opened.source
        return {"run": source.run or source.directory.resolve().name, "step": source.step, "tokens": source.tokens,
                "n_params": self._opened.shape.n_params, "dtype": self._opened.dtype,
                "model_sha256": self._opened.sha256, "tokenizer_sha256": self._opened.vocabulary.sha256,
                "protocol": self.protocol.as_fields(), "prompt": "read before the text, not counted"}


def exponential(nats: np.ndarray) -> np.ndarray:
    """Return e to the power of each; infinity beyond what a float holds, which an estimate calls not defined."""
    with np.errstate(over="ignore"):
        return np.exp(nats)
