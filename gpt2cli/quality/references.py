"""Nearness to references: which text is measured against which, corpus BLEU (sacrebleu) and ROUGE (rouge-score).

ROUGE is rouge-score's F-measure with stemming, of its own tokens (lower-case ASCII letters and digits). Its longest
common subsequence is computed a row of bits at a step (Hyyro 2004) instead of pair by pair, to the same length.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, Gpt2Error, Interrupted
from gpt2cli.evaluation.text_metrics import bleu_counts
from gpt2cli.quality.bleu import bleu_of_counts
from gpt2cli.quality.documents import Text
from gpt2cli.quality.uncertainty import Estimate, Resampling, of_sums, ratio
from gpt2cli.reporter import Reporter

POSITION = "position"
ROUGE = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class Paired:
    """For each text its references, none where it has none; and how many references belong to no text."""

    references: list[list[str]]
    n_unused: int

    @property
    def n_paired(self) -> int:
        """Texts with a reference."""
        return sum(bool(some) for some in self.references)


def pair(texts: Sequence[Text], references: Sequence[Text], by: str) -> Paired:
    """Return the references of each text: those with its key, or the one at its position.

    Raises BadInput when the numbers of both differ and positions pair them, and when nothing has a partner.
    """
    if by == POSITION:
        if len(texts) != len(references):
            raise BadInput(f"{len(texts):,} texts and {len(references):,} references can't be paired by position; "
                           "give one for each, or --pair FIELD")
        return Paired([[reference.text] for reference in references], 0)
    by_key: dict[str | None, list[str]] = {}
    for reference in references:
        by_key.setdefault(reference.key, []).append(reference.text)
    found = Paired([by_key.get(text.key, []) for text in texts],
                   sum(len(by_key[key]) for key in by_key.keys() - {text.key for text in texts}))
    if not found.n_paired:
        raise BadInput(f"no text has a reference with the same `{by}`")
    return found


@dataclass(frozen=True)
class Nearness:
    """counts_D10: what corpus BLEU adds up (matches and n-grams of orders 1 to 4, both lengths). rouge_D: F, by kind.

    paired_D: bool, the documents with a reference; the others' rows are 0.
    """

    paired_D: np.ndarray
    counts_D10: np.ndarray
    rouge_D: dict[str, np.ndarray]

    def bleu(self, resampling: Resampling) -> Estimate:
        """Return corpus BLEU by sacrebleu's defaults (13a tokens, case kept, exponential smoothing), 0 to 100."""
        return of_sums(self.counts_D10, self.paired_D, _corpus_bleu, resampling)

    def rouge(self, kind: str, resampling: Resampling) -> Estimate:
        """Return the mean over documents of ROUGE's F, 0 to 1."""
        return ratio(self.rouge_D[kind], self.paired_D.astype(np.float64), resampling)

    def sentence_bleu(self) -> np.ndarray:
        """Return each document's BLEU by sacrebleu's sentence_bleu defaults, float64 [D]."""
        return _bleu(self.counts_D10, effective_order=True)


def compare(texts: Sequence[Text], paired: Paired, reporter: Reporter) -> Nearness:
    """Measure every text that has references against them: of several, ROUGE takes the best, BLEU the best n-grams.

    Raises Gpt2Error without sacrebleu or rouge-score, Interrupted when asked to stop.
    """
    n, tokens = len(texts), _RougeTokens()
    counts, rouge = np.zeros((n, 10)), {kind: np.zeros(n) for kind in ROUGE}
    for number, (text, references) in enumerate(zip(texts, paired.references, strict=True)):
        if reporter.stopping():
            raise Interrupted
        if not references:
            continue
        counts[number] = bleu_counts(text.text, references, {})
        scores = [_rouge(tokens.of(text.text), tokens.of(reference)) for reference in references]
        for kind in ROUGE:
            rouge[kind][number] = max(score[kind] for score in scores)
        reporter.progress(number + 1, n, "documents", measure="BLEU and ROUGE")
    return Nearness(np.array([bool(some) for some in paired.references]), counts, rouge)


def _corpus_bleu(sums_R10: np.ndarray) -> np.ndarray:
    return _bleu(sums_R10, effective_order=False)


def _bleu(sums: np.ndarray, *, effective_order: bool) -> np.ndarray:
    return bleu_of_counts(sums[:, :4], sums[:, 4:8], sums[:, 8], sums[:, 9], effective_order=effective_order)


class _RougeTokens:
    """rouge-score's tokens with the Porter stemmer, which is slow, so that each word is stemmed once."""

    def __init__(self) -> None:
        try:
            from nltk.stem.porter import PorterStemmer
            from rouge_score import tokenize
        except ImportError:
            raise Gpt2Error("ROUGE needs rouge-score, which is not installed: pip install 'gpt2cli[tasks]'") from None
        self._tokenize = tokenize.tokenize
        stemmer = PorterStemmer()
        self.stem = functools.lru_cache(1 << 18)(stemmer.stem)

    def of(self, text: str) -> list[str]:
        """Return a text's tokens."""
        return list(self._tokenize(text, self))


def _rouge(prediction: list[str], reference: list[str]) -> dict[str, float]:
    scorer = _scorer()
    found = scorer.score(reference, prediction)
    common = common_length(reference, prediction)
    return {"rouge1": float(found["rouge1"].fmeasure), "rouge2": float(found["rouge2"].fmeasure),
            "rougeL": 2 * common / (len(prediction) + len(reference)) if prediction and reference else 0.0}


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2"], tokenizer=_Done())


class _Done:
    """Passes tokens on where rouge-score would make them."""

    def tokenize(self, text: list[str]) -> list[str]:
        """Return the tokens given."""
        return text


def common_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence: a row of its table is one whole number's bits."""
    places: dict[str, int] = {}
    for place, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << place
    full = (1 << len(a)) - 1
    row = full
    for item in b:
        here = row & places.get(item, 0)
        row = (row + here) | (row - here)
        row &= full
    return len(a) - row.bit_count()
