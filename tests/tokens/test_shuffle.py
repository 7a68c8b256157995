"""The order is a function of seed and content, uniform, and costs bounded memory however many documents there are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpt2cli.tokens.blocks import DocumentBlock, block_of, join_blocks
from gpt2cli.tokens.shuffle import ShuffleMemory, shuffled

EOT = 50_256
SMALL = ShuffleMemory(scatter=20_000, bucket=2_000)
"""So little that buckets are scattered again."""


def documents(count: int, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [np.append(generator.integers(0, 50_000, n), EOT).astype("<u2")
            for n in generator.integers(0, 30, count).tolist()]


def block(parts: list[np.ndarray], seed: int = 0) -> DocumentBlock:
    return block_of(np.concatenate(parts), np.array([len(part) for part in parts]), seed)


def in_blocks(parts: list[np.ndarray], size: int, seed: int = 0) -> Iterator[DocumentBlock]:
    return (block(parts[start : start + size], seed) for start in range(0, len(parts), size))


def order(blocks: Iterator[DocumentBlock], place: Path, memory: ShuffleMemory = SMALL) -> list[bytes]:
    whole = join_blocks(list(shuffled(blocks, place / "shuffle", memory)))
    assert not list(place.iterdir()), "temporaries are left"
    return [piece.tobytes() for piece in whole.pieces(np.arange(len(whole)))]


@pytest.mark.parametrize("memory", [SMALL, ShuffleMemory()])
def test_any_order_and_division_of_the_input_gives_one_order(tmp_path: Path, memory: ShuffleMemory) -> None:
    parts = documents(3000)
    first = order(in_blocks(parts, 7), tmp_path, memory)
    mixed = [parts[i] for i in np.random.default_rng(1).permutation(len(parts))]
    assert order(in_blocks(mixed, 1000), tmp_path, memory) == first
    assert sorted(first) == sorted(part.tobytes() for part in parts)
    assert first != [part.tobytes() for part in parts]
    assert order(in_blocks(parts, 7, seed=1), tmp_path, memory) != first


@pytest.mark.parametrize("memory", [SMALL, ShuffleMemory()])
def test_the_order_is_uniform(tmp_path: Path, memory: ShuffleMemory) -> None:
    """Neither neighbours nor ranks remember the input: correlations within four standard errors of none."""
    parts = [np.array([i % 50_000, i // 50_000, EOT], dtype="<u2") for i in range(4000)]
    found = np.array([int.from_bytes(piece[:2], "little") for piece in order(in_blocks(parts, 64), tmp_path, memory)])
    ranks = np.arange(len(found))
    assert abs(np.corrcoef(found, ranks)[0, 1]) < 4 / np.sqrt(len(found))
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 4 / np.sqrt(len(found))


def test_copies_are_scattered(tmp_path: Path) -> None:
    parts = documents(2000) + [np.array([7, EOT], dtype="<u2")] * 40
    found = order(in_blocks(parts, 100), tmp_path, ShuffleMemory())
    places = [place for place, piece in enumerate(found) if piece == parts[-1].tobytes()]
    assert len(places) == 40
    assert np.count_nonzero(np.diff(places) == 1) < 39, "within their bucket copies have places of their own"


def test_documents_of_one_hash_are_ordered_by_content(tmp_path: Path) -> None:
    parts = documents(50)
    clash = [replace(block(part), hashes=np.zeros(len(part), dtype="<u8")) for part in (parts, parts[::-1])]
    first, second = (order(iter([one]), tmp_path, ShuffleMemory()) for one in clash)
    assert first == second and sorted(first) == sorted(part.tobytes() for part in parts)


def test_copies_of_one_document_beyond_memory_are_kept(tmp_path: Path) -> None:
    parts = [np.arange(30, dtype="<u2")] * 500
    assert order(in_blocks(parts, 50), tmp_path) == [parts[0].tobytes()] * 500


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    """Blocks of 4,096 documents are made on the way; four times as many take no more memory."""

    def blocks(count: int) -> Iterator[DocumentBlock]:
        for number in range(count):
            tokens = np.random.default_rng(number).integers(0, 50_000, 4096 * 9, dtype="<u2")
            tokens[8::9] = EOT
            yield DocumentBlock(tokens, np.full(4096, 9), np.random.default_rng(number).integers(0, 1 << 63, 4096)
                                .astype("<u8") * 2)

    def peak(count: int) -> int:
        tracemalloc.start()
        total = sum(len(block) for block in shuffled(blocks(count), tmp_path / "s", ShuffleMemory(1 << 19, 1 << 19)))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == 4096 * count
        return found

    assert peak(32) < 1.3 * peak(8) < 4 << 20
