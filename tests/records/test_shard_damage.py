"""No damage passes: flipped bits, cuts, hostile sizes; each is one sentence that says where."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import zstandard

from gpt2cli.errors import BadInput
from gpt2cli.records import shard_format as form
from gpt2cli.records.shard import ShardFile, ShardHeader, ShardWriter, read_shard

HEADER = ShardHeader(50257, 50256, "0" * 64)


@pytest.fixture(scope="module")
def shard() -> bytes:
    """Three data frames of compressible tokens."""
    stream = io.BytesIO()
    writer = ShardWriter(stream, HEADER)
    generator = np.random.default_rng(5)
    for _ in range(300):
        writer.write_document(generator.zipf(1.4, 1000) % 50_000, 4000)
    writer.close("f" * 64)
    return stream.getvalue()


def read_all(data: bytes) -> np.ndarray:
    return np.concatenate(list(read_shard(io.BytesIO(data), "x.tok.zst")[1]))


def open_all(path: Path) -> np.ndarray:
    with ShardFile(path) as shard:
        return shard.read(0, shard.n_tokens)


def test_the_shard_is_sound(shard: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(shard)
    whole = open_all(tmp_path / "x")
    assert len(whole) and np.array_equal(read_all(shard), whole)


def test_every_flipped_bit_is_detected(shard: bytes, tmp_path: Path) -> None:
    """300 random bits, and one in every byte of header, footer and seek table, by both readers.

    A compressed frame has a few bits that no decoder looks at. What gets through must give the same tokens, and be
    rare; `gpt2 verify` of a set finds these too, since the index has the digest of the whole file.
    """
    tokens, passed = read_all(shard), 0
    draw = random.Random(7)
    footer = shard.index(form.FOOTER_MAGIC.to_bytes(4, "little"))
    places = [draw.randrange(8 * len(shard)) for _ in range(300)]
    places += [8 * byte + draw.randrange(8) for byte in (*range(400), *range(footer, len(shard)))]
    path = tmp_path / "x.tok.zst"
    for place in places:
        broken = bytearray(shard)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        for read in (lambda broken=broken: read_all(bytes(broken)), lambda: open_all(path)):
            try:
                found = read()
            except BadInput as error:
                assert "x.tok.zst" in str(error) and "\n" not in str(error)
            else:
                assert np.array_equal(found, tokens), place
                passed += 1
    assert passed <= 0.01 * 2 * len(places)


def test_every_cut_is_detected(shard: bytes, tmp_path: Path) -> None:
    with_ends = [frame.offset for frame in _frames(shard, tmp_path)]
    draw = random.Random(8)
    path = tmp_path / "x.tok.zst"
    tail = shard.index(form.FOOTER_MAGIC.to_bytes(4, "little"))
    table = shard.index(form.SEEK_MAGIC.to_bytes(4, "little"))
    for size in [*with_ends, tail, table, *range(1, 12), *(draw.randrange(len(shard)) for _ in range(50))]:
        with pytest.raises(BadInput):
            read_all(shard[:size])
        path.write_bytes(shard[:size])
        with pytest.raises(BadInput):
            open_all(path)


def _frames(shard: bytes, tmp_path: Path) -> list[form.Frame]:
    (tmp_path / "sound").write_bytes(shard)
    with ShardFile(tmp_path / "sound") as file:
        return file.frames


def test_a_file_cut_between_frames_is_fine_to_zstd_and_not_to_us(shard: bytes, tmp_path: Path) -> None:
    cut = shard[: _frames(shard, tmp_path)[2].offset]
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(cut), read_across_frames=True)
    assert len(reader.read()) == 2 * 262_144
    with pytest.raises(BadInput, match=rf"cut short: it ends at byte {len(cut)} without a footer"):
        read_all(cut)


def test_swapped_and_missing_frames_are_detected(shard: bytes, tmp_path: Path) -> None:
    first, second, third = _frames(shard, tmp_path)[:3]
    a, b = shard[first.offset : second.offset], shard[second.offset : third.offset]
    for middle in (b + a, a, b, a + a, a + b + b):
        with pytest.raises(BadInput):
            read_all(shard[: first.offset] + middle + shard[third.offset :])


def test_message_names_file_and_frame(shard: bytes, tmp_path: Path) -> None:
    frame = _frames(shard, tmp_path)[1]
    broken = bytearray(shard)
    broken[frame.offset + frame.size // 2] ^= 0x10
    with pytest.raises(BadInput, match=rf"^x\.tok\.zst: frame 1 at byte {frame.offset} is damaged \(.*\); make"):
        read_all(bytes(broken))


@pytest.mark.parametrize("data", [b"", b"hello world, this is text", b"\x28\xb5\x2f\xfd" + b"\0" * 20,
                                  zstandard.compress(b"text"), b"\x5e\x2a\x4d\x18\0\0\0\0"], ids=range(5))
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        read_all(data)
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BadInput):
        ShardFile(tmp_path / "x")


def crafted(frame: bytes, header: ShardHeader = HEADER) -> bytes:
    return form.pack_header(header) + frame


@pytest.mark.parametrize(("frame", "words"), [
    (zstandard.ZstdCompressor(write_checksum=True).compress(bytes(2 * form.FRAME_TOKENS + 2)), "no frame of a token"),
    (zstandard.ZstdCompressor(write_checksum=True).compress(bytes(1 << 24)), "no frame of a token shard|damaged"),
    (zstandard.ZstdCompressor(write_checksum=False).compress(bytes(100)), "no checksum"),
    (zstandard.ZstdCompressor(write_checksum=True).compress(bytes(101)), "no frame of a token shard"),
    (zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(bytes(100)), "no frame"),
    (form.compress_frame(np.array([60_000], dtype="<u2").tobytes()), "outside the vocabulary"),
    (form.skippable(form.FOOTER_MAGIC, bytes(10)), "footer is damaged"),
    (struct.pack("<II", form.FOOTER_MAGIC, 0xFFFFFFFF), "claims 4294967295 bytes"),
    (form.skippable(0x184D2A57, b"hello"), "neither a frame nor the footer"),
])
def test_hostile_frames_are_refused(frame: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_all(crafted(frame))


def test_a_bomb_needs_no_memory() -> None:
    """A frame of 4 GiB of zeros in RLE blocks, that claims 256 KiB: the blocks are bounded before decoding."""
    block = (131_072 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    frame = b"\x28\xb5\x2f\xfd" + bytes([0xA4]) + (262_144).to_bytes(4, "little") + block * 32_768
    with pytest.raises(BadInput):
        read_all(crafted(frame + b"\1\0\0" + bytes(4)))


def test_header_fields_are_checked() -> None:
    good = form.pack_header(HEADER)[8:]
    for old, new, words in [
        (b'"eot":50256', b'"eot":50257', "do not fit"), (b'"uint16"', b'"uint32"', "do not fit"),
        (b'"n_vocab":50257', b'"n_vocab":true', "missing or has the wrong form"), (b'"eot"', b'"eob"', "missing"),
        (b"gpt2.shard/1", b"gpt2.shard/2", "written by a newer gpt2"),
        (b"gpt2.shard/1", b"gpt9.shard/1", "no gpt2 token"),
        (b"{", b"[", "not JSON"), (b'"n_vocab":50257', b'"n_vocab":' + b"9" * 5000, "not JSON"),
    ]:
        assert old in good
        with pytest.raises(BadInput, match=words):
            form.parse_header(good.replace(old, new, 1), "x")


def test_an_index_that_claims_too_much_is_refused() -> None:
    index = form.pack_index(np.array([3, 4]))
    for tokens, documents, packed in [(7, 3, index), (8, 2, index), (1, 2, index), (7, 2, index[:-1]), (7, 2, b""),
                                      (7, 0, b""), (2**62, 2**61, index)]:
        footer = form.ShardFooter(tokens, documents, "0" * 64, None, None, "0" * 64, "0" * 64, packed)
        with pytest.raises(BadInput, match="footer is damaged"):
            form.parse_footer(form.pack_footer(footer)[8:], "x")
