"""A safetensors header is anybody's: what it claims is refused by name, soon, and without being computed."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from gpt2cli.errors import BadInput
from gpt2cli.records.safetensors_layout import check_safetensors


def file(entry: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps({"a": entry}).encode()
    return len(text).to_bytes(8, "little") + text + data


def check(content: bytes) -> int:
    return check_safetensors(io.BytesIO(content), "x", len(content))


def test_a_sound_file() -> None:
    assert check(file({"dtype": "F16", "shape": [2, 1], "data_offsets": [0, 4]}, bytes(4))) == 1
    assert check(file({"dtype": "F32", "shape": [0, 9], "data_offsets": [0, 0]})) == 1


@pytest.mark.parametrize("shape", [[2**64 - 1], [0, 2**64 - 1], [-1], [1.0], [True], ["1"], "11", {"0": 1}, None,
                                   [2**62] * 1_000_000, [1] * 65])
def test_shapes_that_no_tensor_has(shape: Any) -> None:
    """The product of the million would take minutes."""
    with pytest.raises(BadInput, match=r"x: .* tensor 'a'"):
        check(file({"dtype": "F16", "shape": shape, "data_offsets": [0, 2]}, bytes(2)))


@pytest.mark.parametrize(("start", "words"), [
    (bytes(8), "cut short or is no safetensors"), ((2**63).to_bytes(8, "little"), "claims 9,223,372,036,854,775,808"),
    ((99).to_bytes(8, "little") + b"{}", "claims 99 bytes"),
    ((200_005).to_bytes(8, "little") + b'{"a":' + b"[" * 200_000, "nested too deeply"),
])
def test_headers_that_are_none(start: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        check(start)
