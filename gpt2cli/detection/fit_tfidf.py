"""OpenAI's detector baseline, fitted by scikit-learn (extra `detect`).

Settings of openai/gpt-2-output-dataset: words and pairs, min_df 5, at most 2^21 terms, liblinear, C from 1/64 to 64 by
accuracy on a validation part, no refit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2cli.detection.tfidf import TfidfModel
from gpt2cli.errors import BadInput, Gpt2Error, Interrupted
from gpt2cli.reporter import Reporter

MIN_DOCUMENTS = 5
MAX_TERMS = 1 << 21
CS = tuple(2.0**power for power in range(-6, 7))


@dataclass(frozen=True)
class TfidfFit:
    """A fitted model, the C it was fitted with, and its accuracy on the validation part."""

    model: TfidfModel
    c: float
    validation_accuracy: float


def fit_tfidf(texts: Sequence[str], labels: np.ndarray, validation: Sequence[str], validation_labels: np.ndarray,
              reporter: Reporter, cs: Sequence[float] = CS) -> TfidfFit:
    """Fit on `texts` (labels: 1 generated, 0 human) with the C that has the best accuracy on `validation`.

    Of equally good Cs the smallest is taken. Raises Gpt2Error without scikit-learn, BadInput when no term is in
    MIN_DOCUMENTS texts, Interrupted when asked to stop.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise Gpt2Error("training this detector needs scikit-learn: pip install 'gpt2cli[detect]'; "
                        "--method logprob needs none, nor does using a detector") from None
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=MIN_DOCUMENTS, max_features=MAX_TERMS)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:
        raise BadInput(f"no word is in {MIN_DOCUMENTS} of the {len(texts):,} texts to train on; give more texts, or "
                       "longer ones") from None
    validation_features = vectorizer.transform(validation)
    best: tuple[float, float, LogisticRegression] | None = None
    for number, c in enumerate(cs):
        if reporter.stopping():
            raise Interrupted
        reporter.progress(number, len(cs), "regularizations")
        model = LogisticRegression(C=c, solver="liblinear").fit(features, labels)
        accuracy = float(model.score(validation_features, validation_labels))
        if best is None or accuracy > best[0]:
            best = accuracy, c, model
    assert best is not None
    terms = [str(term) for term in vectorizer.get_feature_names_out()]
    fitted = TfidfModel(terms, np.asarray(vectorizer.idf_, dtype=np.float64),
                        np.asarray(best[2].coef_[0], dtype=np.float64), float(best[2].intercept_[0]))
    return TfidfFit(fitted, best[1], best[0])
