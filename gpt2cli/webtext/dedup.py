"""Step 4: documents that are the same but for white space and Unicode form -> the first of them."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator

from gpt2cli.errors import Interrupted
from gpt2cli.records.jsonl import Record
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.tally import StepTally


def text_digest(text: str) -> bytes:
    """Return the 128-bit hash of a text in NFC with every run of white space as one space."""
    folded = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def unique_documents(documents: Iterable[Record], tally: StepTally, reporter: Reporter) -> Iterator[Record]:
    """Yield each document (gpt2.document/1 fields) whose text was not seen before, in order: the first one wins."""
    seen: set[bytes] = set()
    for document in documents:
        tally.read += 1
        if reporter.stopping():
            raise Interrupted("stopped while removing duplicates; the same command begins this step anew")
        digest = text_digest(document["text"])
        if digest in seen:
            tally.drop(str(document.get("url") or document["id"]), "duplicate text")
            continue
        seen.add(digest)
        tally.kept += 1
        yield document
