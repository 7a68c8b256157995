"""Where memory runs out a command says so in one sentence, with options that it has."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from gpt2cli.cli.main import COMMANDS
from gpt2cli.cli.out_of_memory import NEEDS_LESS, TORCH_BYTES, WITH_TORCH, check_room_for_torch, memory_sentence
from gpt2cli.errors import OutOfMemory, is_out_of_memory


@pytest.mark.parametrize("name", NEEDS_LESS)
def test_the_options_that_it_names_are_those_of_the_command(name: str) -> None:
    words = name.split()
    command: click.Command = importlib.import_module(f"gpt2cli.cli.{COMMANDS[words[0]][1]}").command
    if len(words) > 1:
        command = command.verbs[words[1]]  # type: ignore[attr-defined]
    known = {word for option in command.params for word in option.opts}
    named = set(re.findall(r"--[a-z-]+", NEEDS_LESS[name]))
    assert named and named <= known
    assert set(COMMANDS) >= WITH_TORCH


def test_the_sentence_is_of_the_command_and_of_the_error() -> None:
    assert memory_sentence(["webtext-scrape", "dedup", "x"], MemoryError()) == (
        "out of memory; a smaller --memory or --jobs needs less")
    assert memory_sentence(["sample", "x"], MemoryError()) == (
        "out of memory; a smaller --batch, --beams or --num-samples needs less")
    assert memory_sentence(["verify"], MemoryError()) == "out of memory; a smaller input needs less"
    thread = RuntimeError("can't start new thread")
    assert is_out_of_memory(thread) and memory_sentence(["sample"], thread).endswith(
        "no more processes are allowed (ulimit -u); raise that limit or free some memory")
    library = ImportError("libtorch_cpu.so: failed to map segment from shared object")
    assert is_out_of_memory(library) and "ulimit -v" in memory_sentence(["sample"], library)
    assert not is_out_of_memory(ImportError("No module named 'numpy'"))


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
    check_room_for_torch("train")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (TORCH_BYTES - 1, TORCH_BYTES))
    check_room_for_torch("pack")
    with pytest.raises(OutOfMemory, match="too little memory to load"):
        check_room_for_torch("train")
