"""Sliding windows over a document, as arithmetic: every token is scored exactly once.

A document of n tokens is read as n + 1: end-of-text stands before it as its beginning, so that its first token has
something to be predicted from. Window k begins at position k x stride and scores what no window before it scored;
after the first window every scored token sees at least context - stride + 1 tokens before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gpt2cli.errors import UsageFault


@dataclass(frozen=True)
class Window:
    """Inputs are sequence[start:stop], targets sequence[start + 1 : stop + 1]; the last `scored` targets count."""

    start: int
    stop: int
    scored: int


@dataclass(frozen=True)
class Protocol:
    """Every choice that the number depends on, by name. It travels in the record as `protocol`."""

    name: str
    context: int
    stride: int
    bos: str = "<|endoftext|> before each document"
    eot_scored: bool = False
    word: str = "whitespace-separated"
    text: str = "as given, each document on its own"

    def as_fields(self) -> dict[str, Any]:
        """Return the JSON object of a record's `protocol` field."""
        return asdict(self)


def sliding_protocol(n_ctx: int, context: int | None, stride: int | None) -> Protocol:
    """Return the protocol for a model of `n_ctx` positions: context n_ctx and stride context // 2 unless given.

    Raises UsageFault when the context does not fit the model, or the stride the context.
    """
    context = n_ctx if context is None else context
    if not 1 <= context <= n_ctx:
        raise UsageFault(f"--context {context} does not fit the model, which has {n_ctx} positions")
    stride = max(1, context // 2) if stride is None else stride
    if not 1 <= stride <= context:
        raise UsageFault(f"--stride {stride} is not between 1 and the context of {context}: tokens would go unscored")
    return Protocol("sliding", context, stride)


def sliding_windows(n_tokens: int, context: int, stride: int) -> Iterator[Window]:
    """Yield the windows over a document of `n_tokens` tokens (and the beginning before it), in order."""
    start = done = 0
    while done < n_tokens:
        stop = min(start + context, n_tokens)
        yield Window(start, stop, stop - done)
        done = stop
        start += stride
