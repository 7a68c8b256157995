"""Tables: there and back, in several blocks, and refused in a sentence when anything in them was changed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.interchange.crc32c import masked_crc32c
from gpt2cli.interchange.leveldb_table import read_table, read_varint, varint, write_table

ENTRIES = [(f"model/h{number:03d}/attn/c_attn/w".encode(), bytes([number % 256]) * (number % 40))
           for number in range(200)]


def test_there_and_back() -> None:
    assert list(read_table(write_table(ENTRIES), "t")) == ENTRIES
    assert list(read_table(write_table([]), "t")) == []


def test_many_blocks() -> None:
    entries = [(b"%07d" % number, bytes(100)) for number in range(9000)]
    data = write_table(entries)
    assert len(data) > 3 * (256 << 10), "four blocks"
    assert list(read_table(data, "t")) == entries


@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=30), max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_entries(entries: dict[bytes, bytes]) -> None:
    ordered = sorted(entries.items())
    assert list(read_table(write_table(ordered), "t")) == ordered


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
@settings(max_examples=50, deadline=None)
def test_numbers(number: int, after: bytes) -> None:
    data = varint(number)
    assert read_varint(data + after, 0, "t") == (number, len(data))


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff" * 11, b"\xff" * 9 + b"\x7f"])
def test_numbers_without_end_or_too_large(data: bytes) -> None:
    with pytest.raises(BadInput, match="has no end"):
        read_varint(data, 0, "t")


def test_every_changed_byte_is_seen() -> None:
    """But for the footer's padding, which says nothing, and a longer spelling of a number."""
    data = write_table(ENTRIES[:20])
    unseen = []
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        try:
            if list(read_table(bytes(damaged), "t")) == ENTRIES[:20]:
                unseen.append(place)
        except BadInput:
            continue
        else:
            assert place in unseen, f"byte {place} changed what was read"
    meta_trailer = len(data) - 48
    assert all(place >= meta_trailer - 200 for place in unseen)


@pytest.mark.parametrize("cut", [0, 1, 47, 48, 100])
def test_a_cut_table_is_told(cut: int) -> None:
    with pytest.raises(BadInput, match=r"magic number; was it cut short\?"):
        list(read_table(write_table(ENTRIES)[:cut], "t.index"))


def sealed(block: bytes, kind: int = 0) -> bytes:
    return block + bytes([kind]) + struct.pack("<I", masked_crc32c(block + bytes([kind])))


def table_of(block: bytes, kind: int = 0) -> bytes:
    """A table whose one data block is `block`, sound all around it."""
    data = sealed(block, kind)
    handle = varint(0) + varint(len(block))
    index = b"\0\1" + varint(len(handle)) + b"z" + handle + struct.pack("<II", 0, 1)
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(index))
    return data + sealed(index) + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


@pytest.mark.parametrize(("block", "kind", "message"), [
    (b"", 0, "too small"),
    (struct.pack("<I", 2**31), 0, "too small"),
    (b"\5\1\0a" + struct.pack("<II", 0, 1), 0, "passes its end"),              # shares more than the key before has
    (b"\0\x7f\0a" + struct.pack("<II", 0, 1), 0, "passes its end"),            # a key longer than the block
    (b"\0\1" + varint(1 << 60) + b"a" + struct.pack("<II", 0, 1), 0, "passes its end"),
    (b"\0\1\0b\0\1\0a" + struct.pack("<II", 0, 1), 0, "does not come after"),  # out of order
    (b"\0\1\0a" + struct.pack("<II", 0, 1), 1, "compressed"),                  # snappy
])
def test_sound_checksums_around_nonsense(block: bytes, kind: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        list(read_table(table_of(block, kind), "t.index"))


def test_a_block_past_the_end() -> None:
    footer = varint(0) + varint(0) + varint(1 << 40) + varint(1 << 50)
    data = bytes(100) + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    with pytest.raises(BadInput, match="passes its end"):
        list(read_table(data, "t.index"))


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=100, deadline=None)
def test_only_our_errors_escape(noise: bytes, framed: bool) -> None:
    data = table_of(noise) if framed else noise + struct.pack("<Q", 0xDB4775248B80FB57)
    try:
        list(read_table(data, "t.index"))
    except Gpt2Error as error:
        assert "t.index" in str(error)
