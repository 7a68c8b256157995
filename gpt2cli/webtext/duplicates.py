"""Sets of documents that belong together -> which documents to drop, and for which one that stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2cli.errors import Interrupted
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.external_sort import RowSort
from gpt2cli.webtext.minhash import similarities
from gpt2cli.webtext.ranked_documents import STOPPED, RankedDocuments
from gpt2cli.webtext.signature_file import id_of
from gpt2cli.webtext.union_find import UnionFind

EXACT, NEAR = "exact duplicate", "near duplicate"
_AT_ONCE = 4096
_LINE_BITS = np.uint64(40)
_DROPPED = np.dtype([("place", "<u8"), ("exact", "u1"), ("similarity", "<f8"), ("survivor", "S88"),
                     ("survivor_place", "<u8")])
_ROOT = np.dtype([("root", "<u8")])


@dataclass(frozen=True)
class Duplicate:
    """A document to drop, by input (`part`, from 0) and line (from 0), and the one of its cluster that survives.

    similarity: share of equal values of the two signatures, which estimates the Jaccard similarity; 1 when exact.
    """

    part: int
    line: int
    exact: bool
    similarity: float
    survivor: str
    survivor_part: int
    survivor_line: int

    @property
    def reason(self) -> str:
        """Return why: "exact duplicate" when the texts are the same once normalised, else "near duplicate"."""
        return EXACT if self.exact else NEAR


class Duplicates:
    """All documents that don't survive, in the order of the inputs. `clusters` is known once they were asked for."""

    def __init__(self, ranked: RankedDocuments, sets: UnionFind, scratch: Path, memory: int, reporter: Reporter
                 ) -> None:
        self._ranked = ranked
        self._sets = sets
        self._scratch = scratch
        self._memory = memory
        self._reporter = reporter
        self.clusters = 0

    def __iter__(self) -> Iterator[Duplicate]:
        """Yield them. The survivor of a set is the document that precedes all others: its root."""
        with RowSort(self._scratch, _DROPPED, "place", self._memory // 2) as dropped:
            with RowSort(self._scratch, _ROOT, "root", self._memory // 2) as roots:
                for start, found in self._sets.blocks():
                    ranks = np.arange(start, start + len(found), dtype=np.uint64)
                    moved = np.flatnonzero(found != ranks)
                    for at in range(0, len(moved), _AT_ONCE):
                        part = moved[at : at + _AT_ONCE]
                        dropped.add(self._rows(ranks[part], found[part]))
                        roots.add(found[part].view(_ROOT))
                    if self._reporter.stopping():
                        raise Interrupted(STOPPED)
                self.clusters = _distinct(roots.blocks())
            for block in dropped.blocks():
                yield from map(_duplicate, block.tolist())

    def _rows(self, ranks: np.ndarray, roots: np.ndarray) -> np.ndarray:
        ours, theirs = self._ranked.rows(ranks), self._ranked.rows(roots)
        rows = np.empty(len(ranks), dtype=_DROPPED)
        exact = ours["text"] == theirs["text"]
        rows["place"], rows["survivor_place"] = _place(ours), _place(theirs)
        rows["exact"], rows["survivor"] = exact, theirs["order"]
        rows["similarity"] = 1.0
        if not exact.all():
            rows["similarity"][~exact] = similarities(ours["signature"][~exact], theirs["signature"][~exact])
        return rows


def _place(rows: np.ndarray) -> np.ndarray:
    place: np.ndarray = rows["part"].astype(np.uint64) << _LINE_BITS | rows["line"]
    return place


def _distinct(blocks: Iterator[np.ndarray]) -> int:
    count, last = 0, None
    for block in blocks:
        roots = block["root"]
        count += 1 + int(np.count_nonzero(roots[1:] != roots[:-1])) - int(roots[0] == last)
        last = roots[-1]
    return count


def _duplicate(row: tuple[int, int, float, bytes, int]) -> Duplicate:
    place, exact, similarity, survivor, survivor_place = row
    bits = int(_LINE_BITS)
    mask = (1 << bits) - 1
    return Duplicate(place >> bits, place & mask, bool(exact), similarity, id_of(survivor), survivor_place >> bits,
                     survivor_place & mask)
