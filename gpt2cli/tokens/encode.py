"""Text to ids and back, by tiktoken's native encoder built straight from ranks (it never touches the network).

`<|endoftext|>` inside text is ordinary text. Three things that tiktoken does are put right here: with GPT-2's own
pattern it spends more than half of its time splitting, and panics on about a million whitespace characters before a
letter (so it is given whitespace_marks.PLAIN); it needs memory in proportion to a piece (so it is given windows, cut
where ids do not change); and it replaces lone surrogates without a word (readers of documents count them first).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tiktoken

from gpt2cli.errors import BadInput
from gpt2cli.tokens.exact_cut import WHITESPACE, free_cut, may_cut
from gpt2cli.tokens.unicode_loss import replace_surrogates
from gpt2cli.tokens.vocabulary import Vocabulary
from gpt2cli.tokens.whitespace_marks import END, MARK, PATTERN, PLAIN, mark_whitespace

WINDOW = 1 << 16
"""Characters that tiktoken is given at once."""
_MARGIN = 1 << 10
"""Bytes at a window's end whose ids may change with what follows; longer than any token."""
_BEHIND = 2
"""Characters that follow every window: may_cut looks at them."""
_SEARCH = 1 << 12
"""Characters at a window's end that are searched for a free cut."""
_TRIES = 32
"""Cuts that are tried before the window is doubled."""
_ENDS = frozenset([END.decode()])


