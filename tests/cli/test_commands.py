"""What holds for every command of the table, without naming any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import pytest
from in_process import gpt2_here as gpt2_here

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.main import COMMANDS, GROUPS, gpt2

SAME_EVERYWHERE = {"--output": "-o", "--force": "-f", "--quiet": "-q", "--verbose": "-v"}


def load(name: str) -> click.Command:
    command = gpt2.get_command(click.Context(gpt2), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_of_our_class_and_carries_its_name(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert isinstance(command, Gpt2Command)
    assert COMMANDS[name][0] in GROUPS
    assert command.help and command.short_help == COMMANDS[name][2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help_and_a_long_name(name: str) -> None:
    for option in (p for p in load(name).params if isinstance(p, click.Option)):
        assert option.help, f"{name} {option.opts} says nothing about itself"
        assert any(text.startswith("--") for text in option.opts), f"{name} {option.opts} has no long name"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_same_thing_has_the_same_name(name: str) -> None:
    for option in (p for p in load(name).params if isinstance(p, click.Option)):
        for long, short in SAME_EVERYWHERE.items():
            assert (long in option.opts) == (short in option.opts), f"{name}: {option.opts}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_goes_to_stdout_and_misuse_to_stderr(name: str, gpt2) -> None:
    shown = gpt2(name, "--help")
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout.startswith(f"Usage: gpt2 {name} ".encode())
    refused = gpt2(name, "--no-such-option")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert refused.stderr.startswith(f"gpt2 {name}: ".encode())
    assert refused.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("words", "variable", "value", "said"),
    [
        (("vocab",), "GPT2_VOCAB_EXPORT", "tiktoken", "kind = 'tiktoken' (environment)"),
        (("pack", "nowhere", "-o", "none"), "GPT2_PACK_PACK", "best-fit", "method = 'best-fit' (environment)"),
        (("fit-scaling", "plan", "--size", "small", "--flops-per-second", "1e15"), "GPT2_FIT_SCALING_D", "3B",
         "tokens = 3000000000 (environment)"),
    ],
)
def test_an_options_variable_is_named_as_the_option(
    gpt2_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], variable: str, value: str,
    said: str,
) -> None:
    """Whatever the parameter is called in the code: GPT2_COMMAND_OPTION, as gpt2(1) says."""
    monkeypatch.setenv(variable, value)
    assert said in gpt2_here(*words, "-v").stderr.decode()


@pytest.mark.parametrize(
    "words",
    [("eval-ppl", ""), ("eval-tasks", ""), ("plot", ""), ("train", ""), ("fit-scaling", "predict", "--fit", "")],
)
def test_an_empty_name_is_no_place(gpt2_here: Callable[..., Any], words: tuple[str, ...]) -> None:
    """An unset variable of a shell gives one, and Path("") would be the directory one is in."""
    done = gpt2_here(*words)
    assert done.returncode == 2 and b"the name is empty" in done.stderr
