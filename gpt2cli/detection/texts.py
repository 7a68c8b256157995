"""Human and generated texts brought into one form, so that nothing but how they are written can tell them apart.

A text loses the white space at its ends, and with it U+FFFD there (a sample of bytes may begin or end inside a
character); then only its first N words are kept, and a text with fewer is left out. Words are what white space parts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gpt2cli.errors import BadInput, Interrupted, counted
from gpt2cli.records.jsonl import parse_line
from gpt2cli.records.schemas import SCHEMAS, newer_format, parse_schema
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.document_batch import DocumentTally, LineBatch, LongDocument, TextBatch, documents_of, record_text
from gpt2cli.tokens.documents import read_batches
from gpt2cli.tokens.unicode_loss import decode_utf8, replace_surrogates

SETTING = ("temperature", "top_k", "top_p")
"""Fields of a gpt2.sample/1 record that say how it was drawn."""
_EDGES = " \t\n\r\f\v\ufffd"
_WORD = re.compile(r"\S+")
SHORT = 0.1
"""Share of either side's texts that may be too short for the number of words that is chosen where none is given."""


@dataclass(frozen=True)
class Text:
    """One text. id: sha256 of its UTF-8 as read. key: what decides its part, the sha256 of its prompt if it has one.

    setting: temperature, top-k and top-p of a sample, None of any other text.
    """

    text: str
    id: str
    key: str
    where: str
    setting: tuple[Any, ...] | None = None

    @property
    def n_words(self) -> int:
        """How many words the text has."""
        return sum(1 for _ in _WORD.finditer(self.text))


@dataclass
class Reading:
    """What was met: what the reader of documents tells, and texts that came again."""

    tally: DocumentTally = field(default_factory=DocumentTally)
    repeated: int = 0

    def sentences(self, what: str) -> list[str]:
        """Return what a person should be told of the texts of one side, `what` they are called."""
        lines = [f"{what}: {line}" for line in self.tally.sentences()]
        if self.repeated:
            lines.append(f"{what}: left out {counted(self.repeated, 'repetition')} of texts given before")
        return lines


def read_texts(paths: Sequence[str], reading: Reading, reporter: Reporter) -> Iterator[Text]:
    """Yield the texts of documents JSONL, gpt2.sample records, plain text and directories, as they are.

    A file of plain text is one text. Raises BadInput for damaged input, Interrupted when asked to stop.
    """
    tally = reading.tally
    for batch in read_batches(paths, tally):
        if reporter.stopping():
            raise Interrupted
        for text in _of_batch(batch, tally):
            if trimmed(text.text):
                yield text
            else:
                tally.skip("empty texts")


def read_distinct(paths: Sequence[str], what: str, reporter: Reporter) -> list[Text]:
    """Return the texts of one side, each once; BadInput when there is none. `what`: human or generated texts."""
    reading, found = Reading(), dict[str, Text]()
    for text in read_texts(paths, reading, reporter):
        reading.repeated += text.id in found
        found.setdefault(text.id, text)
    for line in reading.sentences(what):
        reporter.warn(line)
    if not found:
        raise BadInput(f"there are no {what} in {', '.join(paths)}")
    return list(found.values())


def without_shared(human: list[Text], generated: list[Text], reporter: Reporter) -> tuple[list[Text], list[Text]]:
    """Return both sides without the texts that are in both: nothing could tell which they are."""
    shared = {text.id for text in human} & {text.id for text in generated}
    if shared:
        reporter.warn(f"{counted(len(shared), 'text')} given both as human and as generated: left out of both")
    return [t for t in human if t.id not in shared], [t for t in generated if t.id not in shared]


def trimmed(text: str) -> str:
    """Return `text` without white space and U+FFFD at its ends."""
    return text.strip(_EDGES).strip().strip(_EDGES)


def first_words(text: str, words: int | None) -> str | None:
    """Return a text's first `words` words, trimmed; None when it has fewer; None for `words` keeps them all."""
    text = trimmed(text)
    if words is None:
        return text or None
    for number, found in enumerate(_WORD.finditer(text), 1):
        if number == words:
            return trimmed(text[: found.end()])
    return None


def cut_all(texts: Iterable[Text], words: int | None) -> list[Text]:
    """Return the texts cut to their first `words` words, without those that have fewer."""
    cut = ((text, first_words(text.text, words)) for text in texts)
    return [replace(text, text=short) for text, short in cut if short is not None]


def distinct_once_cut(texts: list[Text]) -> list[Text]:
    """Return texts that were cut without those that now equal another: of equals the one with the smallest id stays."""
    kept: dict[str, Text] = {}
    for text in texts:
        other = kept.get(text.text)
        if other is None or text.id < other.id:
            kept[text.text] = text
    return [text for text in texts if kept[text.text] is text]


def common_words(human: list[Text], generated: list[Text]) -> int:
    """Return the largest number of words that all but SHORT of the texts on either side have."""
    return max(1, min(_enough(human), _enough(generated)))


def _enough(texts: list[Text]) -> int:
    lengths = sorted(text.n_words for text in texts)
    return lengths[int(len(lengths) * SHORT)]


def _of_batch(batch: LineBatch | TextBatch | LongDocument, tally: DocumentTally) -> Iterator[Text]:
    if isinstance(batch, LineBatch):
        yield from _of_lines(batch, tally)
    elif isinstance(batch, TextBatch):
        yield from (_text(document.text, document.where, {}) for document in documents_of(batch, tally))
    else:
        yield _of_long(batch, tally)


def _of_lines(batch: LineBatch, tally: DocumentTally) -> Iterator[Text]:
    offset = batch.offset
    for number, line in enumerate(batch.data.removesuffix(b"\n").split(b"\n"), batch.number):
        where = f"{batch.name} line {number}"
        if not line.strip():
            tally.skip("blank lines")
        else:
            record = parse_line(decode_utf8(line, tally.loss, batch.name, offset).encode(), where)
            text = _record_text(record, where, tally)
            if text is not None:
                yield _text(text, where, record)
        offset += len(line) + 1


def _record_text(record: dict[str, Any], where: str, tally: DocumentTally) -> str | None:
    parsed = parse_schema(record.get("schema"))
    if parsed is None or parsed[0] != "gpt2.sample":
        return record_text(record, where, tally)
    if parsed[1] > SCHEMAS["gpt2.sample"][0]:
        raise newer_format(where, *parsed)
    return record_text({name: value for name, value in record.items() if name != "schema"}, where, tally)


def _of_long(batch: LongDocument, tally: DocumentTally) -> Text:
    data = b"".join(batch.blocks)
    tally.loss.add(batch.loss)
    return _text(decode_utf8(data, tally.loss, batch.name, batch.offset), batch.where, {})


def _text(text: str, where: str, record: dict[str, Any]) -> Text:
    text, prompt = _whole(text), record.get("prompt")
    key = prompt if isinstance(prompt, str) and prompt else text
    setting = tuple(_number(record.get(name)) for name in SETTING) if "temperature" in record else None
    return Text(text, _sha256(text), _sha256(_whole(key)), where, setting)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(text: str) -> str:
    return replace_surrogates(text)[0] if any("\ud800" <= c <= "\udfff" for c in text) else text


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
