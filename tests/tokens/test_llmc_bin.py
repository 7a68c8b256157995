"""llm.c's .bin: end-of-text before a document there, after it here, and the same documents either way."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from foreign_files import (
    EOT,
    exported,
    imported,
    llmc_documents,
    llmc_file,
    read_llmc_file,
    wide_vocabulary,
)

from gpt2cli.errors import BadInput
from gpt2cli.records.shard import ShardHeader
from gpt2cli.reporter import Silent
from gpt2cli.tokens.llmc_bin import write_llmc


def random_documents(count: int, seed: int = 0, longest: int = 400, below: int = EOT) -> list[list[int]]:
    source = random.Random(seed)
    return [[source.randrange(below) for _ in range(source.randrange(longest))] for _ in range(count)]


def write(directory: Path, name: str, data: bytes) -> Path:
    path = directory / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("documents", [[[1, 2, 3]], [[]], [[], []], [[], [5]], [[5], []], [[7], [], [8, 9]]], ids=str)
def test_small_cases_to_the_token(tmp_path: Path, documents: list[list[int]]) -> None:
    tokens = read_llmc_file((exported(tmp_path, "llm.c", documents) / "train_000000.bin").read_bytes())
    assert tokens == [token for ids in documents for token in (EOT, *ids)]
    found, summary = imported("llm.c", tmp_path / "out" / "train_000000.bin")
    assert found == documents
    assert summary.tally.sentences() == []


def test_more_than_a_frame(tmp_path: Path) -> None:
    documents = random_documents(1500)
    out = exported(tmp_path, "llm.c", documents)
    assert [path.name for path in out.iterdir()] == ["train_000000.bin"]
    assert llmc_documents(read_llmc_file((out / "train_000000.bin").read_bytes())) == documents


def test_files_begin_with_a_document_once_full(tmp_path: Path) -> None:
    documents = random_documents(900, seed=1)
    out = exported(tmp_path, "llm.c", documents, shard_tokens=20_000, name="fineweb_train")
    files = sorted(out.iterdir())
    assert [path.name for path in files] == [f"fineweb_train_{number:06d}.bin" for number in range(len(files))]
    parts = [read_llmc_file(path.read_bytes()) for path in files]
    assert len(parts) > 5
    assert all(part[0] == EOT for part in parts)
    assert all(20_000 <= len(part) <= 20_400 for part in parts[:-1])
    assert [ids for part in parts for ids in llmc_documents(part)] == documents
    assert imported("llm.c", *files)[0] == documents


@pytest.mark.parametrize("most", [1, 7, 64, 1000])
def test_the_limit_of_a_file_cuts_documents_and_joining_mends_them(tmp_path: Path, most: int) -> None:
    documents = random_documents(4, seed=2, longest=900) if most > 1 else [[1, 2], [], [3]]
    stream = np.array([token for ids in documents for token in (*ids, EOT)], dtype="<u2")
    frames = [stream[start : start + 100] for start in range(0, len(stream), 100)]
    header = ShardHeader(50257, EOT, "0" * 64)
    names = write_llmc(tmp_path, "train", header, frames, shard_tokens=50, most=most)
    parts = [read_llmc_file((tmp_path / name).read_bytes()) for name in names]
    assert max(map(len, parts)) <= most and all(parts)
    assert llmc_documents([token for part in parts for token in part]) == documents
    assert imported("llm.c", *(tmp_path / name for name in names))[0] == documents


def test_nothing_is_a_file_of_no_tokens(tmp_path: Path) -> None:
    assert read_llmc_file((exported(tmp_path, "llm.c", []) / "train_000000.bin").read_bytes()) == []
    reporter = Silent()
    assert imported("llm.c", tmp_path / "out" / "train_000000.bin", reporter=reporter)[0] == []
    assert reporter.warnings == ["there was no document: the shard is empty"]


def test_wide_vocabularies_take_the_other_magic(tmp_path: Path) -> None:
    vocabulary = wide_vocabulary()
    documents = [[65_791, 3, 65_536], [0]]
    out = exported(tmp_path, "llm.c", documents, vocabulary)
    data = (out / "train_000000.bin").read_bytes()
    assert int.from_bytes(data[:4], "little") == 20240801
    assert read_llmc_file(data) == [vocabulary.eot, *documents[0], vocabulary.eot, *documents[1]]
    assert sorted(path.name for path in out.iterdir()) == ["train_000000.bin", "vocabulary.tiktoken"]
    assert imported("llm.c", out / "train_000000.bin")[0] == documents, "the vocabulary beside is found"


def test_tokens_before_the_first_end_of_text_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "a.bin", llmc_file([4, 5, EOT, 6]))
    found, summary = imported("llm.c", path)
    assert found == [[4, 5], [6]]
    assert summary.tally.headless == 1
    path = write(tmp_path, "b.bin", llmc_file([4, 5]))
    found, summary = imported("llm.c", path)
    assert (found, summary.tally.headless) == ([[4, 5]], 1)


def test_a_document_goes_on_in_the_next_file(tmp_path: Path) -> None:
    first = write(tmp_path, "a.bin", llmc_file([EOT, 1, EOT, 2]))
    second = write(tmp_path, "b.bin", llmc_file([3, EOT]))
    found, summary = imported("llm.c", first, second)
    assert (found, summary.tally.headless) == ([[1], [2, 3], []], 0)


@pytest.mark.parametrize(("data", "says"), [
    (b"", "has 0 bytes"),
    (bytes(500), "has 500 bytes"),
    (llmc_file([1], magic=20240522), "begins with 20240522, 1"),
    (llmc_file([1], version=2), "begins with 20240520, 2"),
    (llmc_file([EOT, 1], count=3), "ends at byte 1028"),
    (llmc_file([EOT, 1], count=2**31 - 1), "ends at byte 1028"),
    (llmc_file([EOT, 1], count=1), "goes on after byte 1026"),
    (llmc_file([EOT, 1], count=-1), "counts -1 tokens"),
    (llmc_file([EOT, 1])[:-1], "ends at byte 1027"),
    (llmc_file([EOT, 1, 50257]), "token at byte 1028 is 50257"),
    (llmc_file([EOT, 1, 1 << 31], 20240801, 7, "I"), "token at byte 1032 is 2147483648"),
])
def test_damage_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    path = write(tmp_path, "a.bin", data)
    with pytest.raises(BadInput, match=says) as caught:
        imported("llm.c", path)
    assert str(path) in str(caught.value)


def test_four_byte_tokens_of_a_small_vocabulary_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.bin", llmc_file([EOT, 9], 20240801, 7, "I"))
    assert imported("llm.c", path)[0] == [[9]]
