"""Every container that Reddit's dumps came in: read whole, and never taken for whole when it is not."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.webtext.dump_container import open_dump, unpacked
from gpt2cli.webtext.line_blocks import line_blocks

TEXT = b"".join(b'{"url":"http://e.com/%d"}\n' % (number * 7919 % 100_003) for number in range(9_000))
PACK: dict[str, Callable[[bytes], bytes]] = {
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress, "xz": lzma.compress, "bz2": bz2.compress,
    "gz": gzip.compress,
}


def read(data: bytes) -> bytes:
    return unpacked(io.BytesIO(data), "RS").read()


@pytest.mark.parametrize("kind", PACK)
def test_a_container_is_read_whole(kind: str) -> None:
    assert read(PACK[kind](TEXT)) == TEXT
    assert read(PACK[kind](b"")) == b""
    assert read(PACK[kind](bytes(3_000_000))) == bytes(3_000_000)


@pytest.mark.parametrize("kind", PACK)
def test_members_one_after_the_other(kind: str) -> None:
    assert read(PACK[kind](TEXT) + PACK[kind](b"a\n") + PACK[kind](TEXT)) == TEXT + b"a\n" + TEXT


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("lost", [1, 4, 9, 5000])
def test_a_cut_container_is_an_error(kind: str, lost: int) -> None:
    with pytest.raises(BadInput, match="cut short"):
        read(PACK[kind](TEXT)[:-lost])


@pytest.mark.parametrize("kind", PACK)
def test_a_second_member_that_is_cut_is_an_error(kind: str) -> None:
    with pytest.raises(BadInput):
        read(PACK[kind](TEXT) + PACK[kind](TEXT)[:-10])


@pytest.mark.parametrize("kind", ["xz", "bz2", "gz"])
def test_damage_and_strange_bytes_are_errors(kind: str) -> None:
    packed = bytearray(PACK[kind](TEXT))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(BadInput, match="damaged"):
        read(bytes(packed))
    with pytest.raises(BadInput, match="that are no"):
        read(PACK[kind](TEXT) + b"something else")
    assert read(PACK[kind](TEXT) + bytes(512)) == TEXT, "zero bytes are padding, as tapes and xz have them"


def test_what_the_programs_themselves_write(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(TEXT)
    for program, suffix in (("zstd -q --long=31", "zst"), ("gzip", "gz")):
        packed = subprocess.run([*program.split(), "-c", tmp_path / "plain"], capture_output=True, check=True).stdout
        (tmp_path / f"RS.{suffix}").write_bytes(packed)
        with open_dump(tmp_path / f"RS.{suffix}") as stream:
            assert stream.read() == TEXT


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["", *PACK]), st.binary(max_size=300), st.integers(0, 400), st.binary(max_size=3))
def test_only_our_errors_escape(kind: str, content: bytes, place: int, put: bytes) -> None:
    data = PACK[kind](content) if kind else content
    damaged = data[:place] + put + data[place + len(put) :]
    try:
        found = read(damaged)
    except Gpt2Error:
        return
    assert len(found) < 1 << 24


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=30), st.integers(1, 9))
def test_blocks_are_the_lines(lines: list[bytes], size: int) -> None:
    data = b"\n".join(line.replace(b"\n", b"") for line in lines)
    blocks = list(line_blocks(io.BytesIO(data), "x", size))
    assert b"".join(block.data for block in blocks) == data
    numbered = [pair for block in blocks for pair in block.lines()]
    wanted = data.removesuffix(b"\n").split(b"\n") if data else []
    assert numbered == list(enumerate(wanted, 1))


def test_a_line_without_end_is_an_error() -> None:
    with pytest.raises(BadInput, match="x line 2 is longer than 1000 bytes"):
        list(line_blocks(io.BytesIO(b"a\n" + b"b" * 5000), "x", 100, max_line=1000))
