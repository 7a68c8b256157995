"""The split is by content, complete, never empty, and the same however and whenever it is made."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.shard import ShardHeader, ShardReader, ShardWriter
from gpt2cli.records.shard_set import load_shard_set
from gpt2cli.reporter import Silent
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.pack import PackConfig, PackSummary, pack_shards
from gpt2cli.tokens.tokenize import shard_header
from gpt2cli.tokens.vocabulary import gpt2_vocabulary

TEXTS = [f"Document {number} is not like {number * 7919 % 1000}.\n" * (number % 9 + 1) for number in range(400)]


def shard_of(texts: list[str]) -> bytes:
    encoder, stream = Encoder(gpt2_vocabulary()), io.BytesIO()
    writer = ShardWriter(stream, shard_header(gpt2_vocabulary()))
    for text in texts:
        writer.write_document(encoder.encode(text), len(text.encode()))
    writer.close("0" * 64)
    return stream.getvalue()


def pack(tmp_path: Path, texts: list[str], config: PackConfig, name: str = "set") -> PackSummary:
    (tmp_path / "x.tok.zst").write_bytes(shard_of(texts))
    return pack_shards([str(tmp_path / "x.tok.zst")], str(tmp_path / name), config, Silent())


def split_texts(directory: Path) -> dict[str, list[str]]:
    encoder = Encoder(gpt2_vocabulary())
    found = load_shard_set(directory)
    return {split: [encoder.decode(ids).decode() for entry in found.files(split)
                    for ids in ShardReader(io.BytesIO((directory / entry.name).read_bytes()), "x").documents()]
            for split in ("train", "val")}


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_nothing_is_lost_and_order_is_kept(tmp_path: Path) -> None:
    summary = pack(tmp_path, TEXTS, PackConfig(val_fraction=0.25))
    found = split_texts(tmp_path / "set")
    assert sorted(found["train"] + found["val"]) == sorted(TEXTS)
    for split in found.values():
        assert split == [text for text in TEXTS if text in set(split)]
    assert 60 < len(found["val"]) < 140
    assert summary.documents == {split: len(texts) for split, texts in found.items()}
    assert load_shard_set(tmp_path / "set").n_text_bytes("val") == sum(len(text.encode()) for text in found["val"])


def test_split_is_by_content_not_by_order(tmp_path: Path) -> None:
    config = PackConfig(val_fraction=0.3)
    pack(tmp_path, TEXTS, config, "a")
    pack(tmp_path, TEXTS[::-1], config, "b")
    pack(tmp_path, TEXTS[:200], config, "c")
    a, b, c = (split_texts(tmp_path / name) for name in "abc")
    assert set(a["val"]) == set(b["val"])
    assert set(c["val"]) == set(a["val"]) & set(TEXTS[:200])
    pack(tmp_path, TEXTS * 2, config, "d")
    d = split_texts(tmp_path / "d")
    assert not set(d["val"]) & set(d["train"]), "equal documents are never on both sides"


def test_seed_changes_the_split_and_nothing_else_does(tmp_path: Path) -> None:
    pack(tmp_path, TEXTS, PackConfig(val_fraction=0.3), "a")
    pack(tmp_path, TEXTS, PackConfig(val_fraction=0.3, seed=1), "b")
    pack(tmp_path, TEXTS, PackConfig(val_fraction=0.3), "again")
    pack(tmp_path, TEXTS, PackConfig(val_fraction=0.3, shard_tokens=700), "many")
    assert set(split_texts(tmp_path / "a")["val"]) != set(split_texts(tmp_path / "b")["val"])
    assert contents(tmp_path / "a") == contents(tmp_path / "again")
    a, many = load_shard_set(tmp_path / "a"), load_shard_set(tmp_path / "many")
    assert a.data_sha256 == many.data_sha256
    assert len(many.files("train")) > 5
    for split in ("train", "val"):
        assert np.array_equal(a.open(split).read(0, a.n_tokens(split)), many.open(split).read(0, a.n_tokens(split)))
        *full, _ = many.files(split)
        assert all(entry.tokens >= 700 for entry in full)


@pytest.mark.parametrize(("texts", "fraction", "train", "val"), [
    (TEXTS[:2], 0.0, 1, 1), (TEXTS[:30], 0.0, 29, 1), (TEXTS[:3], 0.999999, 2, 1),
    ([TEXTS[0]] * 3 + [TEXTS[1]], 0.0, None, None),
])
def test_no_split_is_empty(tmp_path: Path, texts: list[str], fraction: float, train: int | None, val: int | None
                           ) -> None:
    pack(tmp_path, texts, PackConfig(val_fraction=fraction))
    found = split_texts(tmp_path / "set")
    assert sorted(found["train"] + found["val"]) == sorted(texts)
    assert found["train"] and found["val"] and not set(found["train"]) & set(found["val"])
    assert train is None or (len(found["train"]), len(found["val"])) == (train, val)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["index.json", "train-00000.tok.zst",
                                                                         "val-00000.tok.zst"]
    assert set(map(hash_of, found["val"])) == {min(map(hash_of, texts))}


def hash_of(text: str) -> int:
    """The hash that gpt2-shard(5) splits documents by, for seed 0."""
    ids = Encoder(gpt2_vocabulary()).encode(text).astype("<u4").tobytes()
    return int.from_bytes(hashlib.blake2b(ids, digest_size=8, key=bytes(8)).digest(), "little")


@pytest.mark.parametrize(("texts", "fraction", "size"), [
    (["word " * 5000], 0.005, 1024), (["word " * 5000], 0.5, 2500), (["word " * 100], 0.005, 50), (["a b"], 0.9, 1),
    (["same " * 3000] * 4, 0.005, 1024),
])
def test_one_document_is_cut(tmp_path: Path, texts: list[str], fraction: float, size: int) -> None:
    reporter = Silent()
    (tmp_path / "x.tok.zst").write_bytes(shard_of(texts))
    pack_shards([str(tmp_path / "x.tok.zst")], str(tmp_path / "set"), PackConfig(val_fraction=fraction), reporter)
    found = split_texts(tmp_path / "set")
    assert "".join(found["train"] + found["val"]) == "".join(texts)
    assert abs(load_shard_set(tmp_path / "set").n_tokens("val") - 1 - size) <= 1
    assert load_shard_set(tmp_path / "set").index["pack"]["documents_cut"] == 1
    assert "only one document" in reporter.notes[0]


def test_a_single_token_can_not_be_cut(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="too little"):
        pack(tmp_path, ["a"], PackConfig())
    assert [path.name for path in tmp_path.iterdir()] == ["x.tok.zst"]


def test_joined_and_several_inputs_are_the_same(tmp_path: Path, gpt2) -> None:
    parts = [shard_of(TEXTS[:150]), shard_of(TEXTS[150:])]
    for name, part in zip("ab", parts, strict=True):
        (tmp_path / f"{name}.tok.zst").write_bytes(part)
    gpt2("pack", tmp_path / "a.tok.zst", tmp_path / "b.tok.zst", "-o", tmp_path / "files", check=True)
    gpt2("pack", "-o", tmp_path / "pipe", input=b"".join(parts), check=True)
    assert contents(tmp_path / "files") == contents(tmp_path / "pipe")
    index = json.loads((tmp_path / "pipe" / "index.json").read_text())
    assert [part["documents"] for part in index["inputs"]] == [150, 250]


@pytest.mark.slow
def test_refusals_leave_nothing(tmp_path: Path, gpt2, shard: Path) -> None:
    (tmp_path / "gpt2.tok.zst").write_bytes(shard_of(TEXTS[:5]))
    (tmp_path / "cut.tok.zst").write_bytes(shard_of(TEXTS)[:-100])
    (tmp_path / "empty.tok.zst").write_bytes(shard_of([]))
    (tmp_path / "docs.jsonl").write_text('{"text":"a"}\n')
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    for arguments, status, words in [
        (["gpt2.tok.zst", shard, "-o", "s"], 65, "is in another vocabulary"),
        (["cut.tok.zst", "-o", "s"], 65, "cut.tok.zst"),
        (["empty.tok.zst", "-o", "s"], 65, "no document"),
        (["docs.jsonl", "-o", "s"], 65, "holds no token shard at byte 0; `gpt2 bpe-tokenize` makes one"),
        (["gpt2.tok.zst", "-o", "mine", "--force"], 2, "holds 'thesis.txt', which is no part of a shard set"),
        (["gpt2.tok.zst", "-o", "gpt2.tok.zst", "-f"], 2, "is no directory"),
        (["gpt2.tok.zst", "-o", "no/where"], 2, "does not exist"),
        (["gpt2.tok.zst", "-o", "s", "--val-fraction", 1], 2, "--val-fraction"),
        (["gone.tok.zst", "-o", "s"], 2, "there is no gone.tok.zst"),
    ]:
        result = gpt2("pack", *arguments, cwd=tmp_path)
        assert (result.returncode, words in result.stderr.decode()) == (status, True), (arguments, result.stderr)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_is_answered_with_advice(tmp_path: Path, gpt2, shard: Path) -> None:
    gpt2("pack", shard, "-o", tmp_path / "set", check=True)
    (tmp_path / "shards").mkdir()
    for directory, words in [("set", "is a shard set, packed already; to pack it anew give its files"),
                             ("shards", "is a directory; give the token shards in it")]:
        result = gpt2("pack", tmp_path / directory, "-o", tmp_path / "other")
        assert result.returncode == 2 and words in result.stderr.decode()


@pytest.mark.parametrize("settings", [{}, {"shuffle": True}, {"method": "best-fit", "context": 16}])
@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_damage_is_refused_before_anything_has_its_name(tmp_path: Path, settings: dict[str, object], fraction: float
                                                        ) -> None:
    (tmp_path / "good.tok.zst").write_bytes(shard_of(TEXTS))
    whole = shard_of(TEXTS[:100])
    for number, damaged in enumerate([whole[:-40], whole[:300] + b"?" + whole[301:], whole[: len(whole) // 2]]):
        (tmp_path / "bad.tok.zst").write_bytes(damaged)
        with pytest.raises(BadInput, match=r"bad\.tok\.zst"):
            pack_shards([str(tmp_path / "good.tok.zst"), str(tmp_path / "bad.tok.zst")], str(tmp_path / "set"),
                        PackConfig(val_fraction=fraction, **settings), Silent())  # type: ignore[arg-type]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tok.zst", "good.tok.zst"], number


@pytest.mark.parametrize("settings", [{"shuffle": True}, {"jobs": 3}, {"method": "best-fit", "context": 16}])
def test_the_split_is_one_and_the_same_however_it_is_packed(tmp_path: Path, settings: dict[str, object]) -> None:
    pack(tmp_path, TEXTS, PackConfig(val_fraction=0.2), "plain")
    pack(tmp_path, TEXTS, PackConfig(val_fraction=0.2, **settings), "other")  # type: ignore[arg-type]
    plain, other = split_texts(tmp_path / "plain"), split_texts(tmp_path / "other")
    for split in ("train", "val"):
        assert sorted(plain[split]) == sorted(text for text in other[split] if text)
        assert (plain[split] == other[split]) == ("jobs" in settings)


@pytest.mark.parametrize("settings", [{"shuffle": True}, {"method": "best-fit", "context": 16}])
@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[:1] * 5, TEXTS[:2], TEXTS[:30]])
def test_no_split_is_empty_however_it_is_packed(tmp_path: Path, settings: dict[str, object], texts: list[str]) -> None:
    summary = pack(tmp_path, texts, PackConfig(val_fraction=0.0, **settings))  # type: ignore[arg-type]
    found = split_texts(tmp_path / "set")
    assert sorted("".join(found["train"] + found["val"])) == sorted("".join(texts))
    assert summary.documents["val"] == 1 and summary.documents["train"] == max(1, len(texts) - (len(set(texts)) > 1))


def test_statistics_are_said_and_kept(tmp_path: Path, gpt2) -> None:
    texts = ["one two three", "four", "five six " * 300]
    (tmp_path / "x.tok.zst").write_bytes(shard_of(texts * 10))
    result = gpt2("pack", "x.tok.zst", "-o", "set", "--pack", "best-fit", "--context", 64, "--val-fraction", 0.4,
                  cwd=tmp_path, check=True)
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    lengths = [len(Encoder(gpt2_vocabulary()).encode(text)) + 1 for text in texts]
    assert lengths == [4, 2, 602]
    counted: dict[str, int] = {}
    for split in ("train", "val"):
        totals = index["splits"][split]
        for least, count in totals["lengths"].items():
            counted[least] = counted.get(least, 0) + count
        assert totals["documents"] == sum(totals["lengths"].values()) + totals["padding_tokens"]
        assert totals["tokens"] % 64 == 1
    assert counted == {"2": 10, "4": 10, "512": 10}
    assert index["pack"]["documents_cut"] == 10
    said = result.stderr.decode()
    text_bytes = sum(len(text) for text in texts) * 10
    for words in [f"{index['splits']['train']['text_bytes']:,} bytes of text", "512 to 1,023", "10  33.3 %",
                  "10 documents cut", "tokens of padding",
                  *(f"({part['text_bytes'] / (part['tokens'] - part['padding_tokens']):.3f} bytes per token)"
                    for part in index["splits"].values())]:
        assert words in said, said
    assert sum(index["splits"][split]["text_bytes"] for split in ("train", "val")) == text_bytes


@pytest.mark.parametrize("options", [(), ("--shuffle",), ("--val-fraction", "0", "-j", "2")])
def test_a_full_disk_is_an_io_error_and_leaves_nothing(tmp_path: Path, bash, options: tuple[str, ...]) -> None:
    """A limit on the size of a file stands for the disk."""
    generator = np.random.default_rng(0)
    stream = io.BytesIO()
    writer = ShardWriter(stream, shard_header(gpt2_vocabulary()))
    for _ in range(200):
        writer.write_document(generator.integers(0, 50_000, 3000))
    writer.close(None)
    (tmp_path / "x.tok.zst").write_bytes(stream.getvalue())
    result = bash(f"ulimit -f 3; gpt2 pack x.tok.zst -o set {' '.join(options)}", cwd=tmp_path)
    assert result.returncode == 74, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.tok.zst"]


def test_existing_set_needs_force(tmp_path: Path) -> None:
    pack(tmp_path, TEXTS, PackConfig())
    before = contents(tmp_path / "set")
    with pytest.raises(UsageFault, match="exists; give --force"):
        pack(tmp_path, TEXTS[:50], PackConfig())
    assert contents(tmp_path / "set") == before
    pack(tmp_path, TEXTS[:50], PackConfig(force=True))
    assert load_shard_set(tmp_path / "set").n_documents("train") < 50


def test_a_vocabulary_that_is_not_there_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = ShardWriter(stream, ShardHeader(50257, 50256, "5" * 64))
    writer.write_document(np.array([1, 2]))
    writer.close(None)
    (tmp_path / "x.tok.zst").write_bytes(stream.getvalue())
    with pytest.raises(BadInput, match="doesn't carry"):
        pack_shards([str(tmp_path / "x.tok.zst")], str(tmp_path / "set"), PackConfig(), Silent())


@pytest.mark.parametrize("options", [
    (), pytest.param(("--shuffle", "--pack", "best-fit", "--context", "32", "-j", "2"), marks=pytest.mark.slow)])
def test_killed_pack_leaves_no_set_and_the_next_one_is_whole(tmp_path: Path, gpt2, gpt2_popen,
                                                             options: tuple[str, ...]) -> None:
    """Standard input is a pipe that never ends, so pack is surely at work when it is killed."""
    shard = shard_of(TEXTS)
    (tmp_path / "x.tok.zst").write_bytes(shard)
    gpt2("pack", "x.tok.zst", "-o", "calm", *options, cwd=tmp_path, check=True)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        reader, writer = os.pipe()
        process = gpt2_popen("pack", "-o", "set", *options, cwd=tmp_path, stdin=reader, stderr=-3)
        os.close(reader)
        os.write(writer, shard[: len(shard) // 2])
        deadline = time.monotonic() + 20
        while not (tmp_path / f".set.tmp-{process.pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(20) == -number
        os.close(writer)
        assert not (tmp_path / "set").exists()
        assert bool(list(tmp_path.glob(".set.tmp-*"))) == (number == signal.SIGKILL)
    gpt2("pack", "x.tok.zst", "-o", "set", *options, cwd=tmp_path, check=True)
    assert contents(tmp_path / "set") == contents(tmp_path / "calm")
    assert not list(tmp_path.glob(".set.tmp-*"))
