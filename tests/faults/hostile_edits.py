"""Files made wrong: bytes flipped, cut, doubled and put in, and values of JSON exchanged for those nobody expects."""

from __future__ import annotations

import json
from typing import Any

import zstandard
from hypothesis import strategies as st

ZSTD = b"\x28\xb5\x2f\xfd"
HUGE = "a number of 5,000 digits"
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 2**64 - 1, 10**307, HUGE, 1e308, -0.5, "", "x" * 70_000, "\x1b]0;x\x07\x9b31m",
    "\u2028\u0085", "\ud800", "../../../etc/passwd", "/dev/zero", "[bold]x[/nope]", [], {}, [[]], {"": None},
    ["a"] * 300, "nan", "1e999", "gpt2.document/99", "gpt2.nonsense/1",
)
TOKENS = (
    b"\0", b"\n", b"\r", b"\xff\xfe", b"\xed\xa0\x80", b"[" * 200_000, b'{"a":' * 50_000, b"9" * 5_000, b"NaN",
    b"1e999", b"\xe2\x80\xa8", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18\xff\xff\xff\xff", b"\x1b[2J", b"<div>" * 3_000,
    b"%s%n", b"- &a [*a, *a]\n", b"!!python/object/apply:os.system [x]", b"%PDF-1.4", b"\x1f\x8b\x08", b"PK\3\4",
)

places = st.floats(0, 1, allow_nan=False)


@st.composite
def edited(draw: st.DrawFn, seed: bytes) -> bytes:
    """Return `seed` wronged: as it lies, within its compression, or in a value of one of its lines of JSON."""
    inside = seed.startswith(ZSTD) and draw(st.booleans())
    data = _unpacked(seed) if inside else seed
    data = _with_value(draw, data) if draw(st.booleans()) else data
    for _ in range(draw(st.integers(0, 3))):
        data = _with_edit(draw, data)
    return zstandard.ZstdCompressor().compress(data) if inside else data


def _unpacked(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as stream:
        return stream.read()


def _with_edit(draw: st.DrawFn, data: bytes) -> bytes:
    start = int(draw(places) * len(data))
    kind = draw(st.sampled_from(("flip", "cut", "drop", "put in", "double", "replace")))
    if kind == "flip" and start < len(data):
        return data[:start] + bytes([data[start] ^ 1 << draw(st.integers(0, 7))]) + data[start + 1 :]
    if kind == "cut":
        return data[:start]
    end = min(len(data), start + draw(st.integers(0, 64)))
    put = {"drop": b"", "double": data[start:end] * 2}.get(kind)
    if put is None:
        put = draw(st.sampled_from(TOKENS) | st.binary(max_size=16))
    return data[:start] + put + data[start if kind == "put in" else end :]


def _with_value(draw: st.DrawFn, data: bytes) -> bytes:
    """Exchange a value of a line that is a JSON object, or of all of it; what is none is left."""
    lines = [data] if data.startswith(b"{\n") else data.split(b"\n")
    number = int(draw(places) * (len(lines) - 1))
    try:
        value = json.loads(lines[number])
    except ValueError:
        return data
    lines[number] = json.dumps(_exchanged(draw, value)).replace(f'"{HUGE}"', "9" * 5_000).encode()
    return b"\n".join(lines)


def _exchanged(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 9)):
            return {name: each for name, each in value.items() if name != key}
        return value | {key: _exchanged(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 2)):
        place = draw(st.integers(0, min(len(value), 50) - 1))
        return [*value[:place], _exchanged(draw, value[place]), *value[place + 1 :]]
    return draw(st.sampled_from(VALUES))
