"""Checkpoints, vocabularies and WARC files with bits flipped and ends cut: found before use, the file named.

What is not found changes nothing of what is read: a few bits of a compressed frame or a gzip header that no decoder
looks at, fields of tokenizer.json that have no say in ids, a last newline. Shards and their index have a test of their
own (tests/records/test_shard_set_damage.py), so have a crawl's state and the dedup's signatures.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults.file_damage import Damage, places
from faults.released_formats import RELEASED
from in_process import gpt2_here as gpt2_here

from gpt2cli.errors import BadInput
from gpt2cli.records.checkpoint import newest_verified, resolve_model
from gpt2cli.tokens.export_vocabulary import vocabulary_file as exported
from gpt2cli.tokens.vocabulary import load_vocabulary
from gpt2cli.webtext.archived_page import page_of
from gpt2cli.webtext.dump_container import open_dump
from gpt2cli.webtext.warc import Response
from gpt2cli.webtext.warc_files import WarcFiles
from gpt2cli.webtext.warc_reader import read_warc, record_at

PAGES = 12
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def refuse(text: str) -> None:
    raise BadInput(text)


def test_every_file_of_a_checkpoint(tmp_path: Path) -> None:
    """As training looks at it before it goes on, and, but for training's own files, as everything else does."""
    run = shutil.copytree(RELEASED / "gpt2.checkpoint-1", tmp_path / "run")
    checkpoint = sorted((run / "checkpoints").iterdir())[-1]
    to_train = Damage(lambda: newest_verified(run, refuse, weights_only=False))
    to_use = Damage(lambda: resolve_model(str(checkpoint), refuse))
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    assert {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json", "config.json"} <= {
        path.name for path in files}
    for path in files:
        for how, place in places(path.stat().st_size, path.name, 64):
            to_train.try_on(path, how, place)
            if path.parent == checkpoint:
                to_use.try_on(path, how, place)
    for damage in (to_train, to_use):
        print(damage.told("checkpoint"))
        assert damage.missed == [] and damage.unnamed == [] and damage.harmless <= 1


def test_a_run_that_is_under_another_name_is_not_gone_on_with(gpt2_here: Run, tmp_path: Path) -> None:
    """All else of run.json is compared with what is asked for; its name is what the checkpoint says it is."""
    run = shutil.copytree(RELEASED / "gpt2.checkpoint-1", tmp_path / "run")
    (run / "manifest.json").unlink()
    record = (run / "run.json").read_bytes()
    name = json.loads(record)["run"]
    how = ("train", RELEASED / "gpt2.shards-1", "--layers", 1, "--embd", 8, "--heads", 1, "--context", 16,
           "--batch-tokens", 64, "--checkpoint-every", 4, "--eval-every", 2, "--eval-tokens", 64, "--layers-every", 2,
           "--noise-every", 2, "--dtype", "fp32", "--compile", "off", "--steps", 4, "-o", run)
    (run / "run.json").write_bytes(record.replace(name.encode(), f"m{name[1:]}".encode()))
    before = (run / "metrics.jsonl").read_bytes()
    done = gpt2_here(*how)
    assert done.returncode == 65 and f"run.json names the run 'm{name[1:]}'".encode() in done.stderr, done.stderr
    assert (run / "metrics.jsonl").read_bytes() == before
    (run / "run.json").write_bytes(record)
    gpt2_here(*how, check=True)


def test_a_vocabulary_of_ours(vocabulary_file: Path, tmp_path: Path) -> None:
    """A tokenizer.json says all twice, in its table and in its merges."""
    path = Path(shutil.copy(vocabulary_file, tmp_path / "my.vocab"))

    def read() -> tuple[dict[bytes, int], int]:
        found = load_vocabulary(path)
        return found.ranks, found.eot

    damage = Damage(read)
    for how, place in places(path.stat().st_size, "vocabulary", 100):
        damage.try_on(path, how, place)
    print(damage.told("vocabulary"))
    assert damage.missed == [] and damage.unnamed == []


@pytest.mark.parametrize("kind", ["tiktoken", "vocab.bpe"])
def test_a_vocabulary_in_a_form_that_says_all_once(vocabulary_file: Path, tmp_path: Path, kind: str) -> None:
    """Other people's forms have no checksum: a cut at a line's end is a smaller vocabulary, a flip may be another.

    Whatever passes has another tokenizer_sha256, so that nothing made with it goes together with what was made before.
    """
    path = tmp_path / f"my.{kind}"
    path.write_bytes(exported(load_vocabulary(vocabulary_file), kind))
    damage = Damage(lambda: load_vocabulary(path).sha256)
    for how, place in places(path.stat().st_size, kind, 20):
        damage.try_on(path, how, place)
    print(damage.told(kind), f"{len(damage.missed)} other vocabularies")
    assert damage.unnamed == [] and damage.detected > len(damage.missed)


def body(number: int) -> bytes:
    draw = random.Random(number)
    words = " ".join(draw.choice(("sea", "ship", "tide", "keeper", "lamp", "storm")) for _ in range(200))
    return f"<html><body><p>{words}</p></body></html>".encode()


@pytest.fixture(params=["zst", "gz"])
def warc(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[tuple[int, int]]]:
    """A WARC file of ours, and where its records are."""
    files = WarcFiles(tmp_path / "warc", "test", {}, request.param)
    found = []
    for number in range(PAGES):
        files.next_file()
        headers = (("Content-Type", "text/html"),)
        url = f"http://127.0.0.1/{number}"
        found.append(files.append(Response(url, "2017-10-01T12:00:00Z", 200, "OK", headers, body(number)))[1:])
    files.close()
    path, = (tmp_path / "warc").iterdir()
    return path, found


def test_a_warc_through_the_records_of_its_pages(warc: tuple[Path, list[tuple[int, int]]]) -> None:
    """As extract reads a crawl: every page at its place, the file and the byte named; a cut at a record's end too."""
    path, records = warc

    def read() -> list[bytes]:
        return [page_of(record_at(path, offset, length, 10**6), 10**6).body for offset, length in records]

    damage = Damage(read, lambda file, words: f"{file} at byte" in words)
    ends = tuple(offset for offset, _ in records)
    assert read() == [body(number) for number in range(PAGES)]
    for how, place in places(path.stat().st_size, path.name, records[0][0], ends):
        damage.try_on(path, how, place)
    print(damage.told(path.name))
    assert damage.missed == [] and damage.unnamed == []


def test_a_warc_as_a_stream(warc: tuple[Path, list[tuple[int, int]]]) -> None:
    """As extract reads anyone's: a cut at a record's end is a shorter file, which nothing in it contradicts."""
    path, records = warc

    def read() -> list[Any]:
        with open_dump(path) as stream:
            return [(record.fields, record.block) for record in read_warc(stream, str(path), 10**6)]

    damage = Damage(read)
    ends = {0, *(offset for offset, _ in records)}
    for how, place in places(path.stat().st_size, path.name, records[0][0], tuple(ends)):
        if how == "flip" or place not in ends:
            damage.try_on(path, how, place)
    print(damage.told(f"{path.name} as a stream"))
    assert damage.missed == [] and damage.unnamed == []


def test_a_resumed_crawl_knows_the_length_of_its_warc(warc: tuple[Path, list[tuple[int, int]]]) -> None:
    path, records = warc
    size = path.stat().st_size
    with path.open("rb+") as file:
        file.truncate(records[-1][0])
    with pytest.raises(BadInput, match=f"{path.name} has {records[-1][0]:,} bytes and the state recorded {size:,}"):
        WarcFiles(path.parent, "test", {path.name: size}, path.suffix[1:])
