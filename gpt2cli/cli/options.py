"""Option types and the options that mean the same thing in every command."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import click

_SCALE = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12,
          "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_COUNT = re.compile(r"(\d{1,99}(?:\.\d{1,99})?(?:e[+]?\d{1,2})?)([KMBGT]?i?)", re.IGNORECASE)


class Count(click.ParamType):
    """A whole number: 300, 2K, 1.5M, 64Ki, 1e9. What it counts is held or looped over, so it fits a machine's word."""

    name = "count"

    def __init__(self, minimum: int = 0, maximum: int = 2**63 - 1) -> None:
        self.minimum, self.maximum = minimum, maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, or fail with a usage error."""
        if isinstance(value, bool):
            self.fail(f"{value!r} is no count", param, ctx)
        if isinstance(value, int):
            number: int | Fraction = value
        else:
            match = _COUNT.fullmatch(str(value).strip())
            if not match or match[2].upper() not in _SCALE:
                self.fail(f"{value!r} is no count; write 300, 2K, 1.5M, 64Ki or 1e9", param, ctx)
            digits, scale = match[1], _SCALE[match[2].upper()]
            number = Fraction(digits) * scale
        if number != int(number) or number < self.minimum:
            self.fail(f"{value!r} is not a whole number of at least {self.minimum}", param, ctx)
        if number > self.maximum:
            most = f"{self.maximum:,}" if self.maximum < 2**63 - 1 else f"{self.maximum:.4g}"
            self.fail(f"{value!r} is more than {most}", param, ctx)
        return int(number)


class Amount(Count):
    """A whole number that a law speaks of and no machine has to hold: parameters, tokens or FLOP."""

    def __init__(self, minimum: int = 0, maximum: int = 10**50) -> None:
        super().__init__(minimum, maximum)


class Real(click.FloatRange):
    """A number in a range; nan and infinity are in none."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or fail with a usage error."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number in a range, written in digits: for seeds and numbers of workers, which are no counts of data."""

    name = "whole number"


class AnyPath(click.Path):
    """A path that is not looked at before the command does: what can't be read is its to tell, with status 74."""

    def __init__(self) -> None:
        super().__init__(readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail with a usage error for an empty name, as an unset variable of a shell gives."""
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


class OutputPath(AnyPath):
    """A path that a command writes, looked at before it begins, see output_checks.py: a file unless it says otherwise.

    file, directory: what it may be. parents: whether missing directories above it are made.
    """

    def __init__(self, *, file: bool = True, directory: bool = False, parents: bool = False) -> None:
        super().__init__()
        self.file, self.directory, self.parents = file, directory, parents


class NewDirectory(OutputPath):
    """The directory that a command makes: no file, so it can't go to standard output."""

    def __init__(self) -> None:
        super().__init__(file=False, directory=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail with a usage error."""
        if value == "-":
            self.fail("a directory can't be written to standard output; name one", param, ctx)
        return super().convert(value, param, ctx)


class FormFlag(click.Option):
    """A flag that chooses one of several values: its variable turns it on or off, as that of any flag does."""

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Return the flag's value, or None where the variable is not set or says no; fail for another word."""
        word = self.resolve_envvar_value(ctx)
        if word is None:
            return None
        return self.flag_value if click.BOOL.convert(word, self, ctx) else None


class Text(click.ParamType):
    """A string that is written to a file, or looked for in one, as UTF-8."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the string, or fail with a usage error."""
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail("the bytes given are not UTF-8", param, ctx)
        return str(value)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return the whole value of a variable as the one text: white space in it is text too."""
        return [rv]


def files_argument(name: str = "files", metavar: str = "[FILE]...") -> Callable[[Any], Any]:
    """Return the FILE... argument; no FILE means standard input."""
    return click.argument(name, nargs=-1, metavar=metavar, type=AnyPath())


def output_option(**extra: Any) -> Callable[[Any], Any]:
    """Return -o FILE, default stdout."""
    settings: dict[str, Any] = {"default": "-", "metavar": "FILE", "type": OutputPath(),
                                "help": "Write here instead of standard output; .zst compresses."}
    return click.option("-o", "--output", **{**settings, **extra})


def force_option() -> Callable[[Any], Any]:
    """Return -f, overwrite."""
    return click.option("-f", "--force", is_flag=True, help="Replace an output that exists.")


def seed_option(help_text: str = "Seed of every random choice.") -> Callable[[Any], Any]:
    """Return --seed N, default 0."""
    return click.option("--seed", type=Whole(0, 2**63 - 1), default=0, show_default=True, metavar="N",
                        help=help_text)


def dtype_option(effect: str = "", *, auto: bool = False) -> Callable[[Any], Any]:
    """Return --dtype of what computes with a finished model, default fp32; `effect`: what bf16 changes there.

    auto: it may be fp16 or auto too, and auto is the default.
    """
    names, default = (["auto", "fp32", "bf16", "fp16"], "auto") if auto else (["fp32", "bf16"], "fp32")
    return click.option("--dtype", type=click.Choice(names), default=default, show_default=True,
                        help=f"Weights and matrix products{effect}.")


def device_option() -> Callable[[Any], Any]:
    """Return --device."""
    return click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]|mps",
                        help="Where to compute; auto takes a GPU if torch sees one.")


def threads_option() -> Callable[[Any], Any]:
    """Return --threads N."""
    return click.option("--threads", type=Whole(1, 4096), default=None, metavar="N",
                        help="CPU threads for torch; default: torch's own choice.")


def scored_form_option() -> Callable[[Any], Any]:
    """Add --format: what the texts that a model scores are."""
    return click.option("--format", "form", type=click.Choice(["auto", "text", "jsonl", "shard"]), default="auto",
                        show_default=True,
                        help="What the inputs are; auto tells by name (.jsonl, .ndjson) or content.")


def windows_batch_option() -> Callable[[Any], Any]:
    """Add --batch: how many windows a model scores together."""
    return click.option("--batch", type=Count(1), metavar="N",
                        help="Full windows computed together, default 2,048 positions' worth: speed and memory, not "
                             "the result.")
