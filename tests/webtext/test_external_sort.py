"""External sorts against sorted() and numpy's stable sort, with so little memory that runs are merged in passes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.webtext import external_sort
from gpt2cli.webtext.external_sort import LineSort, RowSort, merge_sorted

ROW = np.dtype([("key", "<u8"), ("number", "<u8")])
NAMED = np.dtype([("key", "S5"), ("number", "<u8")])


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_sort, "LEAST_MEMORY", 1)
    monkeypatch.setattr(external_sort, "MOST_RUNS", 3)


@pytest.mark.parametrize("memory", [1, 3000, 1 << 20])
@pytest.mark.parametrize("dtype", [ROW, NAMED])
def test_rows_come_out_as_a_stable_sort_gives_them(memory: int, dtype: np.dtype, tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    rows = np.zeros(700, dtype=dtype)
    rows["key"] = draw.integers(0, 60, 700).astype(dtype["key"])
    rows["number"] = np.arange(700)
    with RowSort(tmp_path, dtype, "key", memory) as sort:
        for part in np.array_split(rows, 13):
            sort.add(part)
        found = np.concatenate(list(sort.blocks()))
        assert not list(tmp_path.iterdir())
    assert np.array_equal(found, rows[np.argsort(rows["key"], kind="stable")])


def test_equal_keys_across_blocks_keep_their_order() -> None:
    def source(first: int, keys: list[list[int]]) -> list[np.ndarray]:
        blocks = []
        for part in keys:
            block = np.zeros(len(part), dtype=ROW)
            block["key"], block["number"] = part, np.arange(first, first + len(part))
            first += len(part)
            blocks.append(block)
        return blocks

    sources = [source(0, [[1, 5], [5, 5], [5, 9]]), source(100, [[0], [5], [5, 5]]), source(200, [[5, 5, 7]])]
    merged = np.concatenate(list(merge_sorted([iter(blocks) for blocks in sources], "key")))
    assert merged["number"].tolist() == [100, 0, 1, 2, 3, 4, 101, 102, 103, 200, 201, 202, 5]


@pytest.mark.parametrize("memory", [1, 2000, 1 << 20])
def test_lines_come_out_as_sorted_gives_them(memory: int, tmp_path: Path) -> None:
    draw = random.Random(3)
    lines = [bytes(draw.choices(b"\0\x01\tab\xff", k=draw.randrange(6))) for _ in range(500)]
    with LineSort(tmp_path, memory) as sort:
        for line in lines:
            sort.add(line)
        assert list(sort.lines()) == sorted(lines)
        assert not list(tmp_path.iterdir())


@settings(max_examples=40, deadline=None)
@given(keys=st.lists(st.integers(0, 5), max_size=60), memory=st.integers(1, 600))
def test_any_rows_in_any_memory(keys: list[int], memory: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = np.zeros(len(keys), dtype=ROW)
    rows["key"], rows["number"] = keys, np.arange(len(keys))
    with RowSort(tmp_path_factory.mktemp("runs"), ROW, "key", memory) as sort:
        sort.add(rows)
        found = [tuple(row) for block in sort.blocks() for row in block.tolist()]
    assert found == [(key, number) for number, key in sorted(enumerate(keys), key=lambda pair: pair[1])]


def test_an_unfinished_sort_leaves_nothing(tmp_path: Path) -> None:
    with RowSort(tmp_path, ROW, "key", 100) as rows, LineSort(tmp_path, 100) as lines:
        for _ in range(50):
            rows.add(np.zeros(9, dtype=ROW))
            lines.add(b"x")
        next(rows.blocks())
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_two_sorts_share_a_directory(tmp_path: Path) -> None:
    with LineSort(tmp_path, 1) as one, LineSort(tmp_path, 1) as two:
        for line in (b"b", b"a"):
            one.add(line)
            two.add(line + line)
        assert list(one.lines()) == [b"a", b"b"]
        assert list(two.lines()) == [b"aa", b"bb"]
