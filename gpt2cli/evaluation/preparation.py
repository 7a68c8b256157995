"""What is done to a text before it is scored: a part is chosen, it is de-tokenised, its last word is set apart.

The text before and the text after are both hashed, and what was changed or left alone is counted.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from gpt2cli.errors import counted
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


@dataclass
class Changes:
    """What was done to texts: lines in all and those left alone, marks and line ends taken away, texts of one word."""

    lines: int = 0
    passed: int = 0
    boms: int = 0
    crlf: int = 0
    wordless: int = 0
    given_bytes: int = 0

    def add(self, other: Changes) -> None:
        """Count what was done to another text too."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


class GivenCounter(UnitCounter):
    """Counts the units of the part that is evaluated, and hashes the text as it was given.

    changes: what was done to it. scored: the sha256 digest of what the model sees of it. Both are there when it is
    prepared.
    """

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.changes = Changes()
        self.scored = b""
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


class PreparedTexts:
    """The texts of one evaluation, or of a part of it: what was done to them, and the digest of what is scored."""

    def __init__(self, treatment: Treatment) -> None:
        self._treatment = treatment
        self._digest = hashlib.sha256()
        self.changes = Changes()

    def add(self, text: GivenCounter) -> None:
        """Take in the next text, which is prepared."""
        self._digest.update(text.scored)
        self.changes.add(text.changes)

    def as_fields(self) -> dict[str, Any]:
        """Return the record's fields: the digest over the scored documents' digests, and what was counted."""
        found: dict[str, Any] = {"scored_text_sha256": self._digest.hexdigest()}
        if self._treatment.detokenizer != "none":
            found |= {"n_lines": self.changes.lines, "n_lines_not_detokenized": self.changes.passed}
        if self._treatment.last is not None:
            found["n_bytes_given"] = self.changes.given_bytes
        if self._treatment.clean:
            found |= {"n_byte_order_marks_dropped": self.changes.boms, "n_crlf_read_as_lf": self.changes.crlf}
        return found


class Preparation:
    """Prepares every document of an evaluation in the same way; `texts` knows what became of them all."""

    def __init__(self, treatment: Treatment) -> None:
        style_named(treatment.detokenizer)
        self.treatment = treatment
        self.texts = PreparedTexts(treatment)

    def document(self, parts: Iterable[str], word: str, encode: Encode) -> tuple[Iterable[np.ndarray], GivenCounter]:
        """Return one document's ids in chunks, the last of them the last word's if only that is scored, and its count.

        word: the protocol's rule for words. The count is complete when the ids are used up.
        """
        counter = GivenCounter(word)
        return self._ids(parts, counter, encode), counter

    def sentences(self) -> list[str]:
        """Return what a careful person should be told."""
        said, done = [], self.texts.changes
        if done.passed:
            verb, it = ("is scored as it is", "it") if done.passed == 1 else ("are scored as they are", "them")
            said.append(f"{done.passed:,} of {counted(done.lines, 'line')} {verb}: the {self._name} de-tokenizer could "
                        f"not have been undone on {it}")
        if done.boms:
            texts = "a text" if done.boms == 1 else f"{done.boms:,} of the texts"
            said.append(f"a byte order mark was dropped from {texts}")
        if done.crlf:
            verb = "was read as a newline" if done.crlf == 1 else "were read as newlines"
            said.append(f"{counted(done.crlf, 'line end')} of carriage return and newline {verb}")
        if done.wordless:
            has, was = ("has", "was") if done.wordless == 1 else ("have", "were")
            said.append(f"{counted(done.wordless, 'passage')} {has} no word after another one, and {was} not scored")
        return said

    @property
    def _name(self) -> str:
        return self.treatment.detokenizer

    def _ids(self, parts: Iterable[str], counter: GivenCounter, encode: Encode) -> Iterator[np.ndarray]:
        changes = counter.changes
        text = self._chosen(_hashed(parts, counter), changes)
        if self.treatment.clean:
            text = _cleaned(text, changes)
        counter.add(text)
        done = detokenize(self._name, text)
        changes.lines = done.n_lines
        changes.passed = len(done.passed)
        scored = done.text
        if self.treatment.last_word:
            scored = scored.rstrip()
            cut = _last_word(scored, text)
            counter.only(scored[cut:] if cut else "")
            if not cut:
                changes.wordless = 1
                scored = ""
        counter.scored = hashlib.sha256(scored.encode()).digest()
        self.texts.add(counter)
        ids = encode(scored)
        if not self.treatment.last_word:
            yield ids
        elif scored:
            n_context = len(encode(scored[:cut]))
            yield ids[:n_context]
            yield ids[n_context:]

    def _chosen(self, parts: Iterable[str], changes: Changes) -> str:
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
        changes.given_bytes = total
        text = "".join(part for part, _ in kept)
        if last is None or held <= last:
            return text
        return text.encode()[-last:].decode("utf-8", "ignore")


def _cleaned(text: str, changes: Changes) -> str:
    changes.boms = int(text.startswith(BOM))
    changes.crlf = text.count("\r\n")
    text = text.removeprefix(BOM)
    return text.replace("\r\n", "\n") if changes.crlf else text


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
