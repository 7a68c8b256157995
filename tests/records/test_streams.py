"""Byte streams: compression recognised, damage found, memory bounded."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.streams import ZstdInput, open_input, open_output, read_lines

TEXT = b"".join(b"It was the best of times, it was the worst of times, line %d\n" % i for i in range(20_000))
SKIPPABLE = b"\x5e\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"


def compress(data: bytes, **parameters: int) -> bytes:
    settings_ = zstandard.ZstdCompressionParameters(write_checksum=True, write_content_size=False, **parameters)
    compressor = zstandard.ZstdCompressor(compression_params=settings_).compressobj()
    return compressor.compress(data) + compressor.flush()


def decompress(data: bytes, **options: int) -> bytes:
    return io.BufferedReader(ZstdInput(io.BytesIO(data), "it.zst", **options)).read()


def read(path: Path) -> bytes:
    with open_input(path) as stream:
        return stream.read()


def test_plain_and_compressed_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(TEXT)
    (tmp_path / "b.txt").write_bytes(compress(TEXT))  # by magic, not by name
    assert read(tmp_path / "a") == read(tmp_path / "b.txt") == TEXT


@pytest.mark.parametrize("size", range(4))
def test_input_shorter_than_a_magic(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(b"abc"[:size])
    assert read(tmp_path / "a") == b"abc"[:size]


def test_frames_are_concatenated_and_skippable_ones_passed_over(tmp_path: Path) -> None:
    data = SKIPPABLE + compress(b"one ") + SKIPPABLE + SKIPPABLE + compress(b"") + compress(b"two") + SKIPPABLE
    assert decompress(data) == b"one two"
    (tmp_path / "a").write_bytes(data)
    assert read(tmp_path / "a") == b"one two", "a skippable frame first is a zstd file too"


def test_the_zstd_program_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    assert shutil.which("zstd"), "the zstd program is needed to hold our files against"
    with open_output(tmp_path / "ours.zst") as stream:
        stream.write(TEXT)
    shown = subprocess.run(["zstd", "-dc", tmp_path / "ours.zst"], capture_output=True, check=True)
    assert shown.stdout == TEXT
    theirs = subprocess.run(["zstd", "-19", "-c"], input=TEXT, capture_output=True, check=True)
    assert decompress(theirs.stdout) == TEXT


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_truncation_is_found(data: st.DataObject) -> None:
    """A cut between frames is a shorter file and legal; any other is BadInput."""
    first, second = compress(TEXT[:5000]), compress(TEXT[5000:9000])
    whole = first + SKIPPABLE + second
    cut = data.draw(st.integers(1, len(whole) - 1))
    boundaries = {len(first): TEXT[:5000], len(first) + len(SKIPPABLE): TEXT[:5000]}
    if cut in boundaries:
        assert decompress(whole[:cut]) == boundaries[cut]
    else:
        with pytest.raises(BadInput, match=r"it\.zst .*cut short"):
            decompress(whole[:cut])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**9), st.integers(1, 255))
def test_damage_never_passes_as_data(position: int, change: int) -> None:
    whole = bytearray(compress(TEXT[:20_000]))
    whole[position % len(whole)] ^= change
    try:
        assert decompress(bytes(whole)) == TEXT[:20_000]
    except BadInput as error:
        assert "it.zst" in str(error)


def test_garbage_after_a_frame_is_found() -> None:
    with pytest.raises(BadInput, match="no zstd frame"):
        decompress(compress(b"abc") + b"garbage, and enough of it")


def test_window_is_bounded() -> None:
    huge = compress(TEXT, window_log=28)
    with pytest.raises(BadInput, match=r"it\.zst is damaged near byte"):
        decompress(huge)
    assert decompress(huge, window_log=31) == TEXT, "Reddit's dumps ask for more"


def test_small_reads_see_everything() -> None:
    stream = io.BufferedReader(ZstdInput(io.BytesIO(compress(TEXT)), "it.zst"), 16)
    assert b"".join(iter(lambda: stream.read(7), b"")) == TEXT


def test_output_is_compressed_by_its_suffix_with_a_checksum(tmp_path: Path) -> None:
    with open_output(tmp_path / "a.zst") as stream:
        stream.write(TEXT)
    assert zstandard.get_frame_parameters((tmp_path / "a.zst").read_bytes()).has_checksum
    with open_output(tmp_path / "a") as stream:
        stream.write(TEXT)
    assert (tmp_path / "a").read_bytes() == TEXT


def test_output_that_fails_midway_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), open_output(tmp_path / "a.zst") as stream:
        stream.write(TEXT)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_output_into_a_missing_directory_is_a_usage_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="does not exist"), open_output(tmp_path / "no" / "a"):
        pass


def test_output_is_not_replaced_without_force(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(UsageFault, match="--force"), open_output(tmp_path / "a", force=False):
        pass
    assert (tmp_path / "a").read_bytes() == b"old"


def test_lines_split_at_line_feeds_only() -> None:
    data = "a\u2028b\u2029c\x85d\x0be\x0cf\rg\nh\r\n\ni".encode()
    assert list(read_lines(io.BytesIO(data), "f")) == [
        "a\u2028b\u2029c\x85d\x0be\x0cf\rg".encode(), b"h\r", b"", b"i"]


def test_a_line_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert list(read_lines(io.BytesIO(b"abc\n"), "f", max_line=4)) == [b"abc"]
    with pytest.raises(BadInput, match="f line 2 is longer than 4 bytes"):
        list(read_lines(io.BytesIO(b"abc\nabcd\n"), "f", max_line=4))


def test_a_name_too_long_for_any_file_is_no_file() -> None:
    with pytest.raises(UsageFault, match=r"^there is no x{100}\.\.\.: the name is longer"), open_input("x" * 5000):
        pass
