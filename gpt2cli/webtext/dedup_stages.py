"""dedup on many machines: its stages by themselves, each from files to a stream, with the result of one run.

signatures (by input) -> matches (by range of band keys) -> duplicates (once) -> survivors (by input). What stands
between them says what it was made of, so a file of another corpus, a missing or a second share is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, Interrupted, UsageFault, counted
from gpt2cli.records.jsonl import ReadTally, Record, RecordWriter, read_records
from gpt2cli.records.streams import display_name, open_output
from gpt2cli.reporter import Reporter
from gpt2cli.webtext.dedup import DedupConfig, Paths
from gpt2cli.webtext.dedup_space import temporary_space
from gpt2cli.webtext.document_lines import input_lines
from gpt2cli.webtext.duplicates import EXACT, NEAR, Duplicate, Duplicates
from gpt2cli.webtext.near_duplicates import join_near
from gpt2cli.webtext.ranked_documents import STOPPED, RankedDocuments, join_exact, rank_documents
from gpt2cli.webtext.sign_documents import sign
from gpt2cli.webtext.signature_file import SignatureFile, open_signatures
from gpt2cli.webtext.survivors import DropList, write_survivors
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.union_find import UnionFind

_AT_ONCE = 4096


def sign_input(path: str | os.PathLike[str], out: str, force: bool, config: DedupConfig, reporter: Reporter) -> None:
    """Write the signature file of one input (`-`: stdin) to `out` (`-`: stdout). Raises BadInput."""
    with temporary_space() as scratch, open_output(out, force=force, binary=True) as file:
        facts = sign(input_lines(path, reporter), display_name(path), file, config.profile, workers=config.jobs,
                     memory=config.memory, scratch=scratch, reporter=reporter)
    reporter.note(f"dedup: {counted(facts.documents, 'document')} signed")


def find_matches(paths: Paths, share: tuple[int, int], sink: RecordWriter, memory: int, reporter: Reporter) -> None:
    """Write the matches in one share (i of n, from 1) of the band keys of signature files: gpt2.matches, gpt2.match."""
    with _joined(paths, memory, reporter) as (files, ranked, sets, scratch):
        sink.write("gpt2.matches", {"share": share[0], "shares": share[1], "signatures": _digests(files)})
        count = 0
        for pairs in join_near(ranked, sets, scratch, memory, reporter, (share[0] - 1, share[1])):
            for pair in pairs.tolist():
                sink.write("gpt2.match", {"ranks": pair})
            count += len(pairs)
        reporter.note(f"dedup: {counted(count, 'pair')} of documents match in share {share[0]} of {share[1]}")


def list_duplicates(paths: Paths, matches: Paths, sink: RecordWriter, memory: int, reporter: Reporter) -> None:
    """Write which documents of signature files to drop: gpt2.duplicates, then a gpt2.duplicate for each, in order.

    matches: all shares of the matches of the same files; none: they are looked for here.
    """
    with _joined(paths, memory, reporter) as (files, ranked, sets, scratch):
        if matches:
            _join_matches(matches, files, sets, reporter)
        else:
            for _ in join_near(ranked, sets, scratch, memory, reporter):
                pass
        sink.write("gpt2.duplicates", {"parts": [dataclasses.asdict(file.facts) for file in files]})
        duplicates = Duplicates(ranked, sets, scratch, memory, reporter)
        counts = {EXACT: 0, NEAR: 0}
        for one in duplicates:
            counts[one.reason] += 1
            sink.write("gpt2.duplicate", {
                "part": one.part + 1, "line": one.line + 1, "reason": one.reason, "survivor": one.survivor,
                "similarity": round(one.similarity, 4), "survivor_part": one.survivor_part + 1,
                "survivor_line": one.survivor_line + 1})
        kinds = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
        reporter.note(f"dedup: {counted(ranked.documents, 'document')}, {sum(counts.values()):,} to drop ({kinds}), "
                      f"{counted(duplicates.clusters, 'cluster')}")


def write_part(path: str | os.PathLike[str], duplicates: str | os.PathLike[str], part: int, sink: RecordWriter,
               tally: StepTally, reporter: Reporter) -> None:
    """Write the documents of input `part` (from 1, as its signature file was given) that are not among `duplicates`."""
    if str(path) == "-" == str(duplicates):
        raise UsageFault("the documents and --duplicates can't both be standard input")
    write_parts([path], duplicates, part, sink, tally, reporter)
    reporter.note(tally.line())


def write_parts(paths: Paths, duplicates: str | os.PathLike[str], first: int, sink: RecordWriter, tally: StepTally,
                reporter: Reporter) -> None:
    """Do so for consecutive inputs, of which the first is number `first`, reading the duplicates once."""
    found = _records(duplicates, "gpt2.duplicates", "gpt2.duplicate", reporter)
    parts = next(found)["parts"]
    if not isinstance(parts, list) or not all(isinstance(one, dict) for one in parts):
        raise BadInput(f"{display_name(duplicates)}: the parts of the duplicates are no list of inputs")
    last = first + len(paths) - 1
    if last > len(parts):
        raise UsageFault(f"--part {last}: {display_name(duplicates)} knows {counted(len(parts), 'input')}")
    drops = DropList(_of_parts(found, range(first, last + 1), display_name(duplicates)))
    for part, path in enumerate(paths, first - 1):
        write_survivors(part, input_lines(path, reporter), display_name(path), str(parts[part].get("input_blake2b")),
                        drops, sink, tally, reporter)


@contextlib.contextmanager
def _joined(paths: Paths, memory: int, reporter: Reporter
            ) -> Iterator[tuple[list[SignatureFile], RankedDocuments, UnionFind, Path]]:
    """Yield the signature files, their documents ranked, the sets of exact duplicates, and room for more."""
    if any(str(path) == "-" for path in paths):
        raise UsageFault("signature files are read twice and more: name them, don't pipe them in")
    files = [open_signatures(path) for path in paths]
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(temporary_space())
        ranked = stack.enter_context(contextlib.closing(rank_documents(files, scratch, memory, reporter)))
        sets = stack.enter_context(UnionFind(ranked.documents, scratch / "sets"))
        join_exact(ranked, sets, scratch, memory)
        yield files, ranked, sets, scratch


def _digests(files: Sequence[SignatureFile]) -> list[str]:
    return [file.digest for file in files]


def _join_matches(paths: Paths, files: Sequence[SignatureFile], sets: UnionFind, reporter: Reporter) -> None:
    shares: dict[Any, set[Any]] = {}
    for path in paths:
        name = display_name(path)
        found = _records(path, "gpt2.matches", "gpt2.match", reporter)
        head = next(found)
        if head["signatures"] != _digests(files):
            raise UsageFault(f"{name} was made of other signature files, or of these in another order")
        share, count = head["share"], head["shares"]
        if type(share) is not int or type(count) is not int or not 0 < share <= count:
            raise BadInput(f"{name}: share {str(share)[:20]} of {str(count)[:20]} is none")
        shares.setdefault(count, set()).add(share)
        waiting: list[list[int]] = []
        for record in found:
            waiting.append(_ranks(record, sets.size, name))
            if len(waiting) == _AT_ONCE:
                sets.join(np.array(waiting, dtype=np.uint64))
                waiting = []
                if reporter.stopping():
                    raise Interrupted(STOPPED)
        if waiting:
            sets.join(np.array(waiting, dtype=np.uint64))
    if not any(len(members) == count for count, members in shares.items()):
        told = ", ".join(f"{len(members)} of {count}" for count, members in sorted(shares.items()))
        raise UsageFault(f"--matches: shares are missing, there are {told}")


def _ranks(record: Record, documents: int, name: str) -> list[int]:
    ranks = record["ranks"]
    if not isinstance(ranks, list) or len(ranks) != 2 \
            or not all(type(rank) is int and 0 <= rank < documents for rank in ranks):
        raise BadInput(f"{name}: a gpt2.match record whose ranks are no two documents")
    return ranks


def _records(path: str | os.PathLike[str], head: str, kind: str, reporter: Reporter) -> Iterator[Record]:
    """Yield the one record of kind `head`, which comes first, and then those of `kind`."""
    tally = ReadTally()
    begun = False
    for record in read_records(path, tally, kinds=(head, kind), strict=True):
        if (record["schema"].rpartition("/")[0] == head) == begun:
            raise BadInput(f"{display_name(path)}: one {head} record was expected, before all others")
        begun = True
        yield record
    if not begun:
        raise BadInput(f"{display_name(path)} holds no {head} record")
    for warning in tally.warnings:
        reporter.warn(warning)


def _of_parts(records: Iterator[Record], parts: range, name: str) -> Iterator[Duplicate]:
    for record in records:
        part, line, survivor, similarity = (record[field] for field in ("part", "line", "survivor", "similarity"))
        if part not in parts:
            continue
        if type(part) is not int or type(line) is not int or line < 1 or not isinstance(survivor, str) \
                or not isinstance(similarity, int | float) or record["reason"] not in (EXACT, NEAR):
            raise BadInput(f"{name}: a gpt2.duplicate record that makes no sense")
        yield Duplicate(part - 1, line - 1, record["reason"] == EXACT, similarity, survivor, 0, 0)
