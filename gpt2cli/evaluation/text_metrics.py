"""Generated text against what is right: exact match, F1 over words, BLEU, chrF, TER (sacrebleu), ROUGE (rouge-score).

Each takes (prediction, references, options of its metric_list entry) and returns an item's value: a number, or the
counts that a corpus measure adds up. Sources: lm_eval 0.4.13 (exact_match), the evaluation scripts of SQuAD 1.1
(Rajpurkar et al. 2016) and CoQA (Reddy et al. 2019), Papineni et al. 2002, Post 2018, Lin 2004.
"""

from __future__ import annotations

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.evaluation.bounded_patterns import replace_pattern

References = Sequence[str]
Options = Mapping[str, Any]
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_DIGITS = str.maketrans("", "", string.digits)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def exact_match(prediction: str, references: References, options: Options) -> float:
    """Return 1 if the prediction equals one reference, after what `options` ignore in both, else 0."""
    shown = _ignored(prediction, options)
    return float(any(shown == _ignored(reference, options) for reference in references))


def _ignored(text: str, options: Options) -> str:
    for pattern in options.get("regexes_to_ignore") or ():
        text = replace_pattern(text, pattern, "", 0, lambda length: None)
    if options.get("ignore_case"):
        text = text.lower()
    if options.get("ignore_punctuation"):
        text = text.translate(_PUNCTUATION)
    if options.get("ignore_numbers"):
        text = text.translate(_DIGITS)
    return text


def normalised_words(text: str) -> list[str]:
    """Return the words of a text as SQuAD's and CoQA's scripts see them: lower case, no punctuation, no articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def word_f1(prediction: str, reference: str) -> float:
    """Return the F1 of normalised words, as bags; where one side has none: 1 if both have none, else 0."""
    guess, gold = normalised_words(prediction), normalised_words(reference)
    if not guess or not gold:
        return float(guess == gold)
    both = sum((Counter(guess) & Counter(gold)).values())
    return 2 * both / (len(guess) + len(gold))


def squad_em(prediction: str, references: References, options: Options) -> float:
    """Return 1 if the normalised words equal those of one reference, else 0."""
    guess = normalised_words(prediction)
    return float(any(guess == normalised_words(reference) for reference in references))


def squad_f1(prediction: str, references: References, options: Options) -> float:
    """Return the best F1 over the references."""
    return max(word_f1(prediction, reference) for reference in references)


def coqa_f1(prediction: str, references: References, options: Options) -> float:
    """Return CoQA's F1: of several people's answers each is left out once, and the best F1s over the rest averaged."""
    if len(references) == 1:
        return word_f1(prediction, references[0])
    found = [word_f1(prediction, reference) for reference in references]
    return sum(max(found[:left_out] + found[left_out + 1 :]) for left_out in range(len(found))) / len(found)


def bleu_counts(prediction: str, references: References, options: Options) -> tuple[int, ...]:
    """Return what corpus BLEU adds up: n-grams matched (1 to 4), n-grams there (1 to 4), both lengths."""
    score = _bleu().sentence_score(prediction, list(references))
    return (*(int(count) for count in score.counts), *(int(total) for total in score.totals), score.sys_len,
            score.ref_len)


def corpus_bleu(counts: Sequence[tuple[int, ...]]) -> float:
    """Return sacrebleu's default corpus BLEU (13a tokens, exponential smoothing), 0 to 100."""
    sums = [sum(column) for column in zip(*counts, strict=True)]
    return float(_bleu().compute_bleu(correct=sums[:4], total=sums[4:8], sys_len=sums[8], ref_len=sums[9],
                                      smooth_method="exp").score)


def text_pair(prediction: str, references: References, options: Options) -> tuple[str, tuple[str, ...]]:
    """Return the texts themselves, for a corpus measure whose counts sacrebleu keeps to itself."""
    return prediction, tuple(references)


def corpus_chrf(pairs: Sequence[tuple[str, tuple[str, ...]]], word_order: int = 0) -> float:
    """Return sacrebleu's corpus chrF (Popović 2015), 0 to 100; word_order 2: chrF++."""
    return float(_sacrebleu().corpus_chrf(*_streams(pairs), word_order=word_order).score)


def corpus_chrf_plus(pairs: Sequence[tuple[str, tuple[str, ...]]]) -> float:
    """Return sacrebleu's corpus chrF++, 0 to 100."""
    return corpus_chrf(pairs, word_order=2)


def ter_counts(prediction: str, references: References, options: Options) -> tuple[float, float]:
    """Return what corpus TER adds up: edits, and the mean length of the references."""
    score = _sacrebleu().sentence_ter(prediction, list(references))
    return float(score.num_edits), float(score.ref_length)


def corpus_ter(counts: Sequence[tuple[float, float]]) -> float:
    """Return corpus TER in percent (Snover et al. 2006); as sacrebleu, 100 for edits of empty references."""
    edits, length = (sum(column) for column in zip(*counts, strict=True))
    return 100 * (edits / length if length else float(edits > 0))


def _rouge(kind: str) -> Callable[[str, References, Options], float]:
    def measure(prediction: str, references: References, options: Options) -> float:
        scorer = _rouge_scorer(kind, bool(options.get("use_stemmer", True)))
        return float(scorer.score_multi(list(references), prediction)[kind].fmeasure)

    measure.__doc__ = f"Return rouge-score's {kind} F-measure, 0 to 1, the best over the references."
    return measure


TEXT_METRICS: dict[str, Callable[[str, References, Options], Any]] = {
    "exact_match": exact_match, "squad_em": squad_em, "squad_f1": squad_f1, "coqa_f1": coqa_f1,
    "bleu": bleu_counts, "chrf": text_pair, "chrf++": text_pair, "ter": ter_counts,
    **{kind: _rouge(kind) for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum")},
}
"""Name of a metric -> an item's value."""


def measure_text(name: str, prediction: str, references: References, options: Options, where: str) -> Any:
    """Return an item's value of one metric; raise BadInput, naming `where`, for a pattern that is wrong or too slow."""
    try:
        return TEXT_METRICS[name](prediction, references, options)
    except BadInput as error:
        raise BadInput(f"{where}: {name} {error}") from None


def _streams(pairs: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[list[str], list[list[str | None]]]:
    width = max(len(references) for _, references in pairs)
    padded = [[*references, *[None] * (width - len(references))] for _, references in pairs]
    return [prediction for prediction, _ in pairs], [list(stream) for stream in zip(*padded, strict=True)]


@functools.cache
def _bleu() -> Any:
    return _sacrebleu().BLEU(effective_order=True)


def _sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError:
        raise Gpt2Error("BLEU, chrF and TER need sacrebleu, which is not installed: pip install 'gpt2cli[tasks]'"
                        ) from None
    return sacrebleu


@functools.cache
def _rouge_scorer(kind: str, stemmer: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise Gpt2Error("ROUGE needs rouge-score, which is not installed: pip install 'gpt2cli[tasks]'") from None
    return RougeScorer([kind], use_stemmer=stemmer)
