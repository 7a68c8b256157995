"""Window arithmetic: every token once, enough context, nothing beyond the document."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.errors import UsageFault
from gpt2cli.evaluation.sliding import Window, sliding_protocol, sliding_windows


@given(st.integers(0, 300), st.integers(1, 40), st.data())
def test_every_token_is_scored_exactly_once_with_its_context(n_tokens: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    scored: list[int] = []
    for window in sliding_windows(n_tokens, context, stride):
        assert 0 <= window.start < window.stop <= n_tokens
        assert window.stop - window.start <= context
        assert 1 <= window.scored <= window.stop - window.start
        targets = range(window.stop + 1 - window.scored, window.stop + 1)
        for target in targets:
            seen = target - window.start
            assert seen >= min(target, context - stride + 1)
        scored += targets
    assert scored == list(range(1, n_tokens + 1))


def test_a_document_within_the_context_is_one_window() -> None:
    assert list(sliding_windows(5, 8, 4)) == [Window(0, 5, 5)]
    assert list(sliding_windows(8, 8, 4)) == [Window(0, 8, 8)]
    assert list(sliding_windows(0, 8, 4)) == []


def test_windows_move_by_the_stride() -> None:
    assert list(sliding_windows(13, 8, 4)) == [Window(0, 8, 8), Window(4, 12, 4), Window(8, 13, 1)]


def test_the_default_is_the_models_context_and_half_of_it() -> None:
    protocol = sliding_protocol(1024, None, None)
    assert (protocol.name, protocol.context, protocol.stride) == ("sliding", 1024, 512)
    assert sliding_protocol(1024, 7, None).stride == 3
    assert sliding_protocol(1024, 1, None).stride == 1
    fields = protocol.as_fields()
    assert fields["eot_scored"] is False
    assert "each document" in fields["bos"]


@pytest.mark.parametrize(("context", "stride"), [(9, None), (0, None), (4, 5), (4, 0)])
def test_windows_that_would_miss_tokens_are_refused(context: int, stride: int | None) -> None:
    with pytest.raises(UsageFault):
        sliding_protocol(8, context, stride)
