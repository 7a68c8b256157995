"""Step 1: Reddit dumps and URL lists -> the links worth fetching, each once, in order of appearance.

WebText took outbound links of submissions with at least 3 karma, none created after December 2017, and left
Wikipedia out (Radford et al. 2019, section 2.1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.records.streams import display_name
from gpt2cli.records.temporaries import temporary_directory
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.ordered_pool import OrderedPool
from gpt2cli.webtext.dump_container import open_dump
from gpt2cli.webtext.judge_links import MALFORMED, JudgedLines, LinkConfig, LinkJudge
from gpt2cli.webtext.line_blocks import LineBlock, line_blocks
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.unique_links import SORT_MEMORY, UniqueLinks, fields_of

SHOWN_MALFORMED = 5
"""Malformed lines that are told one by one; the others are counted, and all are in the rejects file."""


def link_records(
    paths: Sequence[str | os.PathLike[str]], config: LinkConfig, tally: StepTally, reporter: Reporter,
    jobs: int = 1, memory: int = SORT_MEMORY,
) -> Iterator[bytes]:
    """Yield the gpt2.link/1 lines of all `paths` (`-`: stdin) that pass: the first of each URL key, in order.

    Its karma is its own, or, with config.sum_karma, that of all posts of its key. Plain URLs and gpt2.link records need
    no karma and no date. Malformed lines are dropped, counted, and told with their places. jobs: processes; memory:
    bytes for a sort, beyond which it uses files in a temporary directory ($TMPDIR). Neither changes what comes out.
    Raises BadInput for a damaged or truncated dump, and for input in which no line is a submission or a URL.
    """
    with temporary_directory("gpt2-links") as directory, UniqueLinks(
        directory, config.min_karma if config.sum_karma else None, memory
    ) as unique:
        for judged in judged_links(paths, config, tally, reporter, jobs):
            unique.add(judged.entries, judged.records)
        yield from united_links(unique, tally)


def judged_links(
    paths: Sequence[str | os.PathLike[str]], config: LinkConfig, tally: StepTally, reporter: Reporter, jobs: int = 1
) -> Iterator[JudgedLines]:
    """Yield what the lines of `paths` come to, a block at a time, each seen by itself; raises as link_records does.

    What is read and dropped here goes to `tally`, repetitions are still in and nothing is counted as kept.
    """
    complaints = _Complaints(reporter)
    found = 0
    for judged in _judged_blocks(paths, config, jobs):
        tally.read += judged.read - judged.elsewhere
        for what, reason, detail in judged.dropped:
            tally.drop(what, reason, detail)
            if reason == MALFORMED:
                complaints.add(what, detail)
        found += len(judged.records)
        yield judged
        reporter.progress(tally.read, None, "lines", passed=f"{found:,}")
        if reporter.stopping():
            raise Interrupted("stopped while reading links; nothing was lost")
    complaints.finish(tally.read)


def united_links(unique: UniqueLinks, tally: StepTally) -> Iterator[bytes]:
    """Yield the gpt2.link/1 lines that stay of all that were added, in their order; the others go to `tally`."""
    for line, why in unique.judged():
        if why is None:
            tally.kept += 1
            yield line
        else:
            tally.drop(fields_of(line)["url"] if tally.rejects is not None else "", why)


def _judged_blocks(paths: Sequence[str | os.PathLike[str]], config: LinkConfig, jobs: int) -> Iterator[JudgedLines]:
    judge = LinkJudge(config)
    if jobs == 1:
        yield from map(judge, _blocks(paths))
        return
    pool: OrderedPool[LineBlock, JudgedLines] = OrderedPool(jobs, judge)
    with pool:
        yield from pool.map(_blocks(paths))


def _blocks(paths: Sequence[str | os.PathLike[str]]) -> Iterator[LineBlock]:
    for part, path in enumerate(paths, 1):
        with open_dump(path) as stream:
            yield from line_blocks(stream, display_name(path), part=part)


class _Complaints:
    """Tells of malformed lines: the first few by their places, the rest by number."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._count = 0

    def add(self, place: str, why: str) -> None:
        self._count += 1
        if self._count <= SHOWN_MALFORMED:
            self._reporter.warn(f"{place}: {why}; the line is left out")

    def finish(self, read: int) -> None:
        more = self._count - SHOWN_MALFORMED
        if more > 0:
            self._reporter.warn(f"{more:,} more malformed lines are left out; --rejects FILE tells of each")
        if self._count and self._count == read:
            raise BadInput(f"none of the {read} lines is a Reddit submission or a URL; was another file meant?")

