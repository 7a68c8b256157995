"""The GPT2_* variables: which of those that are set no command reads."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping

import click

from gpt2cli.cli.main import COMMANDS

PLAIN = ("GPT2_MODEL", "GPT2_VOCAB")


def known_variables() -> set[str]:
    """Return every variable that a command takes a value from."""
    return {*PLAIN, *(variable for name in COMMANDS for variable in _variables(name))}


def unread(environment: Mapping[str, str], known: Iterable[str]) -> dict[str, str | None]:
    """Return the set GPT2_* variables that are not `known`, each with the known one that it is most like, if any."""
    names = sorted(known)
    strange = sorted(name for name in environment if name.startswith("GPT2_") and name not in names)
    return {name: next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.7)), None) for name in strange}


def _variables(name: str) -> Iterator[str]:
    command: click.Command = importlib.import_module(f"gpt2cli.cli.{COMMANDS[name][1]}").command
    prefix = f"GPT2_{name}".replace("-", "_").upper()
    for one in (command, *getattr(command, "verbs", {}).values()):
        for option in one.params:
            if isinstance(option, click.Option):
                yield from (f"{prefix}_{word.removeprefix('--')}".replace("-", "_").upper()
                            for word in option.opts if word.startswith("--"))
