"""Text to ids and back, by tiktoken's native encoder built straight from ranks (it never touches the network).

`<|endoftext|>` inside text is ordinary text. Two things tiktoken does to unusual text are put right here: it panics
on about a million whitespace characters before a letter (such runs are encoded as the one piece they are), and
it replaces lone surrogates without a word (they are counted).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tiktoken

from gpt2cli.errors import BadInput
from gpt2cli.tokens.vocabulary import END_OF_TEXT, Vocabulary

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
"""GPT-2's split pattern as tiktoken writes it; it matches what OpenAI's own matches, without backtracking."""
LONG_RUN = 1 << 15
"""Whitespace runs of this length are taken out of the pattern's hands."""
WHITESPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a" \
    "\u2028\u2029\u202f\u205f\u3000"
r"""Unicode's White_Space, which is what \s means in the pattern (Python's own \s and isspace mean more)."""


class Encoder:
    """Encodes text in one vocabulary. `replaced` counts the lone surrogates that became U+FFFD."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.replaced = 0
        self._tiktoken = tiktoken.Encoding(
            name=vocabulary.sha256, pat_str=PATTERN, mergeable_ranks=vocabulary.ranks,
            special_tokens={END_OF_TEXT: vocabulary.eot},
        )
        self._bytes = vocabulary.token_bytes()

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of `text` as uint32 [n]; no end-of-text is added, and none is recognised in the text."""
        try:
            return self._encode(text)
        except UnicodeEncodeError:
            whole, count = replace_surrogates(text)
            self.replaced += count
            return self._encode(whole)

    def decode(self, ids: np.ndarray | list[int]) -> bytes:
        """Return the bytes of `ids` (end-of-text: b"<|endoftext|>"); raise BadInput for an id not in the vocabulary."""
        numbers = ids.tolist() if isinstance(ids, np.ndarray) else ids
        try:
            if numbers and min(numbers) < 0:
                raise IndexError
            return b"".join([self._bytes[number] for number in numbers])
        except IndexError:
            raise BadInput(f"an id outside the vocabulary of {self.vocabulary.n_vocab}") from None

    def _encode(self, text: str) -> np.ndarray:
        if len(text) < LONG_RUN:
            return self._tiktoken.encode_to_numpy(text, disallowed_special=())
        parts = [self._encode_piece(piece) if whole else self._tiktoken.encode_to_numpy(piece, disallowed_special=())
                 for piece, whole in split_long_runs(text)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _encode_piece(self, piece: str) -> np.ndarray:
        return np.array(self._tiktoken._core_bpe.encode_single_piece(piece.encode()), dtype=np.uint32)


def replace_surrogates(text: str) -> tuple[str, int]:
    """Return `text` with surrogate pairs joined and lone ones as U+FFFD, and how many were lone."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole, whole.count("\ufffd") - text.count("\ufffd")


def split_long_runs(text: str, limit: int = LONG_RUN) -> Iterator[tuple[str, bool]]:
    r"""Yield (piece, whether the pattern takes it whole), so that the pattern meets no long whitespace run.

    The pattern gives a run before other text all its characters but the last (`\s+(?!\S)`), and a run that ends the
    text all of them (`\s++$`): exactly these are yielded as (run, True). Joined, the pieces are `text`. The cuts fall
    where the pattern's own matches begin and end, and it looks at nothing to its left, so ids do not change.
    Looking only at every `limit`-th character (limit >= 2) finds every run that long in linear time.
    """
    start, probe = 0, 0
    while probe < len(text):
        if text[probe] not in WHITESPACE:
            probe += limit
            continue
        end = _run_end(text, probe, limit)
        begin = _run_start(text, start, probe, limit)
        if end - begin >= limit:
            stop = end if end == len(text) else end - 1
            if begin > start:
                yield text[start:begin], False
            yield text[begin:stop], True
            start = stop
        probe = max(end, probe + 1)
        probe += -probe % limit
    if start < len(text) or not text:
        yield text[start:], False


def _run_start(text: str, floor: int, end: int, step: int) -> int:
    while end > floor:
        chunk = text[max(floor, end - step) : end]
        kept = len(chunk.rstrip(WHITESPACE))
        if kept:
            return end - len(chunk) + kept
        end -= len(chunk)
    return floor


def _run_end(text: str, start: int, step: int) -> int:
    while start < len(text):
        chunk = text[start : start + step]
        rest = chunk.lstrip(WHITESPACE)
        if rest:
            return start + len(chunk) - len(rest)
        start += step
    return len(text)
