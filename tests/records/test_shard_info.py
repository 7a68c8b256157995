"""What info says is what the independent reader finds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from foreign_files import shard_of

from gpt2cli.errors import BadInput
from gpt2cli.records.shard_info import shard_info

DOCUMENTS = [[1] * 200_000, [2, 3], []]


def test_counts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.tok.zst"
    path.write_bytes(shard_of(DOCUMENTS, source="web"))
    info = shard_info(str(path))
    assert (info["kind"], info["tokens"], info["documents"]) == ("shard", 200_005, 3)
    assert (info["shortest_document"], info["median_document"], info["longest_document"]) == (1, 3.0, 200_001)
    assert (info["bytes"], info["frames"], info["joined"]) == (path.stat().st_size, 2, 1)
    assert info["compression_ratio"] == round(400_010 / path.stat().st_size, 4)
    assert (info["n_vocab"], info["eot"], info["dtype"]) == (50257, 50256, "uint16")
    assert info["source"] == "web" and info["carries_vocabulary"] is False
    assert info["text_bytes"] is None and info["bytes_per_token"] is None


def test_text_and_digests(shard: Path, documents: Path) -> None:
    import zstandard

    lines = zstandard.ZstdDecompressor().decompress(documents.read_bytes(), max_output_size=1 << 26).splitlines()
    texts = [json.loads(line)["text"].encode() for line in lines]
    info = shard_info(str(shard))
    assert info["text_bytes"] == sum(map(len, texts))
    assert info["bytes_per_token"] == round(info["text_bytes"] / info["tokens"], 4)
    assert info["carries_vocabulary"] is True
    assert len(info["sha256"]) == len(info["input_sha256"]) == 64


def test_standard_input_and_joined_shards_say_the_same(shard: Path, tmp_path: Path, monkeypatch) -> None:
    once = shard_info(str(shard))
    (tmp_path / "twice").write_bytes(shard.read_bytes() * 2)
    twice = shard_info(str(tmp_path / "twice"))
    assert (twice["tokens"], twice["text_bytes"], twice["joined"]) == (2 * once["tokens"], 2 * once["text_bytes"], 2)
    assert twice["sha256"] is None
    for path, info in ((shard, once), (tmp_path / "twice", twice)):
        with open(path, encoding="utf-8") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert shard_info("-") == {**info, "path": "-"}


def test_a_set_adds_up(shard_directory: Path, shard: Path) -> None:
    info, one = shard_info(str(shard_directory)), shard_info(str(shard))
    assert info["kind"] == "shard set"
    for field in ("tokens", "documents", "text_bytes", "shortest_document", "median_document", "longest_document"):
        assert info[field] == one[field], field
    assert info["tokens"] == sum(split["tokens"] for split in info["splits"].values())
    assert info["bytes"] == sum(path.stat().st_size for path in shard_directory.glob("*.tok.zst"))
    assert info["data_sha256"] == json.loads((shard_directory / "index.json").read_text())["data_sha256"]
    assert shard_info(str(shard_directory / "index.json"))["tokens"] == info["tokens"]


def test_damage_and_strangers(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"To be, or not to be")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "cut").write_bytes(shard_of(DOCUMENTS)[:-40])
    for name in ("text", "empty", "cut"):
        with pytest.raises(BadInput, match=name):
            shard_info(str(tmp_path / name))


def test_nothing_in_it(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(shard_of([]))
    info = shard_info(str(tmp_path / "x"))
    assert (info["tokens"], info["documents"], info["longest_document"], info["frames"]) == (0, 0, None, 0)
