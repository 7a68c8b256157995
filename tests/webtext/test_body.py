from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from gpt2cli.webtext.body import BodyDecoder
from gpt2cli.webtext.outcomes import FetchFault

TEXT = b"<p>" + bytes(range(32, 127)) * 500


def decode(data: bytes, coding: str | None, max_bytes: int = 10**6, step: int = 777) -> bytes:
    decoder = BodyDecoder(coding, max_bytes)
    for start in range(0, len(data), step):
        decoder.feed(data[start:start + step])
        while decoder.hungry:
            assert decoder.step(500) <= 500
    return decoder.finish()


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(("data", "coding"), [
    (TEXT, None), (TEXT, "identity"), (gzip.compress(TEXT), "gzip"), (gzip.compress(TEXT), "X-GZIP"),
    (gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:]), "gzip"), (zlib.compress(TEXT), "deflate"),
    (raw_deflate(TEXT), "deflate"), (gzip.compress(TEXT) + b"\x00padding", "gzip"),
])
def test_codings(data: bytes, coding: str | None) -> None:
    assert decode(data, coding) == TEXT


def outcome(data: bytes, coding: str | None, max_bytes: int = 10**6) -> str:
    with pytest.raises(FetchFault) as caught:
        decode(data, coding, max_bytes)
    return caught.value.outcome


def test_faults() -> None:
    assert outcome(gzip.compress(TEXT)[:-9], "gzip") == "incomplete"
    assert outcome(b"no gzip at all", "gzip") == "bad_encoding"
    assert outcome(gzip.compress(TEXT)[:-8] + bytes(8), "gzip") == "bad_encoding"
    assert outcome(TEXT, "br") == "bad_encoding"
    assert outcome(TEXT, None, len(TEXT) - 1) == "too_big"
    assert decode(TEXT, None, len(TEXT)) == TEXT
    assert decode(gzip.compress(TEXT), "gzip", len(TEXT)) == TEXT


def test_a_bomb_never_unfolds() -> None:
    bomb = gzip.compress(bytes(300_000_000), 9)
    tracemalloc.start()
    try:
        assert outcome(bomb, "gzip", 1_000_000) == "too_big"
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
