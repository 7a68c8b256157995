"""How a corpus was tokenised: which marks stand apart from their words, and how to tell them apart again.

A style joins tokens into chunks (what white space separates in ordinary text) and splits a chunk back into its tokens.
Nothing is joined that would not be split back, so a wrong guess costs a space and never a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

MOSES = re.compile(r"(.*[\w>.])('[A-Za-z]+)", re.DOTALL)
"""Before the apostrophe: didn 't, o 'clock."""
TREEBANK = re.compile(r"(.*[\w>.])(n't|'(?:s|re|ve|ll|d|m))", re.DOTALL | re.IGNORECASE)
"""Before the whole suffix: did n't, it 's."""
_SUFFIX_ALONE = re.compile(r"'(?:s|t|re|ve|ll|d|m)$", re.IGNORECASE)
_CONTRACTED_AT_ITS_START = re.compile(r"'(?:\d|tis\b|twas\b|em\b|cause\b)", re.IGNORECASE)

ABBREVIATIONS = re.compile(
    "Mrs?|Ms|Messrs|Dr|Prof|Rev|Hon|[SJ]r|Esq|[SM]t|Ft|Gen|Lt|Col|Maj|Capt|Cpl|Sgt|Cmdr|Adm|Gov|Sens?|Reps?|Pres|Supt|"
    "Det|Insp|Bros|Corp|Inc|Ltd|Co|vs?|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec")
"""Words whose period is a part of them."""
_BEFORE_NUMBERS = re.compile("Nos?|no|Art|Nr|pp?|[Vv]ol")


@dataclass(frozen=True)
class Style:
    """One way of tokenising. A line is tokens between single spaces; `padded`: with one more at either end.

    opening, closing: what ordinary text has at a chunk's start or end, to the token it was. symmetric: tokens that open
    and close by turns. infixes: a pattern inside a chunk, to its token. periods: whether "." is split from words;
    lower_keeps: never before a lower-case letter.
    """

    opening: Mapping[str, str]
    closing: Mapping[str, str]
    contraction: re.Pattern[str]
    symmetric: frozenset[str] = frozenset()
    infixes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    periods: bool = True
    lower_keeps: bool = True
    abbreviations: re.Pattern[str] = ABBREVIATIONS
    headings: bool = False
    padded: bool = False

    def detokenize(self, line: str) -> str:
        """Return one line as ordinary text. Whether that can be undone is retokenize's to say."""
        if self.padded:
            line = line[1:-1] if len(line) > 1 else ""
        tokens = line.split(" ")
        wishes = self._wishes(tokens)
        chunks: list[str] = []
        start = 0
        for end in range(1, len(tokens) + 1):
            if end == len(tokens) or not wishes[end - 1]:
                chunks += self._chunks(tokens[start:end], tokens[end] if end < len(tokens) else "")
                start = end
        return " ".join(chunks)

    def retokenize(self, line: str) -> str:
        """Return the tokenised line that this ordinary text stands for."""
        chunks = line.split(" ")
        tokens = [token for chunk, following in zip(chunks, [*chunks[1:], ""], strict=True)
                  for token in self._split(chunk, following[:1])]
        joined = " ".join(tokens)
        if not self.padded:
            return joined
        return f" {joined} " if joined else " "

    def _wishes(self, tokens: Sequence[str]) -> list[bool]:
        """Return for each gap between two tokens whether ordinary text has no space there."""
        openers, closers = set(self.opening.values()) - self.symmetric, set(self.closing.values()) - self.symmetric
        wishes = [False] * len(tokens)
        unclosed: set[str] = set()
        for place, token in enumerate(tokens):
            before = tokens[place - 1] if place else ""
            after = tokens[place + 1] if place + 1 < len(tokens) else ""
            left = token in closers or (token == "." and self.periods)
            right = token in openers
            if token in self.symmetric:
                left = token in unclosed or (token == "'" and before.endswith("s"))
                right = not left
                unclosed ^= {token} if right or token in unclosed else set()
            elif token.startswith("'") or token.lower() == "n't":
                left = left or self.contraction.fullmatch(f"a{token}") is not None
            elif token in self.infixes and re.fullmatch(self.infixes[token][1], f"{before[-1:]} {after[:1]}"):
                left = right = True
            elif self.headings and token == after == "=":
                right = True
            if place and left and before:
                wishes[place - 1] = True
            if right and after:
                wishes[place] = True
        return wishes

    def _chunks(self, tokens: Sequence[str], following: str) -> Iterator[str]:
        """Yield chunks of tokens that would like to be one: the longest that are split back into what they were."""
        while tokens:
            for size in range(len(tokens), 0, -1):
                after = tokens[size] if size < len(tokens) else following
                chunk = tokens[0] if size == 1 else self._surface(tokens[:size])
                if size == 1 or self._split(chunk, after[:1]) == list(tokens[:size]):
                    break
            yield chunk
            tokens = tokens[size:]

    def _surface(self, tokens: Sequence[str]) -> str:
        shown = {token: text for marks in (self.opening, self.closing) for text, token in marks.items()}
        shown.update({token: text for token, (text, _) in self.infixes.items()})
        return "".join(shown.get(token, token) for token in tokens)

    def _split(self, chunk: str, after: str) -> list[str]:
        """Return the tokens of a chunk. after: the first character of the next one, "" at the end of a line."""
        if len(chunk) < 2 or chunk in self.infixes or self._is_mark(chunk):
            return [chunk]
        if self.headings and not chunk.strip("="):
            return list(chunk)
        left: list[str] = []
        right: list[str] = []
        while len(chunk) > 1 and chunk[0] in self.opening and not self._keeps_apostrophe(chunk):
            left.append(self.opening[chunk[0]])
            chunk = chunk[1:]
        while len(chunk) > 1:
            if chunk[-1] == "." and self.periods and self._ends_sentence(chunk[:-1], right[-1] if right else after):
                right.append(".")
            elif chunk[-1] in self.closing:
                right.append(self.closing[chunk[-1]])
            else:
                break
            chunk = chunk[:-1]
        while (found := self.contraction.fullmatch(chunk)) is not None:
            right.append(found[2])
            chunk = found[1]
        return [*left, *self._split_infixes(chunk), *reversed(right)]

    def _is_mark(self, chunk: str) -> bool:
        return chunk in self.opening.values() or chunk in self.closing.values()

    def _keeps_apostrophe(self, chunk: str) -> bool:
        if chunk[0] != "'":
            return False
        alone = _SUFFIX_ALONE.match(chunk.rstrip("".join(self.closing) + ".")) is not None
        return alone or ("'" not in self.symmetric and _CONTRACTED_AT_ITS_START.match(chunk) is not None)

    def _ends_sentence(self, word: str, after: str) -> bool:
        """Whether the period after `word` is a token of its own; `after` is what comes next."""
        if word.endswith("."):
            return False
        if "." in word and any(character.isalpha() for character in word):
            return False
        if self.abbreviations.fullmatch(word) or (len(word) == 1 and word.isupper()):
            return False
        if _BEFORE_NUMBERS.fullmatch(word) and after[:1].isdigit():
            return False
        return not (self.lower_keeps and after[:1].islower())

    def _split_infixes(self, chunk: str) -> list[str]:
        pieces = [chunk]
        for token, (text, between) in self.infixes.items():
            parted: list[str] = []
            for piece in pieces:
                start = 0
                if len(piece) > 2 and piece not in self.infixes:
                    for found in re.finditer(re.escape(text), piece):
                        sides = f"{piece[max(start, found.start() - 1):found.start()]} {piece[found.end():][:1]}"
                        if re.fullmatch(between, sides):
                            parted += [piece[start : found.start()], token]
                            start = found.end()
                parted.append(piece[start:])
            pieces = parted
        return pieces
