"""Where memory runs out a command says so in one sentence, with options that it has."""

from __future__ import annotations

import importlib
import re

import click
import pytest

from gpt2cli.cli.main import COMMANDS
from gpt2cli.cli.out_of_memory import NEEDS_LESS, memory_sentence
from gpt2cli.errors import is_out_of_memory


@pytest.mark.parametrize("name", NEEDS_LESS)
def test_the_options_that_it_names_are_those_of_the_command(name: str) -> None:
    words = name.split()
    command: click.Command = importlib.import_module(f"gpt2cli.cli.{COMMANDS[words[0]][1]}").command
    if len(words) > 1:
        command = command.verbs[words[1]]  # type: ignore[attr-defined]
    known = {word for option in command.params for word in option.opts}
    named = set(re.findall(r"--[a-z-]+", NEEDS_LESS[name]))
    assert named and named <= known


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
