"""Regular expressions that come from a task file: their time is bounded, so that none can hang an evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import regex

from gpt2cli.errors import BadInput

MAX_SECONDS = 5.0
MAX_PATTERN = 10_000


def compile_pattern(pattern: str, flags: int = 0) -> Any:
    """Return the compiled pattern (of the module `regex`, whose searches take `timeout=`); raise BadInput if wrong."""
    if len(pattern) > MAX_PATTERN:
        raise BadInput(f"has a pattern of more than {MAX_PATTERN:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what later versions may read otherwise
            return regex.compile(pattern, flags)
    except (regex.error, RecursionError, OverflowError, MemoryError, ValueError) as error:
        raise BadInput(f"has a wrong pattern {pattern[:60]!r}: {error}") from None


def find_all(text: str, pattern: Any) -> list[Any]:
    """Return what `re.findall` returns; raise BadInput beyond MAX_SECONDS."""
    try:
        found: list[Any] = pattern.findall(text, timeout=MAX_SECONDS)
    except TimeoutError:
        raise _too_slow(pattern.pattern) from None
    return found


def replace_pattern(text: str, pattern: str, new: str, count: int, spend: Callable[[int], None]) -> str:
    """Return what `re.sub` returns. `spend` is told the length of what is put in, and may raise."""
    compiled = compile_pattern(pattern)

    def expand(match: Any) -> str:
        piece: str = match.expand(new)
        spend(len(piece))
        return piece

    try:
        result: str = compiled.sub(expand, text, count=count, timeout=MAX_SECONDS)
    except TimeoutError:
        raise _too_slow(pattern) from None
    except (regex.error, IndexError) as error:
        raise BadInput(f"has a wrong replacement {new[:60]!r}: {error}") from None
    return result


def _too_slow(pattern: str) -> BadInput:
    return BadInput(f"needs a pattern {pattern[:60]!r} that takes more than {MAX_SECONDS:.0f} s on one text")
