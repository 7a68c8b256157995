"""Reading in the data order: the right windows, whoever reads how, every frame about once, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput
from gpt2cli.records import shard_format
from gpt2cli.records.shard import ShardHeader, ShardWriter
from gpt2cli.records.shard_file import ShardFile
from gpt2cli.tokens.order import DataOrder, count_windows
from gpt2cli.tokens.window_reader import WindowReader

EOT = 50256


class Memory:
    """Tokens in memory; `reads` counts how often each was read, and `broken` ones raise."""

    def __init__(self, n: int) -> None:
        self.ids = np.arange(n, dtype=np.uint32)
        self.reads = np.zeros(n, dtype=int)
        self.broken: set[int] = set()

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        if self.broken & set(range(start, stop)):
            raise BadInput("broken")
        self.reads[start:stop] += 1
        return self.ids[start:stop]


def rows(order: DataOrder, n_ctx: int, first: int, count: int) -> np.ndarray:
    return order.windows(first, count)[:, None] * n_ctx + np.arange(n_ctx + 1)


@settings(deadline=None, max_examples=60)
@given(n_windows=st.integers(1, 300), block=st.integers(1, 30), buffer_blocks=st.integers(1, 6),
       n_ctx=st.integers(1, 9), leftover=st.integers(0, 8),
       requests=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 80)), max_size=6))
def test_any_request_gets_its_windows(
    n_windows: int, block: int, buffer_blocks: int, n_ctx: int, leftover: int, requests: list[tuple[int, int]]
) -> None:
    """Forward, skipping, back, across buffers and epochs: the same rows as by the rule."""
    tokens = Memory(n_windows * n_ctx + 1 + leftover % n_ctx)
    assert count_windows(len(tokens), n_ctx) == n_windows
    order = DataOrder(5, n_windows, block, buffer_blocks)
    reader = WindowReader(tokens, order, n_ctx)
    for first, count in requests:
        assert np.array_equal(reader.read(first, count), rows(order, n_ctx, first, count))


ORDER = DataOrder(1, 995, 10, 7)
"""100 blocks, the last short, in 15 buffers."""


@pytest.mark.parametrize("count", [1, 7, 64, 1000])
def test_reading_on_decodes_every_block_once_an_epoch(count: int) -> None:
    tokens = Memory(995 * 4 + 1)
    reader = WindowReader(tokens, ORDER, 4)
    for first in range(0, 2 * 995, count):
        found = reader.read(first, min(count, 2 * 995 - first))
        assert np.array_equal(found, rows(ORDER, 4, first, len(found)))
    inner = tokens.reads[1:][np.arange(1, len(tokens)) % 40 != 0]  # but for the target shared by two blocks
    assert inner.min() >= 2 and inner.max() <= 3 and (inner == 3).sum() <= 7 * 40  # the buffer that comes next


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_share_one_order(world: int) -> None:
    """Each rank takes its share of every batch of 24, in micro-batches of its own: together they are the order."""
    readers = [WindowReader(Memory(995 * 4 + 1), ORDER, 4) for _ in range(world)]
    share = 24 // world
    for step in range(60):
        parts = []
        for rank, reader in enumerate(readers):
            first, end = step * 24 + rank * share, step * 24 + (rank + 1) * share
            parts += [reader.read(at, min(rank + 1, end - at)) for at in range(first, end, rank + 1)]
        assert np.array_equal(np.concatenate(parts), rows(ORDER, 4, step * 24, 24))


def test_a_corpus_of_one_buffer_is_decoded_once_for_all_epochs() -> None:
    tokens = Memory(401)
    reader = WindowReader(tokens, DataOrder(1, 100, 30, 4), 4)
    for first in range(0, 500, 50):
        reader.read(first, 50)
    assert tokens.reads.max() == 2 and (tokens.reads == 2).sum() == 3  # the targets between blocks


def test_memory_is_one_buffer() -> None:
    reader = WindowReader(Memory(995 * 4 + 1), ORDER, 4)
    for first in range(0, 1900, 19):
        reader.read(first, 19)
    assert reader._rows.shape == (70, 5) == (ORDER.most_windows, 5)


def test_a_block_that_fails_stops_the_reader_at_its_buffer_and_not_before() -> None:
    """Whatever it was reading ahead, and however often it is asked; when the tokens are mended it goes on."""
    second, third = ORDER.buffer_at(ORDER.buffer_at(0).end), ORDER.buffer_at(2 * 66)
    tokens = Memory(995 * 4 + 1)
    tokens.broken = {int(third.blocks[3]) * 40 + 7}
    for count in (1, 11, 50):
        reader = WindowReader(tokens, ORDER, 4)
        first = 0
        while first < second.end:
            take = min(count, second.end - first)
            assert np.array_equal(reader.read(first, take), rows(ORDER, 4, first, take))
            first += take
        for _ in range(2):
            with pytest.raises(BadInput, match="broken"):
                reader.read(first, 5)
    tokens.broken = set()
    assert np.array_equal(reader.read(first, 5), rows(ORDER, 4, first, 5))


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames and a short one."""
    path = tmp_path_factory.mktemp("frames") / "x.tok.zst"
    draw = np.random.default_rng(0)
    with open(path, "wb") as stream:
        writer = ShardWriter(stream, ShardHeader(50257, EOT, "0" * 64))
        while writer.tokens < 50 * shard_format.FRAME_TOKENS:
            writer.write_document(draw.integers(0, 4000, 60_001, dtype=np.uint16))
        writer.close(None)
    return path


class Offset:
    """The tokens of a shard from the 1,000th on, so that no window begins where a frame does."""

    def __init__(self, shard: ShardFile) -> None:
        self._shard = shard

    def __len__(self) -> int:
        return self._shard.n_tokens - 1000

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._shard.read(start + 1000, stop + 1000)


def test_frames_are_decoded_about_once_an_epoch(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 frames as in training, two to a buffer, over three epochs: at most 1.1 decodings an epoch."""
    decoded = []
    original = shard_format.decompress_frame
    monkeypatch.setattr(shard_format, "decompress_frame",
                        lambda data, width, where: decoded.append(where) or original(data, width, where))
    with ShardFile(shard, cache_frames=1) as file:
        tokens, n_ctx = Offset(file), 1024
        order = DataOrder(0, count_windows(len(tokens), n_ctx), 2048, 2)
        assert (order.n_blocks, order.n_buffers, len(file.frames)) == (4, 2, 51)
        reader = WindowReader(tokens, order, n_ctx)
        firsts = np.concatenate([reader.read(at, 200)[:, 0] for at in range(0, 3 * order.n_windows - 200, 200)])
        reader.read(3 * order.n_windows - 200, 200)
        read_ahead = 51 / 2 + 2
        assert len(decoded) / 51 < 3 * 1.1 + read_ahead / 51
        assert max(decoded.count(where) for where in decoded) <= 3 * 2 + 2
        starts = tokens.read(0, len(tokens))[: order.n_windows * n_ctx : n_ctx]
        assert np.array_equal(np.sort(firsts[: order.n_windows]), np.sort(starts))
