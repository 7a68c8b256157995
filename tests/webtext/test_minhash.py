"""Signatures and bands against exact Jaccard similarities of real text; shingles against their definition."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from near_documents import edited, jaccard, real_words

from gpt2cli.webtext import shingles
from gpt2cli.webtext.dedup_profiles import DEDUP_PROFILES
from gpt2cli.webtext.minhash import MinHasher, band_keys, similarities
from gpt2cli.webtext.shingles import Shingler, composed, text_digest

PAIRS = 400


@pytest.mark.parametrize("profile_name", ["openwebtext", "fineweb"])
@pytest.mark.parametrize("target", [0.6, 0.7, 0.8, 0.9])
def test_recall_is_that_of_the_theory(profile_name: str, target: float) -> None:
    """Recall over pairs of known similarity: within 2 % of theory, or within the luck of so few pairs (4 sigma)."""
    profile = DEDUP_PROFILES[profile_name]
    words, draw = real_words(), random.Random(int(target * 10))
    pairs, exact = [], []
    while len(pairs) < PAIRS:
        start = draw.randrange(len(words) - 100)
        one = words[start : start + 100]
        other = edited(one, max(1, round(96 * (1 - target) / (5 * (1 + target)))), draw)
        similarity = jaccard(one, other)
        if abs(similarity - target) < 0.04:
            pairs.append((one, other))
            exact.append(similarity)
    hasher = MinHasher(profile)
    signatures = np.array([[hasher.signature(" ".join(text)) for text in pair] for pair in pairs])
    ours, theirs = signatures[:, 0], signatures[:, 1]
    estimates = similarities(ours, theirs)
    shared = (band_keys(ours, profile) == band_keys(theirs, profile)).any(axis=1)
    found = np.mean(shared & (estimates > profile.similarity))
    theory = np.mean([profile.candidate_probability(value) for value in exact])
    assert abs(found - theory) < max(0.02, 4 * np.sqrt(theory * (1 - theory) / PAIRS))
    errors = estimates - exact
    bound = np.sqrt(np.mean([value * (1 - value) for value in exact]) / profile.values)
    assert abs(errors.mean()) < 4 * bound / np.sqrt(PAIRS) and 0.8 * bound < errors.std() < 1.2 * bound


def test_strangers_look_strange() -> None:
    words, hasher = real_words(), MinHasher(DEDUP_PROFILES["openwebtext"])
    signatures = np.array([hasher.signature(" ".join(words[at : at + 50])) for at in range(0, 10_000, 50)])
    for number in range(1, len(signatures)):
        near = similarities(signatures[number:], signatures[number - 1]) > 0.3
        for place in np.flatnonzero(near):
            one, other = (words[50 * at : 50 * at + 50] for at in (number - 1, number + place))
            assert jaccard(one, other) > 0.15


@given(st.lists(st.sampled_from(["one", "two", "Three", "ß", "中文"]), max_size=14), st.integers(1, 6))
def test_shingles_are_the_runs_of_n_words(words: list[str], n: int) -> None:
    text = " ".join(words)
    parts = [word for part in words for word in (part if part == "中文" else [part.lower()])]
    found = [value for block in Shingler(n).shingles(text) for value in block.tolist()]
    runs = [tuple(parts[at : at + n]) for at in range(len(parts) - n + 1)] or ([tuple(parts)] if parts else [])
    assert len(found) == len(runs)
    assert len(set(found)) == len(set(runs))
    assert len({(value, run) for value, run in zip(found, runs, strict=True)}) == len(set(runs))


@given(st.text(st.sampled_from("ab \n_é\u0301中ก1"), max_size=60), st.integers(1, 9))
@example("a" * 40, 3)
def test_long_texts_are_cut_between_words(text: str, size: int) -> None:
    whole = np.concatenate([np.empty(0, np.uint64), *Shingler(2).shingles(text)])
    digest = text_digest(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingles, "SLICE", size)
        assert text_digest(text) == digest
        cut = np.concatenate([np.empty(0, np.uint64), *Shingler(2).shingles(text)])
        assert np.array_equal(cut, whole)
        patch.setattr(shingles, "LONGEST_RUN", 2)
        assert "".join(shingles.slices(text.replace("\u0301", ""))) == text.replace("\u0301", "")


def test_forgotten_words_have_the_same_hash_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(real_words()[:500]) + " " + "long" * 50
    whole = np.concatenate(list(Shingler(3).shingles(text)))
    monkeypatch.setattr(shingles, "MOST_WORDS", 7)
    shingler = Shingler(3)
    assert np.array_equal(np.concatenate(list(shingler.shingles(text))), whole)
    assert len(shingler._hashes) <= 7


@given(st.text(max_size=40))
def test_the_digest_is_of_the_words_between_white_space(text: str) -> None:
    assert text_digest(text) == text_digest(" ".join(composed(text).split()))
    assert text_digest(text) != text_digest(text + "x")


def test_signatures_do_not_change_between_versions() -> None:
    """Signature files outlive the program that wrote them: these numbers may only change with the file's schema."""
    signature = MinHasher(DEDUP_PROFILES["openwebtext"]).signature("The quick brown fox jumps over the lazy dog.")
    assert signature is not None and signature.dtype == np.uint32
    assert signature[:4].tolist() == [852810761, 1256623794, 674270033, 141639338]
    assert text_digest("a  b").hex() == "acc9227cc02e5f5c13e74125bce89499"
