"""Documents -> their signature file, in bounded memory, by several processes, the same bytes for any number of them."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gpt2cli.errors import Interrupted
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.ordered_pool import OrderedPool
from gpt2cli.webtext.dedup_profiles import DedupProfile
from gpt2cli.webtext.document_lines import document_of
from gpt2cli.webtext.external_sort import RowSort
from gpt2cli.webtext.minhash import MinHasher
from gpt2cli.webtext.shingles import text_digest
from gpt2cli.webtext.signature_file import InputFacts, precedence, row_dtype, write_signatures

BATCH_BYTES = 1 << 20
BATCH_LINES = 2048


@dataclass(frozen=True)
class LineBatch:
    """Consecutive lines of an input, the first of them number `first` (from 0)."""

    first: int
    lines: list[bytes]


@dataclass(frozen=True)
class SignedBatch:
    """The rows of a batch's documents, and how many lines were passed over for which reason."""

    rows: np.ndarray
    skipped: Counter[str]


class Signer:
    """Makes rows of lines; every worker process has one."""

    def __init__(self, profile: DedupProfile, name: str) -> None:
        self._dtype = row_dtype(profile.values)
        self._hasher = MinHasher(profile)
        self._name = name

    def __call__(self, batch: LineBatch) -> SignedBatch:
        """Return the rows of the documents in `batch`. Raises BadInput."""
        rows = np.zeros(len(batch.lines), dtype=self._dtype)
        skipped: Counter[str] = Counter()
        made = 0
        for number, line in enumerate(batch.lines, batch.first):
            document = document_of(line, f"{self._name} line {number + 1}")
            if isinstance(document, str):
                skipped[document] += 1
                continue
            text = document["text"]
            signature = self._hasher.signature(text)
            row = rows[made]
            row["order"] = precedence(document.get("created_utc"), document["id"], line)
            row["text"] = text_digest(text)
            row["line"] = number
            if signature is not None:
                row["words"] = 1
                row["signature"] = signature
            made += 1
        return SignedBatch(rows[:made], skipped)


def sign(
    lines: Iterable[bytes],
    name: str,
    file: BinaryIO,
    profile: DedupProfile,
    *,
    workers: int,
    memory: int,
    scratch: Path,
    reporter: Reporter,
) -> InputFacts:
    """Write the signature file of the documents in `lines` to `file`; sorted runs go to `scratch` meanwhile.

    name: the input's, for messages. memory: bytes for sorting. Raises BadInput, and Interrupted when asked to stop.
    """
    digest, counted = hashlib.blake2b(digest_size=16), [0]

    def seen() -> Iterator[bytes]:
        for line in lines:
            digest.update(line)
            digest.update(b"\n")
            counted[0] += 1
            yield line

    skipped: Counter[str] = Counter()
    documents = 0
    with RowSort(scratch, row_dtype(profile.values), "order", memory) as rows, contextlib.ExitStack() as stack:
        for signed in _signed(_batches(seen()), Signer(profile, name), workers, stack):
            rows.add(signed.rows)
            documents += len(signed.rows)
            skipped += signed.skipped
            reporter.progress(documents, None, "documents signed")
            if reporter.stopping():
                raise Interrupted("stopped while signatures were made; run the same command again")
        stack.close()
        facts = InputFacts(documents, counted[0], digest.hexdigest())
        write_signatures(file, profile, facts, rows.blocks())
    skipped.pop("blank line", None)
    if skipped:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(skipped.items()))
        reporter.note(f"{name}: skipped {counts}")
    return facts


def _batches(lines: Iterator[bytes]) -> Iterator[LineBatch]:
    first, waiting, size = 0, [], 0
    for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= BATCH_BYTES or len(waiting) == BATCH_LINES:
            yield LineBatch(first, waiting)
            first, waiting, size = first + len(waiting), [], 0
    if waiting:
        yield LineBatch(first, waiting)


def _signed(batches: Iterator[LineBatch], signer: Callable[[LineBatch], SignedBatch], workers: int,
            stack: contextlib.ExitStack) -> Iterator[SignedBatch]:
    """Yield the signed batches in order; the first is done here, so that a small input starts no process."""
    first = next(batches, None)
    if first is None:
        return
    yield signer(first)
    second = next(batches, None)
    if second is None:
        return
    if workers == 1:
        yield signer(second)
        yield from map(signer, batches)
        return
    pool: OrderedPool[LineBatch, SignedBatch] = stack.enter_context(OrderedPool(workers, signer))
    yield from pool.map(_again(second, batches))


def _again(first: LineBatch, rest: Iterator[LineBatch]) -> Iterator[LineBatch]:
    yield first
    yield from rest


def spooled(lines: Iterable[bytes], file: BinaryIO) -> Iterator[bytes]:
    """Pass `lines` on, writing each to `file` on the way."""
    for line in lines:
        file.write(line)
        file.write(b"\n")
        yield line
