"""Directories of tokenizer files, from any of the tools that write them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.tokens.export_vocabulary import export_directory, vocabulary_file
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary, load_vocabulary


@pytest.fixture(scope="module")
def own(vocabulary_file: Path) -> Vocabulary:
    return load_vocabulary(vocabulary_file)


@pytest.fixture
def directory(own: Vocabulary, tmp_path: Path) -> Path:
    write_tokenizer_files(own, tmp_path)
    return tmp_path


def test_slow_tokenizers_pair(own: Vocabulary, directory: Path) -> None:
    """Also with end-of-text first, which merges.txt alone cannot say."""
    (directory / "tokenizer.json").unlink()
    assert load_vocabulary(directory) == own
    moved = Vocabulary({token: rank + 1 for token, rank in own.ranks.items()}, 0)
    write_tokenizer_files(moved, directory)
    (directory / "tokenizer.json").unlink()
    assert load_vocabulary(directory) == moved
    (directory / "vocab.json").write_text("{}")
    with pytest.raises(BadInput, match=r"has no <\|endoftext\|>"):
        load_vocabulary(directory)


def test_merges_alone_openais_pair_and_tiktoken(own: Vocabulary, tmp_path: Path) -> None:
    (tmp_path / "vocab.bpe").write_bytes(vocabulary_file(own, "vocab.bpe"))
    assert load_vocabulary(tmp_path) == own
    (tmp_path / "encoder.json").write_bytes(vocabulary_file(own, "encoder.json"))
    assert load_vocabulary(tmp_path) == own
    (tmp_path / "encoder.json").write_bytes(vocabulary_file(gpt2_vocabulary(), "encoder.json"))
    with pytest.raises(BadInput, match="not in order of id"):
        load_vocabulary(tmp_path)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    (tmp_path / "a.tiktoken").write_bytes(vocabulary_file(own, "tiktoken"))
    assert load_vocabulary(tmp_path) == own
    (tmp_path / "b.tiktoken").write_bytes(vocabulary_file(own, "tiktoken"))
    with pytest.raises(UsageFault, match=r"several .tiktoken files; name one, such as .*a\.tiktoken"):
        load_vocabulary(tmp_path)


def test_tiktokens_cache(tmp_path: Path) -> None:
    export_directory(gpt2_vocabulary(), "cache-dir", tmp_path / "cache")
    assert load_vocabulary(tmp_path / "cache").is_gpt2


@pytest.mark.parametrize(("change", "words"), [
    (lambda d: (d / "tokenizer_config.json").write_text('{"add_prefix_space": true}'), "sets add_prefix_space"),
    (lambda d: (d / "tokenizer_config.json").write_text('{"add_bos_token": true}'), "sets add_bos_token"),
    (lambda d: (d / "tokenizer_config.json").write_text("[]"), "no JSON object"),
    (lambda d: (d / "tokenizer_config.json").write_text("[" * 100_000), "not JSON"),
    (lambda d: (d / "tokenizer_config.json").write_text(
        '{"added_tokens_decoder": {"511": {"content": "<|endoftext|>"}, "512": {"content": "<pad>"}}}'),
     "other added tokens.*<pad>"),
    (lambda d: (d / "added_tokens.json").write_text('{"<mask>": 512}'), "other added tokens.*<mask>"),
    (lambda d: (d / "tokenizer.json").write_text("{}"), "has no model"),
])
def test_settings_that_change_ids_are_refused(directory: Path, change: Callable, words: str) -> None:
    change(directory)
    with pytest.raises(BadInput, match=words):
        load_vocabulary(directory)


def test_settings_of_gpt2s_own_are_no_obstacle(own: Vocabulary, directory: Path) -> None:
    (directory / "tokenizer_config.json").write_text(json.dumps(
        {"model_max_length": 1024, "added_tokens_decoder": {"511": {"content": "<|endoftext|>", "special": True}}}))
    (directory / "added_tokens.json").write_text('{"<|endoftext|>": 511}')
    assert load_vocabulary(directory) == own


def test_an_empty_directory_is_no_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no vocabulary"):
        load_vocabulary(tmp_path)
