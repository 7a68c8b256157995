"""What eval-ppl keeps of the clean documents while it scores all, and the second record that comes of it."""

from __future__ import annotations

import hashlib
from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.bootstrap import percentile_intervals
from gpt2cli.evaluation.clean_difference import text_difference
from gpt2cli.evaluation.exclusion import EXCLUDED, Exclusion
from gpt2cli.evaluation.measures import DocumentSums, Sums
from gpt2cli.evaluation.overlap_records import Measured
from gpt2cli.evaluation.paper import compare
from gpt2cli.evaluation.preparation import GivenCounter, PreparedTexts, Treatment
from gpt2cli.evaluation.units import UnitCounter, Units

COUNTS = ("n_documents", "n_tokens", "n_words", "n_bytes", "n_characters")


class CleanDocuments:
    """Takes all documents in their order, and keeps the sums of those that are not excluded."""

    def __init__(self, exclusion: Exclusion, treatment: Treatment | None) -> None:
        """treatment: how the texts are prepared, None for texts as they are."""
        self._exclusion = exclusion
        self._run = exclusion.documents()
        self._digest = hashlib.sha256()
        self._prepared = None if treatment is None else PreparedTexts(treatment)
        self.sums = DocumentSums()

    def add(self, nll_nats: float, n_tokens: int, counter: UnitCounter) -> dict[str, Any]:
        """Take in the next document, and return what its record says of its overlap: overlap, and whether excluded.

        Raises BadInput where the overlap was measured on other documents.
        """
        measured: Measured = self._run.take(counter.sha256)
        excluded = self._exclusion.excludes(measured)
        if not excluded:
            self._digest.update(bytes.fromhex(counter.sha256))
            if self._prepared is not None and isinstance(counter, GivenCounter):
                self._prepared.add(counter)
            self.sums.add(nll_nats, n_tokens, counter.units)
        return {"overlap": measured.overlap, "excluded": excluded}

    def record(self, whole: dict[str, Any], sums: Sums, units_of_empty: Units, resamples: int) -> dict[str, Any]:
        """Return the fields of the clean documents' gpt2.eval/1.

        whole: the fields of that of all; sums: its sums; units_of_empty: those of a document without text. Raises
        BadInput where no clean document has a scored token.
        """
        clean = self.sums.total(sums.n_empty_documents, units_of_empty=units_of_empty)
        if not clean.n_tokens:
            raise BadInput("every document with a scored token has more overlap than --max-overlap, so there is no "
                           "clean one; score more documents together, or raise --max-overlap")
        protocol = {**whole["protocol"], EXCLUDED: self._exclusion.as_protocol(whole["split"])}
        record = {**whole, "split": None, **clean.as_fields(), "protocol": protocol,
                  "text_sha256": self._digest.hexdigest()}
        record.pop("val_sha256", None)
        if self._prepared is not None:
            record |= self._prepared.as_fields()
        if resamples:
            record["bootstrap"] = percentile_intervals(self.sums, resamples)
        record |= compare(str(protocol["name"]), record)
        return record | {"exclusion": {"overlap_sha256": self._exclusion.sha256, **exclusion_fields(sums, clean)}}


def exclusion_fields(whole: Sums, clean: Sums) -> dict[str, Any]:
    """Return what a clean record says of what was left out, and of the difference that it makes."""
    ours, theirs = clean.as_fields(), whole.as_fields()
    return {**{name: theirs[name] for name in COUNTS},
            **{f"{name}_excluded": theirs[name] - ours[name] for name in COUNTS},
            "difference": text_difference(whole, clean)}
