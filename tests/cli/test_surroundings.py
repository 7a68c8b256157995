"""Where torch cannot be loaded, and where there is no current directory: one sentence, before anything is written."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2cli.cli.main import COMMANDS
from gpt2cli.cli.surroundings import NO_DIRECTORY, TORCH_BYTES, WITH_TORCH, check_surroundings
from gpt2cli.errors import OutOfMemory


def test_commands_with_torch_are_commands() -> None:
    assert set(COMMANDS) >= WITH_TORCH


@pytest.mark.skipif(sys.platform != "linux", reason="limits its address space")
@pytest.mark.parametrize(("kilobytes", "command"), [
    (60_000, "bpe-tokenize docs.jsonl.zst -o made.tok.zst"), (400_000, "sample runs/tiny --prompt The"),
    (600_000, "train shards --layers 1 --embd 16 --context 32 --batch-tokens 64 --steps 1 -o run"),
])
def test_too_little_to_load_a_library(
    bash: Callable[..., Any], artefacts: Path, tmp_path: Path, kilobytes: int, command: str
) -> None:
    for path in artefacts.iterdir():
        (tmp_path / path.name).symlink_to(path)
    result = bash(f"ulimit -v {kilobytes}; gpt2 {command}", tmp_path, timeout=60)
    assert result.returncode == 1 and result.stdout == b""
    said = rb"gpt2 [a-z-]+: too little memory to load the libraries that it needs; [^\n]+\n"
    assert re.fullmatch(said, result.stderr), result.stderr
    assert not (tmp_path / "run").exists() and not (tmp_path / "made.tok.zst").exists()


def test_a_limit_that_is_large_enough_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (TORCH_BYTES, TORCH_BYTES))
    check_surroundings("train")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (TORCH_BYTES - 1, TORCH_BYTES))
    check_surroundings("pack")
    with pytest.raises(OutOfMemory, match="too little memory to load"):
        check_surroundings("train")


@pytest.mark.parametrize(("command", "status"), [
    ("sample m --prompt The", 74), ("train shards", 74), ("doctor", 74), ("export m --to gguf -o x", 74),
    ("webtext-scrape urls.txt --work w -o x", 74), ("pack x.tok.zst -o set", 74), ("shard info {shard}", 0),
    ("verify {shard}", 0), ("vocab", 0), ("fit-scaling optimal --law hoffmann --flops 1e20", 0),
    ("shard cat --text {shard}", 0), ("eval-text {documents}", 0), ("overlap {documents} --test {documents}", 0),
])
def test_without_a_current_directory_what_needs_none_works(
    bash: Callable[..., Any], shard: Path, documents: Path, tmp_path: Path, command: str, status: int
) -> None:
    (tmp_path / "gone").mkdir()
    words = command.format(shard=shard, documents=documents)
    result = bash(f"cd gone && rmdir ../gone && gpt2 {words}", tmp_path, timeout=120)
    assert result.returncode == status, result.stderr
    assert b"Traceback" not in result.stderr and b"FATAL" not in result.stderr
    if status == 74:
        said = [line for line in result.stderr.decode().splitlines() if not line.startswith("sh: ")]  # who starts us
        assert len(said) == 1 and said[0].endswith(NO_DIRECTORY), said
