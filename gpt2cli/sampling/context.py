"""What of a text the model is given: its context has room for n_ctx tokens, and a text may have more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2cli.tokens.encode import Encoder


@dataclass(frozen=True)
class Prompt:
    """One prompt: its number, its text (bytes, UTF-8) and the ids the model is given: the last that fit, never none."""

    number: int
    text: bytes
    ids: tuple[int, ...]
    dropped: int


def read_prompt(number: int, text: bytes, encoder: Encoder, n_ctx: int, max_tokens: int) -> Prompt:
    """Encode a prompt (UTF-8; `<|endoftext|>` in it is plain text). An empty one is end-of-text alone.

    A prompt that leaves less room in the context than min(max_tokens, n_ctx // 2) loses its first tokens;
    `dropped` says how many.
    """
    ids = encoder.encode(text.decode("utf-8")).tolist() or [encoder.vocabulary.eot]
    kept = n_ctx - min(max_tokens, max(1, n_ctx // 2))
    dropped = max(0, len(ids) - max(1, kept))
    return Prompt(number, text, tuple(ids[dropped:]), dropped)


def slid(text: Sequence[int], n_ctx: int) -> tuple[int, ...]:
    """Return what the model is given of a text that outgrew its context: the last n_ctx // 2 ids, at least one."""
    return tuple(text[-max(1, n_ctx // 2):])
