"""What is done to a text before it is scored: a part is chosen, it is de-tokenised, its last word is set apart.

The text before and the text after are both hashed, and what was changed or left alone is counted.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.evaluation.detokenize import detokenize, style_named
from gpt2cli.evaluation.units import UnitCounter, Units

BOM = "\ufeff"
Encode = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Treatment:
    """detokenizer: a key of detokenize.STYLES. clean: a byte order mark goes and CRLF becomes LF.

    lines: each line of plain text is a document. last: only so many bytes at the end of a text. last_word: only the
    last word is scored and counted.
    """

    detokenizer: str = "none"
    clean: bool = False
    lines: bool = False
    last: int | None = None
    last_word: bool = False


class GivenCounter(UnitCounter):
    """Counts the units of the part that is evaluated, and hashes the text as it was given."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self._given = hashlib.sha256()
        self._last_word: Units | None = None

    def saw(self, part: str) -> None:
        """Hash the next part of the text as given."""
        self._given.update(part.encode())

    def only(self, text: str) -> None:
        """Count `text` as one word, and nothing else; nothing at all if it is empty."""
        self._last_word = Units(1, len(text.encode()), len(text)) if text else Units()

    @property
    def units(self) -> Units:
        """The units so far."""
        return super().units if self._last_word is None else self._last_word

    @property
    def sha256(self) -> str:
        """The hex sha256 of the UTF-8 as given."""
        return self._given.hexdigest()


class Preparation:
    """Prepares every document of an evaluation in the same way, and knows what became of them."""

    def __init__(self, treatment: Treatment) -> None:
        style_named(treatment.detokenizer)
        self.treatment = treatment
        self._digest = hashlib.sha256()
        self._lines = self._passed = self._boms = self._crlf = self._wordless = 0
        self._given_bytes = 0

    def document(self, parts: Iterable[str], word: str, encode: Encode) -> tuple[Iterable[np.ndarray], GivenCounter]:
        """Return one document's ids in chunks, the last of them the last word's if only that is scored, and its count.

        word: the protocol's rule for words. The count is complete when the ids are used up.
        """
        counter = GivenCounter(word)
        return self._ids(parts, counter, encode), counter

    def as_fields(self) -> dict[str, Any]:
        """Return the record's fields: the digest over the scored documents' digests, and what was counted."""
        fields: dict[str, Any] = {"scored_text_sha256": self._digest.hexdigest()}
        if self.treatment.detokenizer != "none":
            fields |= {"n_lines": self._lines, "n_lines_not_detokenized": self._passed}
        if self.treatment.last is not None:
            fields["n_bytes_given"] = self._given_bytes
        if self.treatment.clean:
            fields |= {"n_byte_order_marks_dropped": self._boms, "n_crlf_read_as_lf": self._crlf}
        return fields

    def sentences(self) -> list[str]:
        """Return what a careful person should be told."""
        said = []
        if self._passed:
            said.append(f"{self._passed:,} of {self._lines:,} lines are scored as they are: the {self._name} "
                        "de-tokenizer could not have been undone on them")
        if self._boms:
            said.append(f"a byte order mark was dropped from {self._boms:,} of the texts")
        if self._crlf:
            said.append(f"{self._crlf:,} line ends of carriage return and newline were read as newlines")
        if self._wordless:
            passages = "passage has" if self._wordless == 1 else "passages have"
            said.append(f"{self._wordless:,} {passages} no word after another one, and were not scored")
        return said

    @property
    def _name(self) -> str:
        return self.treatment.detokenizer

    def _ids(self, parts: Iterable[str], counter: GivenCounter, encode: Encode) -> Iterator[np.ndarray]:
        text = self._chosen(_hashed(parts, counter))
        if self.treatment.clean:
            text = self._cleaned(text)
        counter.add(text)
        done = detokenize(self._name, text)
        self._lines += done.n_lines
        self._passed += len(done.passed)
        scored = done.text
        if self.treatment.last_word:
            scored = scored.rstrip()
            cut = _last_word(scored, text)
            counter.only(scored[cut:] if cut else "")
            if not cut:
                self._wordless += 1
                scored = ""
        self._digest.update(hashlib.sha256(scored.encode()).digest())
        ids = encode(scored)
        if not self.treatment.last_word:
            yield ids
        elif scored:
            n_context = len(encode(scored[:cut]))
            yield ids[:n_context]
            yield ids[n_context:]

    def _chosen(self, parts: Iterable[str]) -> str:
        """Return the text, or its end of `last` bytes, from the first whole character on."""
        last = self.treatment.last
        kept: deque[tuple[str, int]] = deque()
        held = total = 0
        for part in parts:
            size = len(part.encode())
            kept.append((part, size))
            held += size
            total += size
            while last is not None and held - kept[0][1] >= last:
                held -= kept.popleft()[1]
        self._given_bytes += total
        text = "".join(part for part, _ in kept)
        if last is None or held <= last:
            return text
        return text.encode()[-last:].decode("utf-8", "ignore")

    def _cleaned(self, text: str) -> str:
        self._boms += text.startswith(BOM)
        crlf = text.count("\r\n")
        self._crlf += crlf
        text = text.removeprefix(BOM)
        return text.replace("\r\n", "\n") if crlf else text


def _last_word(scored: str, given: str) -> int:
    """Return where the last word of `scored` begins, with the space before it; 0 if nothing is before it.

    The word is that of the text as given, so a quotation mark that was joined to it is not part of it.
    """
    words = given.split()
    if words and scored.endswith(words[-1]):
        place = len(scored) - len(words[-1])
    else:
        place = len(scored) - len(scored.split()[-1]) if scored else 0
    while place and scored[place - 1].isspace():
        place -= 1
    return place


def _hashed(parts: Iterable[str], counter: GivenCounter) -> Iterator[str]:
    for part in parts:
        counter.saw(part)
        yield part
