"""An index is believed only as far as the files bear it out, and it can't point outside its directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.shard_set import load_shard_set, seal
from gpt2cli.records.verify import Reading
from gpt2cli.records.verify_shards import verify_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.pack import PackConfig, pack_shards
from gpt2cli.tokens.tokenize import TokenizeConfig, tokenize_documents
from gpt2cli.tokens.vocabulary import gpt2_vocabulary

TEXTS = [f"Document {number}: {'the quick brown fox ' * number}é" for number in range(60)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Sixty documents in several small train files and at least one val file."""
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    with open(tmp_path / "x.tok.zst", "wb") as stream:
        tokenize_documents([str(tmp_path / "docs.jsonl")], stream, TokenizeConfig(), Silent())
    pack_shards([str(tmp_path / "x.tok.zst")], str(tmp_path / "shards"),
                PackConfig(val_fraction=0.2, shard_tokens=1500), Silent())
    return tmp_path / "shards"


def test_splits_are_read_as_one_sequence(shards: Path) -> None:
    found = load_shard_set(shards)
    encoder = Encoder(gpt2_vocabulary())
    assert len(found.files("train")) > 2
    texts = []
    for split in ("train", "val"):
        with found.open(split) as stream:
            tokens = stream.read(0, len(stream))
            assert len(stream) == len(tokens) == found.n_tokens(split)
            draw = np.random.default_rng(0)
            for _ in range(100):
                start, stop = sorted(draw.integers(0, len(tokens) + 1, 2).tolist())
                assert np.array_equal(stream.read(start, stop), tokens[start:stop])
        parts = encoder.decode(tokens).decode().split("<|endoftext|>")
        assert parts.pop() == ""
        assert len(parts) == found.n_documents(split)
        assert sum(len(part.encode()) for part in parts) == found.n_text_bytes(split)
        texts += parts
    assert sorted(texts) == sorted(TEXTS)
    assert (found.n_vocab, found.eot, found.vocabulary, found.index["dtype"]) == (50257, 50256, None, "uint16")


def test_index_json_itself_names_the_set(shards: Path) -> None:
    assert load_shard_set(shards / "index.json").data_sha256 == load_shard_set(shards).data_sha256


def test_unfinished_set_is_refused(shards: Path) -> None:
    (shards / "index.json").unlink()
    with pytest.raises(UsageFault, match=r"holds no index\.json"):
        load_shard_set(shards)


def change(name: str, value: Any, where: Callable[[dict[str, Any]], dict[str, Any]] = lambda index: index
           ) -> Callable[[dict[str, Any]], None]:
    return lambda index: where(index).__setitem__(name, value)


def first_file(index: dict[str, Any]) -> dict[str, Any]:
    return index["files"][0]


@pytest.mark.parametrize(("edit", "words"), [
    (change("name", "../train-00000.tok.zst", first_file), "no file name of a shard set"),
    (change("name", "/etc/passwd", first_file), "no file name of a shard set"),
    (change("name", "val-00000.tok.zst", first_file), "no file name of a shard set"),
    (change("name", "train-00001.tok.zst", first_file), "twice|bytes where"),
    (change("name", "train-99999.tok.zst", first_file), "is missing"),
    (change("bytes", 5, first_file), "bytes where index.json says 5"),
    (change("tokens", 5, first_file), "do not add up"),
    (change("tokens", -5, first_file), "missing or has the wrong form"),
    (change("tokens", "5", first_file), "missing or has the wrong form"),
    (change("files", []), "do not add up"),
    (change("files", None), "missing or has the wrong form"),
    (change("data_sha256", "0" * 64), "data_sha256 does not match"),
    (change("tokenizer_sha256", "0" * 64), "data_sha256 does not match"),
    (change("schema", "gpt2.shards/2"), "written by a newer gpt2"),
    (change("schema", "other"), "no index of a gpt2 shard set"),
])
def test_a_wrong_index_is_refused(shards: Path, edit: Callable[[dict[str, Any]], None], words: str) -> None:
    index = json.loads((shards / "index.json").read_text())
    edit(index)
    (shards / "index.json").write_text(json.dumps(seal(index)))
    with pytest.raises(BadInput, match=words):
        load_shard_set(shards)


def test_exchanged_files_are_noticed_when_read(shards: Path) -> None:
    """Two files of the same size but other contents: the loader can't know, reading and verify do."""
    first = json.loads((shards / "index.json").read_text())["files"][0]
    data = bytearray((shards / first["name"]).read_bytes())
    data[len(data) // 2] ^= 4
    (shards / first["name"]).write_bytes(data)
    found = load_shard_set(shards)
    with pytest.raises(BadInput, match=first["name"]), found.open("train") as stream:
        stream.read(0, len(stream))
    (problem,) = verify_shard_set(shards, Reading(Silent(), "shards")).problems
    assert first["name"] in problem


def test_verify_finds_a_file_that_is_sound_but_another(shards: Path) -> None:
    assert verify_shard_set(shards, Reading(Silent(), "shards")).problems == []
    index = json.loads((shards / "index.json").read_text())
    index["files"][0]["sha256"] = "0" * 64
    (shards / "index.json").write_text(json.dumps(seal(index)))
    (problem,) = verify_shard_set(shards, Reading(Silent(), "shards")).problems
    assert "holds the right tokens, but its bytes are not those that index.json lists" in problem