class Encoder:
    """Encodes text in one vocabulary. `window`: characters that are encoded at once; it changes no id."""

    def __init__(self, vocabulary: Vocabulary, window: int = WINDOW) -> None:
        self.vocabulary = vocabulary
        self._plain = self._tiktoken(PLAIN)
        self._eot = np.array([vocabulary.eot], dtype=np.uint32)
        self._bytes = vocabulary.token_bytes()
        self._sizes = np.array([len(token) for token in self._bytes])
        self._window = window
        self._margin = min(_MARGIN, window // 4) if window < WINDOW else max(_MARGIN, 2 * int(self._sizes.max()))

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of `text` as uint32 [n]; no end-of-text is added, and none is recognised in the text."""
        try:
            if len(text) <= self._window:
                return self._encode(text)
            return np.concatenate(list(self.encode_stream([text])))
        except UnicodeEncodeError:
            return self.encode(replace_surrogates(text)[0])

    def encode_documents(self, texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of many texts of UTF-8, end-of-text after each, uint32 [n], and their counts, int64 [texts].

        Short texts are encoded together, which costs less than one by one.
        """
        arrays: list[np.ndarray] = []
        joined: list[bytes] = []
        for text in texts:
            if len(text) <= self._window and MARK not in text and END not in text:
                joined.append(text)
                continue
            arrays += [self._encode_joined(joined), self.encode(text.decode()), self._eot]
            joined = []
        tokens = np.concatenate([*arrays, self._encode_joined(joined)])
        return tokens, np.diff(np.flatnonzero(tokens == self.vocabulary.eot), prepend=-1)

    def encode_stream(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Yield the ids of the one text that `texts`, joined, are: uint32 arrays, as soon as they are certain.

        Holds a window and one of `texts` at a time. Raises UnicodeEncodeError for a lone surrogate.
        """
        ahead = _Ahead(texts)
        while ahead.reaches(self._window + _BEHIND):
            end = ahead.at + self._window
            cut = free_cut(ahead.text, end - min(_SEARCH, self._window // 2), end)
            if cut is None:
                yield from self._encode_unbroken(ahead)
            else:
                yield self._encode(ahead.text[ahead.at : cut])
                ahead.at = cut
        yield self._encode(ahead.text[ahead.at :])

    def decode(self, ids: np.ndarray | list[int]) -> bytes:
        """Return the bytes of `ids` (end-of-text: b"<|endoftext|>"); raise BadInput for an id not in the vocabulary."""
        numbers = ids.tolist() if isinstance(ids, np.ndarray) else ids
        try:
            if numbers and min(numbers) < 0:
                raise IndexError
            return b"".join([self._bytes[number] for number in numbers])
        except IndexError:
            raise BadInput(f"an id outside the vocabulary of {self.vocabulary.n_vocab}") from None

    def _tiktoken(self, pattern: str) -> tiktoken.Encoding:
        return tiktoken.Encoding(name=self.vocabulary.sha256, pat_str=pattern, mergeable_ranks=self.vocabulary.ranks,
                                 special_tokens={END.decode(): self.vocabulary.eot})

    @functools.cached_property
    def _exact(self) -> tiktoken.Encoding:
        return self._tiktoken(PATTERN)

    def _encode(self, text: str) -> np.ndarray:
        data = text.encode()
        if MARK in data or END in data:
            return self._exact.encode_to_numpy(text, disallowed_special=())
        return self._plain.encode_to_numpy(mark_whitespace(data).decode(), disallowed_special=())

    def _encode_joined(self, texts: list[bytes]) -> np.ndarray:
        if not texts:
            return np.empty(0, np.uint32)
        marked = mark_whitespace(END.join([*texts, b""])).decode()
        return self._plain.encode_to_numpy(marked, allowed_special=_ENDS, disallowed_special=())

    def _encode_unbroken(self, ahead: _Ahead) -> Iterator[np.ndarray]:
        """Yield ids from ahead.at up to a free cut or the end, by cuts that the ids beside them prove right."""
        size, left = self._window, None
        ids = self._window_ids(ahead, 0, size)
        while ahead.reaches(size + _BEHIND):
            found = self._proven_cut(ahead, ids, size)
            if found is None:
                size *= 2
                ids = self._window_ids(ahead, 0, size)
                if left is not None and not self._joined(left, int(ids[0])):
                    raise BadInput("a stretch of text without spaces that this vocabulary cannot encode piece by piece")
                continue
            length, count, following = found
            yield ids[:count]
            ahead.at += length
            if following is None:
                return
            size, left, ids = self._window, int(ids[count - 1]), following
        yield ids
        ahead.at = len(ahead.text)

    def _proven_cut(self, ahead: _Ahead, ids: np.ndarray, size: int) -> tuple[int, int, np.ndarray | None] | None:
        """Return a cut in the window at ahead.at: characters and ids before it, and the ids of the window after it.

        The latter are None when the cut is free.
        """
        window = np.frombuffer(ahead.text[ahead.at : ahead.at + size].encode(), dtype=np.uint8)
        starts = (window & 0xC0) != 0x80
        ends = np.cumsum(self._sizes[ids])
        inside = np.flatnonzero(ends <= len(window) - self._margin)
        counts = inside[starts[ends[inside]]] + 1
        lengths = (np.cumsum(starts) - 1)[ends[counts - 1]]
        tries = 0
        for count, length in zip(counts[::-1].tolist(), lengths[::-1].tolist(), strict=True):
            if length >= 2 and may_cut(ahead.text, ahead.at + length):
                if _is_free(ahead.text, ahead.at + length):
                    return length, count, None
                following = self._window_ids(ahead, length, self._window)
                if self._joined(int(ids[count - 1]), int(following[0])):
                    return length, count, following
                tries += 1
                if tries == _TRIES:
                    break
        return None

    def _window_ids(self, ahead: _Ahead, skip: int, size: int) -> np.ndarray:
        ahead.reaches(skip + size + _BEHIND)
        rest = len(ahead.text) - ahead.at - skip
        start = ahead.at + skip
        return self._encode(ahead.text[start : start + size if rest > size + _BEHIND else None])

    def _joined(self, left: int, right: int) -> bool:
        piece = self._bytes[left] + self._bytes[right]
        return list(self._plain._core_bpe.encode_single_piece(piece)) == [left, right]


def _is_free(text: str, place: int) -> bool:
    return text[place] in WHITESPACE and text[place - 1] not in WHITESPACE


class _Ahead:
    """Texts that are one, joined no further than is asked for. `at` is where it stands in `text`."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._source = iter(texts)
        self.text = ""
        self.at = 0

    def reaches(self, count: int) -> bool:
        """Whether more than `count` characters follow `at`; all of them are in `text` if not."""
        if len(self.text) - self.at <= count:
            parts, held = [self.text[self.at :]], len(self.text) - self.at
            while held <= count and (more := next(self._source, None)) is not None:
                parts.append(more)
                held += len(more)
            self.text, self.at = "".join(parts), 0
        return len(self.text) - self.at > count
