"""All measures of one set of texts: their estimates by name, and each document's own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gpt2cli.errors import Interrupted
from gpt2cli.evaluation.measures import perplexity
from gpt2cli.quality import diversity, repetition
from gpt2cli.quality.documents import Text
from gpt2cli.quality.ngrams import count_ngrams
from gpt2cli.quality.references import ROUGE, Nearness, Paired, compare
from gpt2cli.quality.self_bleu import REFERENCES, SelfBleu, self_bleu
from gpt2cli.quality.uncertainty import Estimate, LeftOut, Resampling, of_left_out, ratio, share
from gpt2cli.quality.units import UnitIds
from gpt2cli.reporter import Reporter

if TYPE_CHECKING:
    from gpt2cli.quality.likelihood import Judge, Likelihood


@dataclass(frozen=True)
class Settings:
    """What the measures depend on besides the texts; self_bleu_references 0 leaves self-BLEU out."""

    distinct_at: int = diversity.DISTINCT_AT
    zipf_ranks: int = diversity.ZIPF_RANKS
    self_bleu_references: int = REFERENCES
    resampling: Resampling = field(default_factory=Resampling)


class SetOfTexts:
    """One set, measured. paired: the references of each text; judge: the model for likelihood; None: without."""

    def __init__(self, texts: Sequence[Text], units: UnitIds, settings: Settings, reporter: Reporter,
                 paired: Paired | None = None, judge: Judge | None = None) -> None:
        self._texts = texts
        self._settings = settings
        self._units = []
        for number, text in enumerate(texts):
            if reporter.stopping():
                raise Interrupted
            self._units.append(units.ids(text.text))
            reporter.progress(number + 1, len(texts), "documents", measure="units")
        self._orders = count_ngrams(self._units)
        self._nearness: Nearness | None = None if paired is None else compare(texts, paired, reporter)
        self._sentence_bleu = np.zeros(0) if self._nearness is None else self._nearness.sentence_bleu()
        self._likelihood: Likelihood | None = None if judge is None else judge.score(texts)
        n_references = settings.self_bleu_references
        self._self_bleu: SelfBleu | None = None
        if n_references:
            self._self_bleu = self_bleu(self._orders, n_references, settings.resampling.seed, reporter)
        self._loops = np.array([repetition.loop_length(document) for document in self._units], dtype=np.int64)
        self._seq_rep = [repetition.seq_rep(counts) for counts in self._orders]
        self._repeated = {span: np.array([repetition.n_repeated(document, span) for document in self._units])
                          for span in repetition.SPANS}

    @property
    def lengths_D(self) -> np.ndarray:
        """Units of each document."""
        return self._orders[0].sizes_D

    def facts(self) -> dict[str, Any]:
        """Return what the set is: counts, and the digest over its documents' digests, as eval-ppl's text_sha256."""
        digest = hashlib.sha256()
        for text in self._texts:
            digest.update(hashlib.sha256(text.text.encode()).digest())
        return {"n_documents": len(self._texts), "n_empty_documents": sum(not text.text for text in self._texts),
                "n_units": int(self.lengths_D.sum()), "n_bytes": sum(len(text.text.encode()) for text in self._texts),
                "n_too_short": {str(counts.order): int((counts.sizes_D == 0).sum()) for counts in self._orders},
                "n_ngrams": {str(counts.order): counts.n_grams for counts in self._orders},
                "n_distinct": {str(counts.order): len(counts.totals_G) for counts in self._orders},
                **({} if self._self_bleu is None else {"self_bleu_references": self._self_bleu.n_references}),
                "text_sha256": digest.hexdigest()}

    def estimates(self) -> dict[str, Estimate]:
        """Return every measure by name, in the order that people read them."""
        return {**self._lengths(), **self._diversity(), **self._repetition(), **self._likelihoods(),
                **self._nearnesses()}

    def _lengths(self) -> dict[str, Estimate]:
        return {"mean_length": self._mean(self.lengths_D, np.ones(len(self._texts)))}

    def _diversity(self) -> dict[str, Estimate]:
        size, words = self._settings.distinct_at, self._orders[0]
        found = {f"distinct_{counts.order}": self._left_out(diversity.distinct(counts), 1.0) for counts in self._orders}
        found |= {f"distinct_{counts.order}_at": self._left_out(diversity.distinct_at(counts, size), 1.0)
                  for counts in self._orders}
        found["vocabulary"] = self._left_out(diversity.vocabulary(words))
        found["zipf"] = self._left_out(diversity.zipf(words, self._settings.zipf_ranks))
        if self._self_bleu is not None:
            found["self_bleu"] = self._left_out(self._self_bleu.mean, 100.0)
        return found

    def _repetition(self) -> dict[str, Estimate]:
        found = {f"seq_rep_{counts.order}": self._mean(values, defined)
                 for counts, (values, defined) in zip(self._orders, self._seq_rep, strict=True)}
        found |= {f"rep_{span}": self._mean(repeated, self.lengths_D) for span, repeated in self._repeated.items()}
        found["loops"] = share(self._loops > 0, self.lengths_D > 0, self._settings.resampling.level)
        return found

    def _likelihoods(self) -> dict[str, Estimate]:
        scored, resampling = self._likelihood, self._settings.resampling
        if scored is None:
            return {}
        return {"nll_nats_per_token": scored.nats_per_token(resampling), "ppl": scored.perplexity(resampling),
                "bits_per_byte": scored.bits_per_byte(resampling)}

    def _nearnesses(self) -> dict[str, Estimate]:
        near, resampling = self._nearness, self._settings.resampling
        if near is None:
            return {}
        return {"bleu": near.bleu(resampling), **{kind: near.rouge(kind, resampling) for kind in ROUGE}}

    def _mean(self, sums: np.ndarray, weights: np.ndarray) -> Estimate:
        return ratio(sums.astype(np.float64), weights.astype(np.float64), self._settings.resampling)

    def _left_out(self, found: LeftOut, high: float = float("inf")) -> Estimate:
        return of_left_out(found, self._settings.resampling.level, 0.0, high)

    def document(self, number: int) -> dict[str, Any]:
        """Return one document's own measures; None where it has none."""
        text = self._texts[number]
        fields: dict[str, Any] = {
            "document": number, "id": hashlib.sha256(text.text.encode()).hexdigest(),
            "n_units": int(self.lengths_D[number]), "n_bytes": len(text.text.encode()),
            "n_distinct": {str(counts.order): int(counts.distinct_D[number]) for counts in self._orders},
        }
        for counts, (values, defined) in zip(self._orders, self._seq_rep, strict=True):
            fields[f"seq_rep_{counts.order}"] = float(values[number]) if defined[number] else None
        n = fields["n_units"]
        fields |= {f"rep_{span}": float(found[number]) / n if n else None for span, found in self._repeated.items()}
        fields["loop_length"] = int(self._loops[number])
        if self._self_bleu is not None:
            score = float(self._self_bleu.scores_D[number])
            fields["self_bleu"] = None if np.isnan(score) else score
        if (scored := self._likelihood) is not None:
            nll, tokens = float(scored.nll_D[number]), int(scored.tokens_D[number])
            fields |= {"nll_nats": nll, "n_tokens": tokens, "ppl": perplexity(nll, tokens)}
        if (near := self._nearness) is not None:
            there = bool(near.paired_D[number])
            fields["bleu"] = float(self._sentence_bleu[number]) if there else None
            fields |= {kind: float(near.rouge_D[kind][number]) if there else None for kind in ROUGE}
        return fields
