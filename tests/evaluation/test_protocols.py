"""What a protocol's name settles, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.evaluation.protocols import NAMED, settle
from gpt2cli.evaluation.windows import LAST_WORD_WINDOW, WINDOWS


def test_the_default_is_the_models_context_and_half_of_it() -> None:
    protocol = settle("sliding", 1024)
    assert (protocol.name, protocol.context, protocol.stride) == ("sliding", 1024, 512)
    assert settle("sliding", 1024, 7).stride == 3
    assert settle("sliding", 1024, 1).stride == 1
    fields = protocol.as_fields()
    assert fields["eot_scored"] is False
    assert "each document" in fields["bos"]
    assert fields["endoftext_in_text"] == "plain text"


def test_every_row_settles_and_has_windows() -> None:
    for name, row in NAMED.items():
        protocol = settle(name, 1024)
        assert protocol.name == name
        assert protocol.has_bos == row.bos
        assert row.windows in {*WINDOWS, LAST_WORD_WINDOW}


def test_the_fields_two_peers_are_matched_in() -> None:
    harness, docs = settle("harness", 64), settle("hf-docs", 64)
    assert (harness.has_bos, harness.special, harness.stride) == (True, True, 64)
    assert (docs.has_bos, docs.special, docs.stride) == (False, True, 32)
    assert settle("disjoint", 64).stride == 64
    assert settle("sliding", 64, bos=False).bos.startswith("none")


@pytest.mark.parametrize(("name", "given", "says"), [
    ("sliding", {"context": 9}, "does not fit the model, which has 8 positions"),
    ("sliding", {"context": 0}, "does not fit"),
    ("sliding", {"context": 4, "stride": 5}, "tokens would go unscored"),
    ("sliding", {"context": 4, "stride": 0}, "tokens would go unscored"),
    ("harness", {"stride": 4}, "move on by the context"),
    ("disjoint", {"stride": 4}, "move on by the context"),
    ("harness", {"bos": False}, "--no-bos is not harness"),
    ("hf-docs", {"bos": True}, "--bos is not hf-docs"),
    ("hf-docs", {"context": 1}, "scores nothing"),
    ("nothing", {}, "choose sliding, disjoint, harness, hf-docs"),
])
def test_what_a_protocol_refuses(name: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageFault, match=says):
        settle(name, 8, **given)
