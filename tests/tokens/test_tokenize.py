"""Documents to shards: the same bytes however they come in, nothing lost unsaid."""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput
from gpt2cli.records.shard import ShardReader
from gpt2cli.reporter import Silent
from gpt2cli.tokens import documents as reading
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.tokenize import TokenizeConfig, tokenize_documents
from gpt2cli.tokens.vocabulary import gpt2_vocabulary, load_vocabulary


@functools.cache
def gpt2_encoder() -> Encoder:
    return Encoder(gpt2_vocabulary())


def documents_in(data: bytes, vocabulary=None) -> list[str]:
    encoder = Encoder(vocabulary) if vocabulary else gpt2_encoder()
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
    assert reader.header.vocabulary == vocabulary.canonical()
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
    assert "2 lone surrogates" in said and f"{tmp_path}/a.jsonl line 1" in said
    assert "1 byte sequences that are not UTF-8" in said and f"{tmp_path}/b.txt, byte 0" in said
    with pytest.raises(BadInput, match=r"2 lone surrogates.*--strict"):
        tokenize_documents(paths, io.BytesIO(), TokenizeConfig(strict=True), Silent())
    assert "1 record with empty text, 1 record without text" in said


def test_empty_input_is_an_empty_shard_and_a_warning(gpt2) -> None:
    result = gpt2("bpe-tokenize", input=b"", check=True)
    assert documents_in(result.stdout) == []
    assert b"the shard is empty" in result.stderr


@pytest.mark.slow
def test_refusals(gpt2, tmp_path: Path, shard: Path, plays: Path) -> None:
    for arguments, status, words in [
        (["nowhere.txt"], 2, "there is no nowhere.txt"),
        ([tmp_path], 65, "there is no text file in"),
        ([plays / "macbeth.txt", "--split-on", "x", "--format", "jsonl"], 2, "--split-on cuts plain text"),
        ([shard], 65, "is a token shard, not text"),
        ([plays / "macbeth.txt", "--vocab", "nowhere"], 2, "no vocabulary at nowhere"),
        ([plays / "macbeth.txt", "--vocab", plays / "macbeth.txt"], 65, "macbeth.txt line"),
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


@pytest.fixture(scope="module")
def round_trip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round-trip") / "input"


def tokenized(path: Path, **config: object) -> bytes:
    stream = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpt2cli.tokens.tokenize.Encoder", lambda vocabulary: gpt2_encoder())  # a new one takes 0.1 s
        tokenize_documents([str(path)], stream, TokenizeConfig(**config), Silent())  # type: ignore[arg-type]
    return stream.getvalue()


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(), max_size=5), ascii_only=st.booleans())
@example(texts=["\r\n\x00\u2028 \ufeff<|endoftext|>\ud800"], ascii_only=True)
def test_arbitrary_unicode_comes_back_from_a_file(texts: list[str], ascii_only: bool, round_trip_file: Path) -> None:
    lines = "".join(json.dumps({"text": text}, ensure_ascii=ascii_only) + "\n" for text in texts)
    round_trip_file.write_bytes(lines.encode("utf-8", "surrogatepass"))
    whole = [text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for text in texts if text]
    shard = tokenized(round_trip_file, form="jsonl")
    assert documents_in(shard) == whole or not ascii_only  # a raw surrogate is three bytes that are no UTF-8
    ids = b"".join(gpt2_encoder().decode(ids) for ids in ShardReader(io.BytesIO(shard), "x").documents())
    assert ids.decode().replace("\ufffd", "") == "".join(whole).replace("\ufffd", "")
    if texts and texts[0]:
        round_trip_file.write_bytes(texts[0].encode("utf-8", "replace"))
        assert documents_in(tokenized(round_trip_file, form="text")) == [texts[0].encode("utf-8", "replace").decode()]


