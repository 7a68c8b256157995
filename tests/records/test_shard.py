"""Token shards: what goes in comes out, as a stream, at random, through zstd itself, and joined."""

from __future__ import annotations

import hashlib
import io
import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gpt2cli.errors import BadInput
from gpt2cli.records.shard import ShardFile, ShardFooter, ShardHeader, ShardReader, ShardWriter, read_shard
from gpt2cli.records.shard_format import FRAME_TOKENS

DIGEST = "ab" * 32
SMALL = ShardHeader(50257, 50256, "0" * 64)
LARGE = ShardHeader(100_000, 0, "1" * 64, source="wide")


def write(header: ShardHeader, lengths: list[int], seed: int = 0) -> tuple[bytes, np.ndarray, ShardFooter]:
    """Return a shard of random documents, all its tokens, and its footer."""
    generator = np.random.default_rng(seed)
    stream = io.BytesIO()
    writer = ShardWriter(stream, header)
    parts = []
    for length in lengths:
        ids = generator.integers(1, header.n_vocab - 1, length)
        writer.write_document(ids, 3 * length)
        parts += [ids, [header.eot]]
    footer = writer.close(DIGEST)
    return stream.getvalue(), np.concatenate([*parts, np.zeros(0, dtype=np.int64)]), footer


LENGTHS = [5, 0, 1, 70_000, 61_064, 0, 200_000, 17]
"""Documents that end at, before and beyond a frame's end; the fifth closes the first frame exactly."""


@pytest.mark.parametrize("header", [SMALL, LARGE], ids=["uint16", "uint32"])
@pytest.mark.parametrize("lengths", [LENGTHS, [], [0], [FRAME_TOKENS - 1], [FRAME_TOKENS]], ids=str)
def test_round_trip(header: ShardHeader, lengths: list[int], tmp_path: Path) -> None:
    data, tokens, footer = write(header, lengths)
    found, frames = read_shard(io.BytesIO(data), "x")
    arrays = list(frames)
    assert found == header
    assert all(array.dtype == header.dtype for array in arrays)
    assert [len(array) for array in arrays[:-1]] == [FRAME_TOKENS] * (len(arrays) - 1)
    assert np.concatenate([*arrays, np.zeros(0, dtype=header.dtype)]).tolist() == tokens.tolist()
    assert (footer.tokens, footer.documents, footer.text_bytes) == (len(tokens), len(lengths), 3 * sum(lengths))
    assert footer.lengths().tolist() == [length + 1 for length in lengths]
    assert footer.sha256 == hashlib.sha256(tokens.astype(header.dtype).tobytes()).hexdigest()
    reader = ShardReader(io.BytesIO(data), "x")
    assert [len(document) for document in reader.documents()] == lengths
    assert reader.footers == [footer]
    (tmp_path / "x.tok.zst").write_bytes(data)
    with ShardFile(tmp_path / "x.tok.zst") as shard:
        assert (shard.header, shard.footer, shard.n_tokens) == (header, footer, len(tokens))
        assert shard.read(0, len(tokens)).tolist() == tokens.tolist()


def test_random_access(tmp_path: Path) -> None:
    data, tokens, _ = write(SMALL, LENGTHS)
    path = tmp_path / "x.tok.zst"
    path.write_bytes(data)
    draw = np.random.default_rng(1)
    with ShardFile(path, cache_frames=1) as shard:
        for _ in range(200):
            start, stop = sorted(draw.integers(0, len(tokens) + 1, 2).tolist())
            assert np.array_equal(shard.read(start, stop), tokens[start:stop])
        for start, stop in ((0, 0), (len(tokens), len(tokens)), (FRAME_TOKENS - 1, FRAME_TOKENS + 1)):
            assert np.array_equal(shard.read(start, stop), tokens[start:stop])
        for start, stop in ((-1, 2), (3, 2), (0, len(tokens) + 1)):
            with pytest.raises(IndexError):
                shard.read(start, stop)


def test_reading_one_window_reads_one_frame(tmp_path: Path) -> None:
    """Frames elsewhere may be broken: they are not looked at."""
    data, tokens, _ = write(SMALL, LENGTHS)
    path = tmp_path / "x.tok.zst"
    path.write_bytes(data)
    with ShardFile(path) as shard:
        second = shard.frames[1]
        broken = bytearray(data)
        broken[second.offset + 100] ^= 1
        path.write_bytes(broken)
    with ShardFile(path) as shard:
        assert np.array_equal(shard.read(0, 1000), tokens[:1000])
        with pytest.raises(BadInput, match=rf"x.tok.zst: frame 1 at byte {second.offset} is damaged"):
            shard.read(FRAME_TOKENS - 5, FRAME_TOKENS + 5)


