"""Rows of best-fit are the windows that training reads: documents that fit are whole in them, and padding is little."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2cli.records.packing import packed_context
from gpt2cli.records.shard import ShardReader
from gpt2cli.records.shard_set import load_shard_set, seal
from gpt2cli.reporter import Silent
from gpt2cli.tokens import pack as pack_module
from gpt2cli.tokens.pack import PackConfig, PackSummary, pack_shards
from gpt2cli.tokens.row_packer import RowPacker
from gpt2cli.training.batches import TrainingBatches

CONTEXT = 48


def documents_of(path: Path) -> list[tuple[int, ...]]:
    with open(path, "rb") as stream:
        return [tuple(ids.tolist()) for ids in ShardReader(stream, path.name).documents()]


def packed(shard: Path, directory: Path, **settings: object) -> PackSummary:
    config = PackConfig(**{"method": "best-fit", "context": CONTEXT, "val_fraction": 0.3, **settings})  # type: ignore[arg-type]
    return pack_shards([str(shard)], str(directory), config, Silent())


@pytest.fixture(scope="module")
def short_shard(tmp_path_factory: pytest.TempPathFactory, gpt2, plays: Path, vocabulary_file: Path) -> Path:
    """A line of the plays a document, or nine: most some tokens, others longer than several rows."""
    lines = [line for play in sorted(plays.iterdir()) for line in play.read_text(encoding="utf-8").splitlines() if line]
    directory = tmp_path_factory.mktemp("short")
    with open(directory / "lines.jsonl", "w") as file:
        while lines:
            count = 1 if len(lines) % 7 else 9
            file.write(json.dumps({"text": "\n".join(lines[:count])}) + "\n")
            del lines[:count]
    gpt2("bpe-tokenize", directory / "lines.jsonl", "--vocab", vocabulary_file, "-o", directory / "lines.tok.zst",
         check=True)
    return directory / "lines.tok.zst"


def test_nothing_is_lost_and_only_what_is_longer_than_a_row_is_cut(tmp_path: Path, short_shard: Path) -> None:
    summary = packed(short_shard, tmp_path / "set")
    given = documents_of(short_shard)
    found = load_shard_set(tmp_path / "set")
    kept: list[tuple[int, ...]] = []
    for split in ("train", "val"):
        with found.open(split) as stream:
            tokens = stream.read(0, len(stream))
        assert len(tokens) % CONTEXT == 1
        ends = np.flatnonzero(tokens == found.eot)
        for start, end in zip([0, *(ends[:-1] + 1).tolist()], ends.tolist(), strict=True):
            assert end - start >= CONTEXT or start // CONTEXT == end // CONTEXT, "a document that fits a row is cut"
            kept.append(tuple(tokens[start:end].tolist()))
    padding = sum(summary.padding.values())
    assert Counter(kept) == Counter(given) + Counter({(): padding})
    assert summary.documents_cut == sum(len(ids) >= CONTEXT for ids in given) > 20
    assert sum(summary.documents.values()) == len(given)
    assert sum(summary.tokens.values()) == sum(len(ids) + 1 for ids in given)


def test_padding_of_real_text_is_under_a_thousandth(tmp_path: Path, short_shard: Path) -> None:
    summary = packed(short_shard, tmp_path / "set", val_fraction=0.0)
    assert summary.padding["train"] < 0.001 * summary.tokens["train"]


def test_windows_of_training_are_the_rows(tmp_path: Path, short_shard: Path) -> None:
    """A window has each short document whole or not at all, and its last target is the next token of a cut one."""
    packed(short_shard, tmp_path / "set", shard_tokens=2000)
    found = load_shard_set(tmp_path / "set")
    assert len(found.files("train")) > 4
    assert all(entry.tokens % CONTEXT == 0 for entry in found.files("train")[:-1])
    given = set(documents_of(short_shard))
    longer = {pair for ids in given if len(ids) >= CONTEXT
              for pair in zip(ids, [*ids[1:], found.eot], strict=True)}
    with found.open("train") as stream:
        windows = (len(stream) - 1) // CONTEXT
        batches = TrainingBatches(stream, n_ctx=CONTEXT, batch=windows, micro_batch=windows, seed=0,
                                  device=torch.device("cpu"))
        (inputs, targets), = batches.micro_batches(1)
    assert inputs.shape == (windows, CONTEXT)
    whole = cut = 0
    for row, last in zip(inputs.tolist(), targets[:, -1].tolist(), strict=True):
        ends = [place for place, token in enumerate(row) if token == found.eot]
        for start, end in pairwise(ends):
            assert tuple(row[start + 1 : end]) in given or end == start + 1
            whole += 1
        if row[-1] != found.eot:
            assert (row[-1], last) in longer, "a row ends within a long document, which goes on in the next"
            cut += 1
    assert whole > 300 and cut > 20


def test_the_same_bytes_for_any_jobs_and_shuffled_for_any_order(tmp_path: Path, gpt2, short_shard: Path, shard: Path
                                                                ) -> None:
    def pack(name: str, *arguments: object) -> dict[str, bytes]:
        gpt2("pack", *arguments, "--pack", "best-fit", "--context", CONTEXT, "-o", tmp_path / name, check=True)
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    first = pack("a", short_shard, shard, "-j", 1)
    assert pack("b", short_shard, shard, "-j", 3) == first
    mixed = pack("c", short_shard, shard, "-j", 2, "--shuffle")
    assert pack("d", shard, short_shard, "--shuffle") == mixed != first


def test_windows_are_packed_one_by_one_in_bounded_memory(tmp_path: Path, short_shard: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed(short_shard, tmp_path / "whole")
    monkeypatch.setattr(pack_module, "RowPacker", lambda *settings: RowPacker(*settings, window_tokens=3000))
    parts = packed(short_shard, tmp_path / "parts")
    assert parts.tokens == whole.tokens and parts.documents == whole.documents
    assert sum(parts.padding.values()) < 0.01 * sum(parts.tokens.values())


def test_verify_reads_the_rows(tmp_path: Path, gpt2, short_shard: Path) -> None:
    packed(short_shard, tmp_path / "set")
    assert gpt2("verify", tmp_path / "set").returncode == 0
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    for change, words in [({"context": CONTEXT // 2}, "is cut by the end of a row of 24 tokens"),
                          ({"context": CONTEXT + 1}, "row"), ({"method": "worst-fit"}, "'worst-fit'")]:
        wrong = seal({**index, "pack": {**index["pack"], **change}})
        (tmp_path / "set" / "index.json").write_text(json.dumps(wrong))
        result = gpt2("verify", tmp_path / "set")
        assert result.returncode == 65 and words in result.stderr.decode(), change
    index["splits"]["train"]["padding_tokens"] += 100_000
    (tmp_path / "set" / "index.json").write_text(json.dumps(seal(index)))
    assert "padding of" in gpt2("verify", tmp_path / "set").stderr.decode()


def test_train_takes_the_context_of_the_rows_and_no_other(tmp_path: Path, gpt2, short_shard: Path) -> None:
    packed(short_shard, tmp_path / "set")
    assert packed_context(load_shard_set(tmp_path / "set").index) == CONTEXT
    model = ("--layers", 2, "--embd", 16, "--heads", 2, "--batch-tokens", 96, "--dry-run", "-o", tmp_path / "run")
    result = gpt2("train", tmp_path / "set", *model, check=True)
    assert f"context {CONTEXT}," in result.stdout.decode()
    result = gpt2("train", tmp_path / "set", *model, "--context", 24)
    assert result.returncode == 2
    assert f"packed in rows for a context of {CONTEXT}, and --context is 24" in result.stderr.decode()


@pytest.mark.parametrize(("options", "words"), [
    (("--pack", "best-fit"), "give the --context"), (("--context", "64"), "--context goes with --pack best-fit"),
    (("--pack", "worst-fit"), "worst-fit"), (("--pack", "best-fit", "--context", "1"), "at least 2"),
])
def test_wrong_options(tmp_path: Path, gpt2, shard: Path, options: tuple[str, ...], words: str) -> None:
    result = gpt2("pack", shard, *options, "-o", tmp_path / "set")
    assert result.returncode == 2 and words in result.stderr.decode()
    assert not list(tmp_path.iterdir())
