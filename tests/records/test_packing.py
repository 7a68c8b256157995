"""What an index says of its packing is believed only in the form that the manual gives it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.errors import BadInput
from gpt2cli.records.packing import packed_context

PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["best-fit", "concatenate"])
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner)
                      | st.dictionaries(st.sampled_from(["method", "context"]), inner))


@pytest.mark.parametrize(("pack", "context"), [
    ({"method": "concatenate", "context": None}, None), ({"method": "concatenate"}, None),
    ({"method": "best-fit", "context": 1024}, 1024),
])
def test_the_two_ways_to_pack(pack: dict[str, object], context: int | None) -> None:
    assert packed_context({"pack": pack}) == context


@pytest.mark.parametrize("pack", [{"method": "best-fit", "context": None}, {"method": "best-fit", "context": True},
                                  {"method": "best-fit", "context": 0}, {"method": "concatenate", "context": 8}, None])
def test_anything_else_is_refused(pack: object) -> None:
    with pytest.raises(BadInput, match="pack again"):
        packed_context({"pack": pack})


@given(VALUES)
def test_only_our_error_comes_of_it(pack: object) -> None:
    try:
        context = packed_context({"pack": pack})
    except BadInput:
        return
    assert context is None or context > 0
