"""Documents to shards: the same bytes however they come in, nothing lost unsaid."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zstandard

from gpt2cli.records.shard import ShardReader
from gpt2cli.reporter import Silent
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.tokenize import TokenizeConfig, tokenize_documents
from gpt2cli.tokens.vocabulary import gpt2_vocabulary, load_vocabulary


def documents_in(data: bytes, vocabulary=None) -> list[str]:
    encoder = Encoder(vocabulary or gpt2_vocabulary())
    return [encoder.decode(ids).decode() for ids in ShardReader(io.BytesIO(data), "x").documents()]


def test_text_comes_back(documents: Path, gpt2) -> None:
    lines = zstandard.ZstdDecompressor().decompress(documents.read_bytes(), max_output_size=1 << 26).splitlines()
    result = gpt2("bpe-tokenize", documents, "--quiet", check=True)
    assert documents_in(result.stdout) == [json.loads(line)["text"] for line in lines]
    assert result.stderr == b""


@pytest.mark.slow
def test_pipes_and_files_give_the_same_bytes(documents: Path, gpt2, tmp_path: Path) -> None:
    """The README's chain: cat docs | bpe-tokenize | pack, against the same through files."""
    packed = documents.read_bytes()
    plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=1 << 26)
    first, rest = plain[: plain.index(b"\n") + 1], plain[plain.index(b"\n") + 1 :]
    (tmp_path / "a.jsonl").write_bytes(first)
    (tmp_path / "b.jsonl").write_bytes(rest)
    gpt2("bpe-tokenize", documents, "-o", tmp_path / "x.tok.zst", check=True)
    shard = (tmp_path / "x.tok.zst").read_bytes()
    assert gpt2("bpe-tokenize", input=packed, check=True).stdout == shard
    assert gpt2("bpe-tokenize", "-", input=plain, check=True).stdout == shard
    assert gpt2("bpe-tokenize", tmp_path / "a.jsonl", tmp_path / "b.jsonl", check=True).stdout == shard
    gpt2("pack", tmp_path / "x.tok.zst", "-o", tmp_path / "from-file", check=True)
    gpt2("pack", "-o", tmp_path / "from-pipe", input=shard, check=True)
    names = sorted(path.name for path in (tmp_path / "from-file").iterdir())
    assert names == ["index.json", "train-00000.tok.zst", "val-00000.tok.zst"]
    for name in names:
        assert (tmp_path / "from-file" / name).read_bytes() == (tmp_path / "from-pipe" / name).read_bytes()


@pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
def test_zstd_shows_the_tokens(gpt2) -> None:
    shard = gpt2("bpe-tokenize", input=b"hello world", check=True).stdout
    tokens = subprocess.run(["zstd", "-dc"], input=shard, capture_output=True, check=True).stdout
    assert np.frombuffer(tokens, "<u2").tolist() == [31373, 995, 50256]


def test_own_vocabulary_travels(vocabulary_file: Path, plays: Path, gpt2) -> None:
    by_option = gpt2("bpe-tokenize", plays / "macbeth.txt", "--vocab", vocabulary_file, "--source", "plays", check=True)
    reader = ShardReader(io.BytesIO(by_option.stdout), "x")
    vocabulary = load_vocabulary(vocabulary_file)
    assert reader.header.vocabulary == vocabulary_file.read_text() == vocabulary.canonical()
    assert (reader.header.tokenizer_sha256, reader.header.source) == (vocabulary.sha256, "plays")
    assert documents_in(by_option.stdout, vocabulary) == [(plays / "macbeth.txt").read_text(encoding="utf-8")]
    by_environment = gpt2("bpe-tokenize", plays / "macbeth.txt", "--source", "plays", check=True,
                          env={"GPT2_VOCAB": str(vocabulary_file)})
    assert by_environment.stdout == by_option.stdout


def test_losses_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"a\\ud800b\\udc00"}\n{"body":1}\n{"text":""}\n')
    (tmp_path / "b.txt").write_bytes(b"\xff!")
    reporter, stream = Silent(), io.BytesIO()
    paths = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.txt")]
    summary = tokenize_documents(paths, stream, TokenizeConfig(), reporter)
    assert documents_in(stream.getvalue()) == ["a\ufffdb\ufffd", "\ufffd!"]
    assert (summary.documents, summary.text_bytes) == (2, 8 + 4)
    said = "\n".join(reporter.warnings)
    assert "2 lone surrogates" in said and "1 byte sequences that are not UTF-8" in said
    assert "1 records with empty text, 1 records without text" in said


def test_empty_input_is_an_empty_shard_and_a_warning(gpt2) -> None:
    result = gpt2("bpe-tokenize", input=b"", check=True)
    assert documents_in(result.stdout) == []
    assert b"the shard is empty" in result.stderr


@pytest.mark.slow
def test_refusals(gpt2, tmp_path: Path, shard: Path, plays: Path) -> None:
    for arguments, status, words in [
        (["nowhere.txt"], 2, "there is no nowhere.txt"),
        ([plays], 2, "is a directory"),
        ([shard], 65, "is a token shard, not text"),
        ([plays / "macbeth.txt", "--vocab", "nowhere"], 2, "no vocabulary at nowhere"),
        ([plays / "macbeth.txt", "--vocab", plays / "macbeth.txt"], 65, "line 1 is no"),
        ([plays / "macbeth.txt", "--format", "jsonl"], 65, "line 1: not JSON"),
        ([plays / "macbeth.txt", "-o", shard], 2, "exists; give --force"),
    ]:
        before = shard.read_bytes()
        result = gpt2("bpe-tokenize", *arguments, cwd=tmp_path)
        assert (result.returncode, words in result.stderr.decode()) == (status, True), result.stderr
        assert result.stderr.count(b"\n") == 1
        assert shard.read_bytes() == before


def test_a_failed_tokenize_leaves_no_file(gpt2, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"a"}\nnonsense\n')
    result = gpt2("bpe-tokenize", tmp_path / "a.jsonl", "-o", tmp_path / "x.tok.zst")
    assert result.returncode == 65
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
