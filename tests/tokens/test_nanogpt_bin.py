"""nanoGPT's .bin: what `zstd -dc` gives of a shard, and back again."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import zstandard
from foreign_files import EOT, exported, imported, llmc_file, shard_of, wide_vocabulary

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.reporter import Silent
from gpt2cli.tokens.export_tokens import ExportConfig, export_tokens
from gpt2cli.tokens.vocabulary import gpt2_vocabulary, vocabulary_from_merges


def binary(path: Path, tokens: list[int]) -> Path:
    path.write_bytes(struct.pack(f"<{len(tokens)}H", *tokens))
    return path


def test_it_is_the_decompressed_shard(tmp_path: Path) -> None:
    documents = [[number % 50_000] * (number % 700) for number in range(900)]
    out = exported(tmp_path, "nanogpt", documents)
    reader = zstandard.ZstdDecompressor().stream_reader((tmp_path / "in.tok.zst").read_bytes(), read_across_frames=True)
    assert (out / "train.bin").read_bytes() == reader.read()
    assert imported("nanogpt", out / "train.bin")[0] == documents


@pytest.mark.parametrize(("tokens", "documents", "unended"), [
    ([1, 2, EOT], [[1, 2]], 0),
    ([1, 2, EOT, 3], [[1, 2], [3]], 1),
    ([1, 2], [[1, 2]], 1),
    ([EOT, EOT, 5, EOT], [[], [], [5]], 0),
    ([], [], 0),
])
def test_a_last_document_without_end_of_text_gets_one(tmp_path: Path, tokens: list[int], documents: list[list[int]],
                                                      unended: int) -> None:
    reporter = Silent()
    found, summary = imported("nanogpt", binary(tmp_path / "train.bin", tokens), reporter=reporter)
    assert (found, summary.tally.unended) == (documents, unended)
    assert any("had no end-of-text at the end" in line for line in reporter.warnings) == bool(unended)


def test_files_are_not_joined(tmp_path: Path) -> None:
    paths = [binary(tmp_path / "a.bin", [1]), binary(tmp_path / "b.bin", [2, EOT])]
    assert imported("nanogpt", *paths)[0] == [[1], [2]]


def test_two_byte_tokens_only(tmp_path: Path) -> None:
    (tmp_path / "x.tok.zst").write_bytes(shard_of([[1]], wide_vocabulary()))
    with pytest.raises(UsageFault, match="2-byte tokens, and the vocabulary has 65,961 ids"):
        export_tokens([str(tmp_path / "x.tok.zst")], str(tmp_path / "out"), ExportConfig("nanogpt"), Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["x.tok.zst"]
    (tmp_path / "wide.vocab").write_text(wide_vocabulary().canonical())
    with pytest.raises(UsageFault, match="65,961"):
        imported("nanogpt", binary(tmp_path / "train.bin", [1]), vocab=str(tmp_path / "wide.vocab"))


@pytest.mark.parametrize(("data", "says"), [
    (struct.pack("<2H", 1, 2) + b"\0", "ends at byte 5, where tokens of 2 bytes would go on"),
    (struct.pack("<3H", 1, 2, 50257), "token at byte 4 is 50257, and the vocabulary has 50,257 ids"),
    (llmc_file([EOT, 1]), "--from llm.c"),
    (shard_of([[1, 2, 3]]), "is a token shard already"),
])
def test_what_it_is_not(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "train.bin").write_bytes(data)
    with pytest.raises(BadInput, match=says):
        imported("nanogpt", tmp_path / "train.bin")


def test_a_pickle_beside_it_is_not_read(tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    (tmp_path / "meta.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.")
    reporter = Silent()
    imported("nanogpt", binary(tmp_path / "train.bin", [1, EOT]), reporter=reporter)
    assert not canary.exists()
    assert any("meta.pkl was not read" in line for line in reporter.warnings)


def test_ids_of_a_small_vocabulary_are_suspected(tmp_path: Path) -> None:
    """Shakespeare by characters, 65 ids, taken for GPT-2's: each id is in range, and all is wrong."""
    reporter = Silent()
    imported("nanogpt", binary(tmp_path / "train.bin", [number % 65 for number in range(10_000)]), reporter=reporter)
    assert any("the largest id is 64 where the vocabulary has 50,257" in line for line in reporter.warnings)
    reporter = Silent()
    imported("nanogpt", binary(tmp_path / "val.bin", [*range(40_000), EOT]), reporter=reporter)
    assert reporter.warnings == []


def test_the_vocabulary_beside_is_taken_unless_another_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("GPT2_VOCAB", raising=False)
    small = vocabulary_from_merges([(b"t", bytes([byte])) for byte in b"abcdefghijklm"], "small")
    out = exported(tmp_path, "nanogpt", [[65, 66], [67]], small)
    assert (out / "vocabulary.tiktoken").read_text() == small.canonical()
    found, summary = imported("nanogpt", out / "train.bin")
    assert found == [[65, 66], [67]]
    assert summary.text_bytes == 3
    _, summary = imported("nanogpt", out / "train.bin", vocab=_gpt2_file(tmp_path))
    assert summary.tally.unended == 1, "269 is no end-of-text in GPT-2's vocabulary"


def _gpt2_file(directory: Path) -> str:
    (directory / "gpt2.tiktoken").write_text(gpt2_vocabulary().canonical())
    return str(directory / "gpt2.tiktoken")