@settings(max_examples=100, deadline=None)
@given(data=st.binary(min_size=1), block=st.integers(1, 9))
@example(data=b"\xf0\x9f\x99\xef\xbf\xbd\xe6\x9d", block=3)
def test_arbitrary_bytes_come_back_from_a_file(data: bytes, block: int, round_trip_file: Path) -> None:
    """Bytes that are UTF-8 come back as they were, others as Python's own decoder replaces them; in any blocks."""
    if data[:4] == b"\x28\xb5\x2f\xfd" or data[1:4] == b"\x2a\x4d\x18":
        return
    round_trip_file.write_bytes(data)
    shard = tokenized(round_trip_file, form="text")
    assert documents_in(shard) == [data.decode("utf-8", "replace")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", block)
        patch.setattr(reading, "LONG_LINE", 1)
        patch.setattr("gpt2cli.tokens.tokenize.BLOCK", block)
        assert tokenized(round_trip_file, form="text") == shard


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, documents: Path, plays: Path) -> Path:
    """A directory that takes every path: batches of lines, small files, a long line, long texts; some lack spaces."""
    directory = tmp_path_factory.mktemp("mixed") / "mixed"
    shutil.copytree(plays, directory / "plays")
    lines = zstandard.ZstdDecompressor().decompress(documents.read_bytes(), max_output_size=1 << 26)
    (directory / "a.jsonl").write_bytes(lines * 8)
    play = (plays / "macbeth.txt").read_text(encoding="utf-8")
    with open(directory / "b.jsonl", "w", encoding="utf-8") as file:
        file.write(json.dumps({"text": "first \ud800"}) + "\n" + json.dumps({"text": play * 40, "n": 1}) + "\n")
        file.write(json.dumps({"n": 1, "body": play * 30}) + "\n" + json.dumps({"text": "last"}) + "\n")
    (directory / "c.txt").write_bytes((play * 30).encode() + b"\xff" + b"=" * 1_500_000 + play.encode() * 20)
    (directory / "d.txt").write_text("\u6771\u4eac" * 300_000, encoding="utf-8")
    return directory


@pytest.mark.slow
def test_any_number_of_jobs_gives_the_same_bytes(mixed: Path, gpt2) -> None:
    one = gpt2("bpe-tokenize", "-q", mixed, "-j", 1, check=True)
    for jobs in (2, 3):
        more = gpt2("bpe-tokenize", "-q", mixed, "-j", jobs, check=True)
        assert more.stdout == one.stdout
        assert more.stderr == one.stderr
    play = (mixed / "plays" / "macbeth.txt").read_text(encoding="utf-8")
    texts = documents_in(one.stdout)
    assert texts[-8:] == [
        "first \ufffd", play * 40, "last", play * 30 + "\ufffd" + "=" * 1_500_000 + play * 20, "\u6771\u4eac" * 300_000,
        *((mixed / "plays" / name).read_text(encoding="utf-8") for name in ("macbeth.txt", "the-tempest.txt",
                                                                            "twelfth-night.txt"))]
    # every way in which a text was cut gives what the whole gives
    encoder, reader = gpt2_encoder(), ShardReader(io.BytesIO(one.stdout), "x")
    for text, ids in list(zip(texts, reader.documents(), strict=True))[-8:]:
        assert np.array_equal(encoder.encode(text), ids)
    assert b"1 record without text" in one.stderr and b"c.txt, byte 1200000" in one.stderr


def children_of(process: int) -> list[int]:
    """Return the process ids of a process's children."""
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def started(gpt2_popen, *arguments: object, **keywords: object):
    """Start a tokenize of an endless pipe with two workers; return it when they run."""
    process = gpt2_popen("bpe-tokenize", "-j", 2, *arguments, stdin=subprocess.PIPE, stderr=subprocess.PIPE, **keywords)
    process.stdin.write(b'{"text":"some words of text"}\n' * 100_000)
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while len(children_of(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    return process, children_of(process.pid)


def gone(processes: list[int]) -> bool:
    """Whether all processes end within seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{number}/cmdline").is_file() and Path(f"/proc/{number}/cmdline").read_bytes()
                   for number in processes):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_it_leaves_neither_file_nor_process(gpt2_popen, gpt2, tmp_path: Path, number: signal.Signals) -> None:
    process, workers = started(gpt2_popen, "-o", tmp_path / "x.tok.zst")
    assert len(workers) == 2
    process.send_signal(number)
    began = time.monotonic()
    assert process.wait(10) == -number
    assert time.monotonic() - began < 2
    process.stdin.close()
    process.stderr.close()
    assert gone(workers)
    assert not (tmp_path / "x.tok.zst").exists()
    if number != signal.SIGKILL:
        return
    text = b'{"text":"some words of text"}\n' * 40_000
    first = gpt2("bpe-tokenize", "-j", 2, "-o", tmp_path / "x.tok.zst", input=text, check=True)
    assert first.stdout == b""
    assert (tmp_path / "x.tok.zst").read_bytes() == gpt2("bpe-tokenize", "-j", 1, input=text, check=True).stdout


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
@pytest.mark.slow
def test_a_dead_worker_is_one_sentence_and_a_failure(gpt2_popen, tmp_path: Path) -> None:
    process, workers = started(gpt2_popen, "-q", "-o", tmp_path / "x.tok.zst")
    os.kill(workers[0], signal.SIGKILL)
    try:
        process.stdin.write(b'{"text":"some words of text"}\n' * 200_000)
        process.stdin.close()
    except BrokenPipeError:
        pass
    said = process.stderr.read().decode()
    assert process.wait(20) == 1
    process.stderr.close()
    assert said.count("\n") == 1 and "a worker process was killed by signal 9" in said
    assert gone(workers)
    assert list(tmp_path.iterdir()) == []
