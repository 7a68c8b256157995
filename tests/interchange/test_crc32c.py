"""The checksum against published vectors and against the definition, a bit at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.interchange.crc32c import crc32c, masked_crc32c


def by_definition(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(("data", "crc"), [
    (b"123456789", 0xE3069283),                # the check value of every catalogue of CRCs
    (bytes(32), 0x8A9136AA),                   # RFC 3720 B.4
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (b"", 0),
])
def test_published_vectors(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


@pytest.mark.parametrize("length", [1, 2047, 2048, 2049, 6001, 40_000])
def test_lanes_are_joined_as_the_definition_joins_bytes(length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length, np.uint8)
    assert crc32c(data) == by_definition(data.tobytes())


def test_more_than_one_chunk_of_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt2cli.interchange.crc32c._CHUNK_LANES", 3)
    data = np.random.default_rng(0).integers(0, 256, 20 * 2048 + 77, np.uint8)
    assert crc32c(data) == by_definition(data.tobytes())


@given(st.binary(max_size=5000))
@settings(max_examples=30, deadline=None)
def test_any_bytes(data: bytes) -> None:
    assert crc32c(data) == by_definition(data)


def test_mask_is_leveldbs() -> None:
    crc = crc32c(b"foo")
    masked = masked_crc32c(b"foo")
    assert masked != crc
    turned = (masked - 0xA282EAD8) & 0xFFFFFFFF  # Unmask in leveldb's util/crc32c.h
    assert ((turned >> 17) | (turned << 15)) & 0xFFFFFFFF == crc
