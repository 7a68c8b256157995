"""Which documents or items are left out of a clean score: those of which too much was met in training.

The GPT-2 paper (section 4) rescored LAMBADA so, without the examples that have any overlap at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.overlap_records import Measured, OverlapFile, read_overlap, texts_in_order
from gpt2cli.reporter import Reporter

EXCLUDED = "exclude_overlap"
"""The entry of a clean record's protocol; no other record has it."""


def is_clean(record: Mapping[str, Any]) -> bool:
    """Whether a gpt2.eval or gpt2.task record is of what was left after an exclusion, and not of all."""
    protocol = record.get("protocol")
    return isinstance(protocol, dict) and EXCLUDED in protocol


@dataclass(frozen=True)
class ExclusionChoice:
    """path: what `gpt2 overlap` wrote. max_overlap: a text with a greater share of its n-grams met is left out."""

    path: str
    max_overlap: float = 0.0


@dataclass(frozen=True)
class TextOfItem:
    """An item of a task: its number, and the sha256 of its text."""

    number: int
    id: str


class Exclusion:
    """Tells what is left out, and refuses an overlap that was not measured on what is evaluated."""

    def __init__(self, found: OverlapFile, max_overlap: float) -> None:
        self._found = found
        self._max_overlap = max_overlap

    @property
    def sha256(self) -> str:
        """The digest of the overlap that was read."""
        return self._found.sha256

    def excludes(self, measured: Measured) -> bool:
        """Whether a text is left out."""
        return measured.overlap > self._max_overlap

    def as_protocol(self, split: str | None = None) -> dict[str, Any]:
        """Return what a clean record's protocol says of how documents were left out; equal for pieces of one text.

        split: that of which the documents are a part.
        """
        whole = self._found.whole
        return {"ngram": whole["n"], "max_overlap": self._max_overlap, "method": whole["method"],
                "false_positive_rate": whole.get("false_positive_rate"), "train": whole["train"], "of_split": split}

    def documents(self) -> DocumentRun:
        """Return what follows the evaluated documents through the overlap's. Raises BadInput where none would be left.
        """
        texts = list(texts_in_order(self._found.documents))
        if not texts:
            raise BadInput(f"{self._found.name} holds no document that is no item of a task")
        if all(self.excludes(each) for each in texts):
            raise BadInput(f"{self._all_met(len(texts), 'document')}, so no clean one would be left; "
                           + ("a text that is one document is left out whole: cut it into documents, or "
                              if len(texts) == 1 else "") + "raise --max-overlap")
        return DocumentRun(self._found.name, texts)

    def of_task(self, name: str, items: Sequence[TextOfItem]) -> dict[int, Measured]:
        """Return each item's overlap by its number.

        The overlap names the task and its items; or its documents are the items' texts, in order. Raises BadInput when
        it was measured on other items, and when none would be left.
        """
        own = self._found.items.get(name)
        if own is None and not self._found.documents:
            there = ", ".join(sorted(self._found.items))
            raise BadInput(f"{self._found.name} knows no task {name!r}, only {there}")
        if own is None:
            run = DocumentRun(self._found.name, list(texts_in_order(self._found.documents)), f"item of task {name}")
            measured = [run.take(item.id) for item in items]
        else:
            measured = [self._of_item(own, name, item) for item in items]
        if all(self.excludes(each) for each in measured):
            raise BadInput(f"task {name}: {self._all_met(len(items), 'item')}, so no clean one is left; raise "
                           "--max-overlap")
        return {item.number: each for item, each in zip(items, measured, strict=True)}

    def _all_met(self, count: int, what: str) -> str:
        they, share = f"the one {what} has" if count == 1 else f"all {count:,} {what}s have", self._max_overlap
        beyond = f"more than {share:g}" if share else "some"
        own = "its" if count == 1 else "their"
        return f"{they} {beyond} of {own} {self._found.whole['n']}-grams in the training text"

    def _of_item(self, own: Mapping[int, Measured], name: str, item: TextOfItem) -> Measured:
        if item.number not in own:
            raise BadInput(f"{self._found.name} knows no item {item.number} of task {name}; run gpt2 overlap again on "
                           "what is evaluated")
        measured = own[item.number]
        if measured.id != item.id:
            raise BadInput(f"{self._found.name}: item {item.number} of task {name} was another text when its overlap "
                           "was measured; run gpt2 overlap again on what is evaluated")
        return measured


class DocumentRun:
    """Follows evaluated documents, which must be some of the overlap's that stand together, in their order."""

    def __init__(self, name: str, documents: Sequence[Measured], what: str = "document") -> None:
        self._name = name
        self._documents = documents
        self._what = what
        self._starts: list[int] = []
        self._taken = 0

    def take(self, sha256: str) -> Measured:
        """Return the next document's overlap by the sha256 of its text.

        Raises BadInput for a text that is not the next one of any run.
        """
        if not self._taken:
            starts = [place for place, each in enumerate(self._documents) if each.id == sha256]
        else:
            starts = [start for start in self._starts if self._id_at(start + self._taken) == sha256]
        if not starts:
            raise BadInput(self._stale(sha256))
        self._starts = starts
        self._taken += 1
        return self._documents[starts[0] + self._taken - 1]

    def _id_at(self, place: int) -> str | None:
        return self._documents[place].id if place < len(self._documents) else None

    def _stale(self, sha256: str) -> str:
        where = f"{self._what} {self._taken} (from 0)"
        if all(each.id != sha256 for each in self._documents):
            return (f"{self._name} knows no text like {where}, {sha256[:12]}: its overlap was measured on something "
                    "else, or the text has changed since; run gpt2 overlap again on what is evaluated")
        return (f"{self._name} has the text of {where} at another place: its documents are in another order, or some "
                "are missing; run gpt2 overlap again on what is evaluated")


def refuse_stdin_twice(choice: ExclusionChoice | None, inputs: Sequence[str]) -> None:
    """Raise UsageFault where the overlap and one of the evaluated `inputs` are both standard input (`-`)."""
    if choice is not None and choice.path == "-" and "-" in inputs:
        raise UsageFault("the overlap and what is evaluated cannot both come from standard input")


def open_exclusion(choice: ExclusionChoice, reporter: Reporter) -> Exclusion:
    """Return the Exclusion of a choice. Raises what read_overlap raises."""
    return Exclusion(read_overlap(choice.path, reporter), choice.max_overlap)

