"""Window arithmetic: what is scored, with how much before it, and never beyond the document."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from gpt2cli.evaluation.windows import Window, harness_windows, hf_docs_windows, sliding_windows


def targets(count: int) -> Callable[[int], int]:
    return lambda asked: min(asked, count)


@given(st.integers(0, 300), st.integers(1, 40), st.data())
def test_every_target_is_scored_exactly_once_with_its_context(count: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    scored: list[int] = []
    for window in sliding_windows(targets(count), context, stride):
        assert 0 <= window.start < window.stop <= count
        assert window.stop - window.start <= context
        assert 1 <= window.scored == window.counted <= window.stop - window.start
        now = range(window.stop + 1 - window.scored, window.stop + 1)
        for target in now:
            assert target - window.start >= min(target, context - stride + 1)
        scored += now
    assert scored == list(range(1, count + 1))


def test_a_document_within_the_context_is_one_window() -> None:
    assert list(sliding_windows(targets(5), 8, 4)) == [Window(0, 5, 5, 5)]
    assert list(sliding_windows(targets(8), 8, 4)) == [Window(0, 8, 8, 8)]
    assert list(sliding_windows(targets(0), 8, 4)) == []


def test_windows_move_by_the_stride() -> None:
    assert list(sliding_windows(targets(13), 8, 4)) == [Window(0, 8, 8, 8), Window(4, 12, 4, 4), Window(8, 13, 1, 1)]


def test_a_document_is_read_no_further_than_the_next_window() -> None:
    asked: list[int] = []

    def reach(count: int) -> int:
        asked.append(count)
        return count  # a document without end

    for rule in (sliding_windows, harness_windows, hf_docs_windows):
        windows = rule(reach, 8, 8)
        for _ in range(3):
            next(windows)
        assert max(asked) <= 25
        asked.clear()


@given(st.integers(0, 200), st.integers(1, 40))
def test_harness_windows_are_lm_evals(count: int, context: int) -> None:
    ids = list(range(100, 100 + count))
    sequence = [0, *ids]
    theirs = []
    for before, continuation in map(make_disjoint_window, get_rolling_token_windows(ids, 0, context, 1)):
        theirs.append(((before + continuation)[-(context + 1) :][:-1], continuation))
    ours = [(sequence[w.start : w.stop], sequence[w.stop + 1 - w.scored : w.stop + 1])
            for w in harness_windows(targets(count), context, context)]
    assert ours == theirs


@given(st.integers(1, 200), st.integers(2, 40), st.data())
def test_hf_docs_windows_are_the_loops(length: int, context: int, data: st.DataObject) -> None:
    """The arithmetic of the documentation's loop, on indices instead of tensors."""
    stride = data.draw(st.integers(1, context))
    ours = [(w.start, list(range(w.stop + 1 - w.scored, w.stop + 1)), w.counted)
            for w in hf_docs_windows(targets(length - 1), context, stride)]
    theirs = []
    ended = 0
    for begin in range(0, length, stride):
        end = min(begin + context, length)
        labels = [index if index >= ended else -100 for index in range(begin, end)]
        shifted = [label for label in labels[1:] if label != -100]
        counted = sum(label != -100 for label in labels) - 1
        ended = end
        if counted:
            theirs.append((begin, shifted, counted))
        if end == length:
            break
    assert ours == theirs


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_hf_docs_counts_one_token_too_few_in_later_windows_that_overlap(stride: int) -> None:
    first, *later = hf_docs_windows(targets(30), 8, stride)
    assert first == Window(0, 7, 7, 7)
    assert all(window.counted == window.scored - (stride < 8) for window in later)
