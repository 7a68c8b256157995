"""The test side: documents or the items of tasks, read whole, their words as numbers; n-grams end where they do."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.overlap.inputs import InputForm, documents_in, read_work
from gpt2cli.overlap.long_words import LongWords, long_text
from gpt2cli.overlap.ngram_index import TestVocabulary
from gpt2cli.records.streams import display_name, open_input
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.document_batch import DocumentTally, LongDocument, TextBatch
from gpt2cli.tokens.words import DOCUMENT_END, words_of, words_of_lower

ItemTexts = Callable[[str], Iterable[tuple[str, int, str]]]
"""From a task file to its items: the task's name, the item's number, its text."""
_FIRST_LINE = 1 << 20
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class TestDocument:
    """A document, or an item of a task: the sha256 of its UTF-8, and the place of its words among all (start, stop).

    text: itself, if it is kept; task, item: the task's name and the item's number in it.
    """

    __test__ = False  # its name begins as pytest's classes do

    id: str
    start: int
    stop: int
    text: str | None = None
    task: str | None = None
    item: int | None = None


@dataclass
class TestFile:
    """What one --test names."""

    __test__ = False

    name: str
    documents: list[TestDocument] = field(default_factory=list)

    def text_sha256(self) -> str:
        """Return the digest over the documents' digests (32 bytes each) in order, as gpt2.eval/1 has it."""
        return hashlib.sha256(b"".join(bytes.fromhex(document.id) for document in self.documents)).hexdigest()


class TestSide:
    """Reads test files. `numbers` is int32 over the words of all, a gap behind every document.

    by_line: each line of plain text is a document, with its line end. keep_texts: documents keep their text.
    """

    __test__ = False

    def __init__(self, form: InputForm, item_texts: ItemTexts, *, by_line: bool = False, keep_texts: bool = False
                 ) -> None:
        self._form = form
        self._item_texts = item_texts
        self._by_line = by_line
        self._keep = keep_texts
        self._parts: list[np.ndarray] = []
        self._size = 0
        self.vocabulary = TestVocabulary()
        self.files: list[TestFile] = []

    @property
    def numbers(self) -> np.ndarray:
        """The numbers of all words read so far."""
        return np.concatenate([np.empty(0, dtype=np.int32), *self._parts])

    def read(self, path: str, reporter: Reporter) -> None:
        """Read one more file: documents with text, or a task. Raises BadInput when there is none in it."""
        file = TestFile(_printable(path))
        tally = DocumentTally()
        if is_task(path):
            for task, number, text in self._item_texts(path):
                file.documents.append(self._document(text, task, number))
        else:
            for document in self._read_documents(path, tally):
                file.documents.append(document)
        for line in tally.sentences():
            reporter.warn(f"--test {display_name(path)}: {line}")
        if not file.documents:
            raise BadInput(f"{display_name(path)} holds no document with text, so there is nothing to look for")
        self.files.append(file)

    def read_items(self, name: str, items: Iterable[tuple[str, int, str]]) -> None:
        """Take in a task's items (the task's name, the item's number, its text) as one more file of this name."""
        self.files.append(TestFile(name, [self._document(text, task, number) for task, number, text in items]))

    def _read_documents(self, path: str, tally: DocumentTally) -> Iterator[TestDocument]:
        for work in read_work([path], tally, self._form):
            if isinstance(work, LongDocument):
                if self._by_line and work.where == work.name:
                    yield from map(self._document, _lines(long_text(work, work.loss)))
                else:
                    yield self._long_document(work)
                tally.loss.add(work.loss)
                continue
            for document in documents_in(work, tally):
                if self._by_line and isinstance(work, TextBatch):
                    yield from map(self._document, _lines([document.text]))
                else:
                    yield self._document(document.text)

    def _document(self, text: str, task: str | None = None, item: int | None = None) -> TestDocument:
        start = self._size
        self._take(words_of(text))
        return self._ended(start, hashlib.sha256(text.encode()).hexdigest(), text, task, item)

    def _long_document(self, document: LongDocument) -> TestDocument:
        if self._keep:
            return self._document("".join(long_text(document, document.loss)))
        start = self._size
        words = LongWords(document)
        for part in words:
            self._take(words_of_lower(part))
        return self._ended(start, words.sha256.hexdigest(), "", None, None)

    def _ended(self, start: int, digest: str, text: str, task: str | None, item: int | None) -> TestDocument:
        stop = self._size
        self._take([DOCUMENT_END])
        return TestDocument(digest, start, stop, text if self._keep else None, task, item)

    def _take(self, words: list[str]) -> None:
        self._parts.append(self.vocabulary.numbers(words))
        self._size += len(words)


def is_task(path: str) -> bool:
    """Whether a test file is a task: YAML by its name, or JSONL whose first record is neither ours nor has a text."""
    if path.endswith(_YAML):
        return True
    if not os.path.isfile(path):
        return False
    with open_input(path) as stream:
        line = stream.readline(_FIRST_LINE).strip()
    if not line.startswith((b"{", b"\xef\xbb\xbf{")):
        return False
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and "text" not in record and "schema" not in record


def _lines(parts: Iterable[str]) -> Iterator[str]:
    held = ""
    for part in parts:
        *whole, held = (held + part).split("\n")
        yield from (f"{line}\n" for line in whole)
    if held:
        yield held


def _printable(path: str) -> str:
    """A file's name need not be UTF-8, a record is; its directory is nobody's business."""
    name = os.path.basename(os.path.normpath(path)) if path != "-" else path
    return os.fsencode(name).decode("utf-8", "replace")
