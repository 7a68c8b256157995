"""What the GPT-2 paper printed: the numbers that a preset shows beside its own.

Radford, Wu, Child, Luan, Amodei and Sutskever, "Language Models are Unsupervised Multitask Learners", 2019: Table 3 and
section 3. Sizes are called as the paper calls them, though its parameter counts are off (see gpt2cli.sizes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

SIZES = ("117M", "345M", "762M", "1542M")
"""The four models, by the paper's names."""


@dataclass(frozen=True)
class Published:
    """One result: what it is of, the metric and its unit, the value of each model that has one."""

    data: str
    metric: str
    values: Mapping[str, float]

    def as_fields(self) -> dict[str, float]:
        """Return {size: value} for a record, small first."""
        return {size: self.values[size] for size in SIZES if size in self.values}


def _row(data: str, metric: str, *values: float) -> Published:
    return Published(data, metric, MappingProxyType(dict(zip(SIZES, values, strict=True))))


def _largest(data: str, metric: str, value: float) -> Published:
    return Published(data, metric, MappingProxyType({"1542M": value}))


PUBLISHED: Mapping[str, Published] = MappingProxyType({
    "lambada-ppl": _row("LAMBADA", "perplexity", 35.13, 15.60, 10.87, 8.63),
    "lambada-acc": _row("LAMBADA", "accuracy, %", 45.99, 55.48, 60.12, 63.24),
    "cbt-cn": _row("Children's Book Test, common nouns", "accuracy, %", 87.65, 92.35, 93.45, 93.30),
    "cbt-ne": _row("Children's Book Test, named entities", "accuracy, %", 83.4, 87.1, 88.0, 89.05),
    "wikitext2": _row("WikiText-2", "perplexity a word", 29.41, 22.76, 19.93, 18.34),
    "ptb": _row("Penn Treebank", "perplexity a word", 65.85, 47.33, 40.31, 35.76),
    "enwik8": _row("enwik8", "bits a byte", 1.16, 1.01, 0.97, 0.93),
    "text8": _row("text8", "bits a character", 1.17, 1.06, 1.02, 0.98),
    "wikitext103": _row("WikiText-103", "perplexity a word", 37.50, 26.37, 22.05, 17.48),
    "1bw": _row("One Billion Words", "perplexity a word", 75.20, 55.72, 44.575, 42.16),
    "lambada-acc-plain": _largest("LAMBADA", "accuracy, %", 52.66),
    "winograd": _largest("Winograd schemas, 273", "accuracy, %", 70.70),
    "coqa": _largest("CoQA, development set", "F1, %", 55.0),
    "cnn-dm-rouge1": _largest("CNN and Daily Mail, TL;DR:", "ROUGE-1 F1, %", 29.34),
    "cnn-dm-rouge2": _largest("CNN and Daily Mail, TL;DR:", "ROUGE-2 F1, %", 8.27),
    "cnn-dm-rougeL": _largest("CNN and Daily Mail, TL;DR:", "ROUGE-L F1, %", 26.58),
    "wmt14-en-fr": _largest("WMT-14 English to French", "BLEU", 5.0),
    "wmt14-fr-en": _largest("WMT-14 French to English", "BLEU", 11.5),
    "natural-questions": _largest("Natural Questions", "exact match, %", 4.1),
})
"""Every published zero-shot number, by what a preset calls it."""


def beside_published(keys: Mapping[str, str], metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return published rows, each with the own number in its unit. keys: metric -> key of PUBLISHED."""
    rows = []
    for metric, key in keys.items():
        found, value = PUBLISHED[key], metrics[metric]["value"]
        own = value if value is None or not found.metric.endswith("%") else 100 * value
        rows.append({"metric": metric, "data": found.data, "unit": found.metric, "own": own,
                     "paper": found.as_fields()})
    return rows
