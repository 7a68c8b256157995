"""Near duplicates: documents with a band in common, in buckets, and of those the pairs that are similar enough.

A bucket is all documents with one band key, found by an external sort of (key, rank). In a bucket of at most SMALL
documents every pair is compared. In a larger one every document is compared with the first SMALL that are similar to
none before them, so that a bucket costs as much as its size, however alike its documents are. Both depend on the ranks
alone. Pairs that are joined already are not compared again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gpt2cli.errors import Interrupted
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.external_sort import RowSort
from gpt2cli.webtext.minhash import band_keys, similarities
from gpt2cli.webtext.ranked_documents import STOPPED, RankedDocuments
from gpt2cli.webtext.union_find import UnionFind

SMALL = 64
PAIRS_AT_ONCE = 4096
_BAND = np.dtype([("key", "<u8"), ("rank", "<u8")])


def join_near(
    ranked: RankedDocuments,
    sets: UnionFind,
    scratch: Path,
    memory: int,
    reporter: Reporter,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[np.ndarray]:
    """Join near duplicates in `sets`; yield the pairs of ranks that did join something, uint64 [k, 2].

    shard: (i, n) looks only at the i-th (from 0) of n ranges of band keys; all ranges together join what one does.
    """
    profile = ranked.profile
    if not profile.bands:
        return
    crowded = 0
    with RowSort(scratch, _BAND, "key", memory) as sort:
        for start, rows in ranked.blocks(memory // 8):
            _add_keys(sort, start, rows, ranked, sets, shard)
            if reporter.stopping():
                raise Interrupted(STOPPED)
        for bucket in _buckets(sort.blocks(), ranked):
            if isinstance(bucket, _Crowd):
                crowded += bucket.full
                continue
            joined = sets.join(_similar(bucket, ranked, sets))
            if len(joined):
                yield joined
            if reporter.stopping():
                raise Interrupted(STOPPED)
    if crowded:
        reporter.note(f"{crowded:,} band{'s' if crowded > 1 else ''} shared by more than {SMALL} documents that differ:"
                      f" all were compared with the first {SMALL}")


def _add_keys(sort: RowSort, start: int, rows: np.ndarray, ranked: RankedDocuments, sets: UnionFind,
              shard: tuple[int, int]) -> None:
    """Sort in the band keys of the documents that have words and are no exact duplicate of one before."""
    ranks = np.arange(start, start + len(rows), dtype=np.uint64)
    taken = (rows["words"] == 1) & (sets.roots(ranks) == ranks)
    keys = band_keys(rows["signature"][taken], ranked.profile)
    entries = np.empty(keys.size, dtype=_BAND)
    entries["key"], entries["rank"] = keys.reshape(-1), np.repeat(ranks[taken], keys.shape[1])
    index, count = shard
    if count > 1:
        entries = entries[(entries["key"] >> np.uint64(32)) * np.uint64(count) >> np.uint64(32) == index]
    sort.add(entries)


def _similar(pairs: np.ndarray, ranked: RankedDocuments, sets: UnionFind) -> np.ndarray:
    apart = sets.roots(pairs[:, 0]) != sets.roots(pairs[:, 1])
    pairs = pairs[apart]
    if not len(pairs):
        return pairs
    return pairs[similarities(*(ranked.signatures(side) for side in pairs.T)) > ranked.profile.similarity]


class _Crowd:
    """A bucket of more than SMALL documents, which come in order and a few at a time."""

    def __init__(self, ranked: RankedDocuments) -> None:
        self._ranked = ranked
        self._first = np.empty(0, dtype=np.uint64)
        self._signatures = np.empty((0, ranked.profile.values), dtype=np.uint32)
        self.full = False
        """Whether a document was similar to none when there were SMALL of those already."""

    def pairs(self, ranks: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the pairs (one of the first, one of `ranks`) that are similar."""
        for at in range(0, len(ranks), PAIRS_AT_ONCE):
            part = ranks[at : at + PAIRS_AT_ONCE]
            signatures = self._ranked.signatures(part)
            alone = np.ones(len(part), dtype=bool)
            for number in range(SMALL):
                if number == len(self._first):
                    left = np.flatnonzero(alone)
                    if not len(left):
                        break
                    self._first = np.append(self._first, part[left[0]])
                    self._signatures = np.concatenate([self._signatures, signatures[left[:1]]])
                similar = similarities(signatures, self._signatures[number]) > self._ranked.profile.similarity
                similar &= part > self._first[number]
                alone &= ~similar & (part != self._first[number])
                yield np.stack([np.full(int(similar.sum()), self._first[number]), part[similar]], axis=1)
            self.full = self.full or bool(alone.any())


def _buckets(blocks: Iterator[np.ndarray], ranked: RankedDocuments) -> Iterator[np.ndarray | _Crowd]:
    """Yield the pairs to look at, uint64 [k, 2]; and each crowd when it is complete, behind its pairs."""
    key, waiting = None, np.empty(0, dtype=np.uint64)
    crowd: _Crowd | None = None
    for block in blocks:
        keys, ranks = block["key"], block["rank"]
        starts = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1, [len(keys)]])
        first_end, last_start = int(starts[1]), int(starts[-2])
        if keys[0] == key:
            if crowd is not None:
                yield from crowd.pairs(ranks[:first_end])
            else:
                waiting = np.concatenate([waiting, ranks[:first_end]])
            if last_start == 0:
                if crowd is None and len(waiting) > SMALL:
                    crowd = _Crowd(ranked)
                    yield from crowd.pairs(waiting)
                continue
            yield from _closed(crowd, waiting, ranked)
            starts = starts[1:]
        elif key is not None:
            yield from _closed(crowd, waiting, ranked)
        yield from _small_pairs(ranks, starts[:-1])
        for start, stop in _large(starts[:-1]):
            yield from _closed(None, ranks[start:stop], ranked)
        key, waiting, crowd = keys[-1], ranks[last_start:], None
    if key is not None:
        yield from _closed(crowd, waiting, ranked)


def _closed(crowd: _Crowd | None, ranks: np.ndarray, ranked: RankedDocuments) -> Iterator[np.ndarray | _Crowd]:
    if crowd is not None:
        yield crowd
    elif len(ranks) > SMALL:
        crowd = _Crowd(ranked)
        yield from crowd.pairs(ranks)
        yield crowd
    else:
        yield from _small_pairs(ranks, np.array([0, len(ranks)]))


def _large(starts: np.ndarray) -> Iterator[tuple[int, int]]:
    for place in np.flatnonzero(np.diff(starts) > SMALL).tolist():
        yield int(starts[place]), int(starts[place + 1])


def _small_pairs(ranks: np.ndarray, starts: np.ndarray) -> Iterator[np.ndarray]:
    """Yield all pairs within the buckets that begin and end at `starts` and hold 2 to SMALL documents."""
    sizes = np.diff(starts)
    for size in np.unique(sizes[(sizes > 1) & (sizes <= SMALL)]).tolist():
        one, other = np.triu_indices(size, 1)
        begins = starts[:-1][sizes == size]
        step = max(1, PAIRS_AT_ONCE // len(one))
        for at in range(0, len(begins), step):
            members = ranks[begins[at : at + step, None] + np.arange(size)]
            yield np.stack([members[:, one].ravel(), members[:, other].ravel()], axis=1)
