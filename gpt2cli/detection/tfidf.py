"""TF-IDF of words and pairs of words, and a logistic regression on it: only numpy, for a detector that was trained.

The same numbers as scikit-learn's TfidfVectorizer(ngram_range=(1, 2)) and LogisticRegression.decision_function: text
in lower case, a word is two word characters or more, tf times smooth idf, and the whole brought to length 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

_WORD = re.compile(r"(?u)\b\w\w+\b")


@dataclass(frozen=True)
class TfidfModel:
    """Terms (a word, or two with a space between), and of each its idf and coefficient; positive says generated."""

    terms: Sequence[str]
    idf: np.ndarray
    coefficients: np.ndarray
    intercept: float

    @cached_property
    def _places(self) -> dict[str, int]:
        return {term: place for place, term in enumerate(self.terms)}

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the log-odds (fp64) that each text was generated, for as many of one kind as of the other."""
        return np.array([self._score(text) for text in texts], dtype=np.float64)

    def _score(self, text: str) -> float:
        found = [(place, count) for term, count in terms_of(text).items()
                 if (place := self._places.get(term)) is not None]
        if not found:
            return self.intercept
        places, counts = np.array(found).T
        weights = counts * self.idf[places]
        return float(weights @ self.coefficients[places] / np.sqrt(weights @ weights)) + self.intercept


def terms_of(text: str) -> Counter[str]:
    """Return how often each word and each pair of neighbours is in a text."""
    words = _WORD.findall(text.lower())
    return Counter(words) + Counter(f"{a} {b}" for a, b in pairwise(words))
