"""The documents of all signature files in the order of their precedence: a document's place there is its rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gpt2cli.errors import Interrupted, UsageFault
from gpt2cli.records.named_file import NamedFile
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.dedup_profiles import DedupProfile
from gpt2cli.webtext.external_sort import RowSort, merge_sorted, read_rows
from gpt2cli.webtext.signature_file import SignatureFile, row_dtype
from gpt2cli.webtext.union_find import UnionFind

STOPPED = "stopped while duplicates were looked for; run the same command again"
MOST_FILES = 1000
"""Signature files that are merged at once; each holds a file open."""
_HASHES = np.dtype([("text", "S16"), ("rank", "<u8")])


class RankedDocuments:
    """Rows of signature files, `part` (which file) added, in a file of their own. Use with contextlib.closing."""

    def __init__(self, path: Path, profile: DedupProfile, documents: int) -> None:
        self.profile = profile
        self.documents = documents
        self.dtype = ranked_dtype(profile)
        self._path = path
        self._file = NamedFile(path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def blocks(self, memory: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (rank of the first, rows [k]) of all documents, about `memory` bytes at a time."""
        start = 0
        for block in read_rows(self._path, self.dtype, max(1, memory // self.dtype.itemsize)):
            yield start, block
            start += len(block)

    def rows(self, ranks: np.ndarray) -> np.ndarray:
        """Return the rows of some ranks. Read, not mapped: a mapping would hold most of the file at times."""
        size = self.dtype.itemsize
        data = b"".join([self._file.pread(size, rank * size) for rank in ranks.tolist()])
        return np.frombuffer(data, dtype=self.dtype)

    def signatures(self, ranks: np.ndarray) -> np.ndarray:
        """Return the signatures of some ranks, uint32 [k, values]."""
        found: np.ndarray = self.rows(ranks)["signature"]
        return found


def ranked_dtype(profile: DedupProfile) -> np.dtype:
    """Return the type of a ranked row."""
    fields = row_dtype(profile.values)
    return np.dtype([("part", "<u4"), *((name, fields[name]) for name in fields.names or ())])


def rank_documents(files: Sequence[SignatureFile], scratch: Path, memory: int, reporter: Reporter) -> RankedDocuments:
    """Merge signature files into one order; of equal records those of an earlier file come first.

    Raises BadInput for a damaged file, UsageFault when there are none or too many or they have different profiles.
    """
    if not 0 < len(files) <= MOST_FILES:
        raise UsageFault(f"give 1 to {MOST_FILES:,} signature files, not {len(files):,}; cat the documents of some")
    profile = files[0].profile
    for file in files:
        if file.profile != profile:
            raise UsageFault(f"{file.path} was made with another profile than {files[0].path}; make one of them again")
    dtype = ranked_dtype(profile)
    rows = max(1, memory // (3 * dtype.itemsize * (len(files) + 1)))
    path, done = scratch / "ranked", 0
    with open(path, "wb") as out:
        for block in merge_sorted([_of_part(file, part, rows, dtype) for part, file in enumerate(files)], "order"):
            out.write(block.view(np.uint8).data)
            done += len(block)
            reporter.progress(done, sum(file.facts.documents for file in files), "documents ranked")
            if reporter.stopping():
                raise Interrupted(STOPPED)
    return RankedDocuments(path, profile, done)


def _of_part(file: SignatureFile, part: int, rows: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    for block in file.blocks(rows):
        ranked = np.empty(len(block), dtype=dtype)
        ranked["part"] = part
        for name in block.dtype.names or ():
            ranked[name] = block[name]
        yield ranked


def join_exact(ranked: RankedDocuments, sets: UnionFind, scratch: Path, memory: int) -> None:
    """Join the documents whose texts have one hash."""
    with RowSort(scratch, _HASHES, "text", memory) as sort:
        for start, rows in ranked.blocks(memory):
            hashes = np.empty(len(rows), dtype=_HASHES)
            hashes["text"] = rows["text"]
            hashes["rank"] = np.arange(start, start + len(rows))
            sort.add(hashes)
        last = np.empty(0, dtype=_HASHES)
        for block in sort.blocks():
            found = np.concatenate([last, block])
            same = np.flatnonzero(found["text"][1:] == found["text"][:-1])
            sets.join(np.stack([found["rank"][same], found["rank"][same + 1]], axis=1))
            last = found[-1:]
