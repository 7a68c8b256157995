"""Our TF-IDF and decision function against scikit-learn's own, from the stored file and without scikit-learn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from gpt2cli.detection.calibration import Platt
from gpt2cli.detection.detector import Detector
from gpt2cli.detection.detector_file import encode_detector, read_detector
from gpt2cli.detection.fit_tfidf import CS, MAX_TERMS, MIN_DOCUMENTS, fit_tfidf
from gpt2cli.detection.tfidf import terms_of
from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.reporter import Silent

STRANGE = ["", " \n", "Ünïcode ΣΑΣ İstanbul ß _under_ don't a b c x1", "日本語 文字 \u0301\u200d", "\ufffd\x00\x1c"]


def passages(size: int = 30) -> list[str]:
    words = " ".join(topics[name] for name in sorted(topics)).split()
    return [" ".join(words[at : at + size]) for at in range(0, 400 * size, size)]


TEXTS = passages()
LABELS = np.array([number % 2 for number in range(len(TEXTS))])
GENERATED = [text if label == 0 else " ".join(sorted(text.split())) for text, label in zip(TEXTS, LABELS, strict=True)]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fitted = fit_tfidf(GENERATED[:300], LABELS[:300], GENERATED[300:], LABELS[300:], Silent())
    scores = np.array([0.0, 1.0])
    detector = Detector("tfidf", None, Platt(1.0, 0.0), scores, scores, frozenset(), fitted.model)
    path = tmp_path_factory.mktemp("detector") / "d"
    path.write_bytes(encode_detector(detector))
    return path


def by_scikit_learn() -> tuple[TfidfVectorizer, LogisticRegression]:
    """OpenAI's baseline.py by its description, C chosen on the validation part."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=MIN_DOCUMENTS, max_features=MAX_TERMS)
    features, unseen = vectorizer.fit_transform(GENERATED[:300]), vectorizer.transform(GENERATED[300:])
    models = [LogisticRegression(C=c, solver="liblinear").fit(features, LABELS[:300]) for c in CS]
    return vectorizer, max(models, key=lambda model: model.score(unseen, LABELS[300:]))


def test_the_stored_file_predicts_as_scikit_learn(stored: Path) -> None:
    vectorizer, model = by_scikit_learn()
    texts = GENERATED + TEXTS + STRANGE
    ours = read_detector(str(stored)).tfidf
    assert ours is not None
    theirs = model.predict_proba(vectorizer.transform(texts))[:, 1]
    assert np.abs(1 / (1 + np.exp(-ours.score(texts))) - theirs).max() < 1e-12
    assert np.ptp(theirs) > 0.5


def test_the_stored_file_needs_no_scikit_learn(stored: Path) -> None:
    program = """
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sklearn", "scipy", "torch"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from gpt2cli.detection.detector_file import read_detector
print(json.dumps(read_detector(sys.argv[1]).tfidf.score(json.load(sys.stdin)).tolist()))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", program, str(stored)], input=json.dumps(GENERATED[:50]), text=True,
                            capture_output=True, check=True, env=environment)
    vectorizer, model = by_scikit_learn()
    expected = model.decision_function(vectorizer.transform(GENERATED[:50]))
    assert np.abs(np.array(json.loads(result.stdout)) - expected).max() < 1e-12


@given(st.text(max_size=200))
def test_terms_are_those_of_scikit_learn(text: str) -> None:
    analyse = TfidfVectorizer(ngram_range=(1, 2)).build_analyzer()
    assert sorted(terms_of(text).elements()) == sorted(analyse(text))


def test_no_common_word_and_no_scikit_learn_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no word is in 5 of the 2 texts"):
        fit_tfidf(["one text", "another"], np.array([0, 1]), ["a"], np.array([0]), Silent())
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(Gpt2Error, match=r"gpt2cli\[detect\]"):
        fit_tfidf(["one text", "another"], np.array([0, 1]), ["a"], np.array([0]), Silent())