def test_joined_shards_are_a_shard(tmp_path: Path) -> None:
    parts = [write(SMALL, LENGTHS, 1), write(SMALL, [], 2), write(SMALL, [3, 4], 3)]
    joined = b"".join(part[0] for part in parts)
    tokens = np.concatenate([part[1] for part in parts])
    reader = ShardReader(io.BytesIO(joined), "x")
    assert np.array_equal(np.concatenate(list(reader.frames())), tokens)
    assert reader.footers == [part[2] for part in parts]
    path = tmp_path / "x.tok.zst"
    path.write_bytes(joined)
    with ShardFile(path) as shard:
        assert np.array_equal(shard.read(0, len(tokens)), tokens)
        assert np.array_equal(shard.read(400_000 - 70_000, len(tokens)), tokens[330_000:])
        footer = shard.footer
    assert (footer.tokens, footer.documents, footer.text_bytes) == (len(tokens), 10, 3 * (sum(LENGTHS) + 7))
    assert footer.lengths().tolist() == [length + 1 for length in [*LENGTHS, 3, 4]]


def test_joined_shards_must_share_a_vocabulary(tmp_path: Path) -> None:
    data = write(SMALL, [3])[0] + write(ShardHeader(50257, 50256, "2" * 64), [3])[0]
    with pytest.raises(BadInput, match="different vocabularies"):
        list(read_shard(io.BytesIO(data), "x")[1])
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BadInput, match="different vocabularies"):
        ShardFile(tmp_path / "x")


class Pipe(io.RawIOBase):
    """Gives a few bytes at a time and can't seek, like a pipe."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, 7))


def test_reads_and_writes_through_a_pipe() -> None:
    data, tokens, _ = write(SMALL, [3000, 2])
    assert np.array_equal(np.concatenate(list(read_shard(Pipe(data), "x")[1])), tokens)

    class Sink:
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, part: bytes) -> int:
            self.parts.append(part)
            return len(part)

    sink = Sink()
    writer = ShardWriter(sink, SMALL)  # type: ignore[arg-type]
    writer.write_document(tokens[:3000], 9000)
    writer.write_document(tokens[3001:3003], 6)
    writer.close(DIGEST)
    assert b"".join(sink.parts) == data


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_zstd_itself_agrees(tmp_path: Path) -> None:
    data, tokens, _ = write(SMALL, LENGTHS)
    path = tmp_path / "x.tok.zst"
    for content, times in ((data, 1), (data + data, 2)):
        path.write_bytes(content)
        result = subprocess.run(["zstd", "-dc", str(path)], capture_output=True, check=True)
        assert result.stdout == tokens.astype("<u2").tobytes() * times
        assert subprocess.run(["zstd", "-tq", str(path)], check=False).returncode == 0
        listing = subprocess.run(["zstd", "-l", str(path)], capture_output=True, check=True, text=True).stdout
        frames = -(-len(tokens) // FRAME_TOKENS)
        # zstd counts skippable frames in both columns.
        assert listing.splitlines()[1].split()[:2] == [str(times * (frames + 3)), str(times * 3)]
        assert "XXH64" in listing


def test_the_same_documents_give_the_same_bytes() -> None:
    assert write(SMALL, LENGTHS)[0] == write(SMALL, LENGTHS)[0]


def test_vocabulary_travels_and_is_checked() -> None:
    text = "any text\n"
    header = ShardHeader(300, 299, hashlib.sha256(text.encode()).hexdigest(), text, "a name")
    data = write(header, [2])[0]
    assert read_shard(io.BytesIO(data), "x")[0] == header
    with pytest.raises(BadInput, match="not the one its tokenizer_sha256 names"):
        read_shard(io.BytesIO(data.replace(b"any text", b"Any text")), "x")


def test_wrong_documents_are_a_bug() -> None:
    for ids in ([50257], [-1], [50256]):
        with pytest.raises(ValueError):
            ShardWriter(io.BytesIO(), SMALL).write_document(np.array(ids))


def test_unknown_text_bytes_stay_unknown() -> None:
    writer = ShardWriter(io.BytesIO(), SMALL)
    writer.write_document(np.array([1]), 4)
    writer.write_document(np.array([1]))
    writer.write_document(np.array([1]), 4)
    assert writer.close(None).text_bytes is None


def test_documents_across_frames_are_whole() -> None:
    data, tokens, _ = write(SMALL, [FRAME_TOKENS * 2 + 5, 3])
    first, second = ShardReader(io.BytesIO(data), "x").documents()
    assert np.array_equal(first, tokens[: FRAME_TOKENS * 2 + 5])
    assert len(second) == 3


def test_many_documents_fill_the_index() -> None:
    lengths = list(itertools.islice(itertools.cycle([0, 1, 2]), 70_000))
    _, _, footer = write(SMALL, lengths)
    assert footer.lengths().tolist() == [length + 1 for length in lengths]
