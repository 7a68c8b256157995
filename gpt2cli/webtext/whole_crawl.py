"""The whole of webtext-scrape: its steps one after another, each in tasks that are kept once they are finished.

WORK/steps holds what the steps handed on. A run that was stopped or killed goes on at the first task that is not
finished, and one with other options at the first that they change. The documents are the same bytes whoever does the
tasks, and however many shares of the hosts or processes there are.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.atomic import write_atomic
from gpt2cli.records.jsonl import RecordWriter, parse_line
from gpt2cli.records.named_file import read_named
from gpt2cli.records.streams import open_input, read_lines
from gpt2cli.reporter import Reporter
from gpt2cli.webtext import crawl_tasks
from gpt2cli.webtext.dedup import DedupConfig
from gpt2cli.webtext.engines import Engine
from gpt2cli.webtext.extract import ExtractConfig
from gpt2cli.webtext.fetch_config import FetchConfig
from gpt2cli.webtext.finished_tasks import Finished, Task, done_name, find_finished
from gpt2cli.webtext.judge_links import LinkConfig
from gpt2cli.webtext.merge_shares import in_link_order
from gpt2cli.webtext.shards import Share
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.unique_links import SORT_MEMORY
from gpt2cli.webtext.work_lock import LOCK, held_by_us

if TYPE_CHECKING:
    from gpt2cli.webtext.rule_set import RuleSet

STEPS, FACTS = "steps", "crawl.json"
PART = 8192
"""Pages of a share that are extracted, filtered and signed together, at least: what a kill may cost."""
MOST_PARTS = 500
"""Parts above which they grow instead: their signature files are all open at once."""


@dataclass(frozen=True)
class CrawlConfig:
    """The configuration of every step; into how many shares of the hosts the pages are divided; pages in a part.

    `dedup.work` is not used: signatures are kept as all else is.
    """

    work: Path
    links: LinkConfig
    fetch: FetchConfig
    extract: ExtractConfig
    rules: RuleSet
    dedup: DedupConfig
    shares: int = 1
    part: int = PART


def scrape(
    paths: Sequence[str],
    sink: RecordWriter,
    rejects: RecordWriter | None,
    config: CrawlConfig,
    engine: Engine,
    reporter: Reporter,
    shield: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> None:
    """Run all steps from dumps and URL lists (`-`: stdin) to documents in `sink`, and what they drop to `rejects`.

    shield: entered once the inputs are read, for the part that polls reporter.stopping(). Raises UsageFault while
    another crawl holds the directory, or when it was begun with another number of shares; else what the steps raise.
    """
    with _held(config) as place:
        crawl = _Crawl(config, place, engine, rejects is not None, reporter)
        inputs = crawl.judge(paths)
        with shield():
            links = crawl.unite(inputs)
            pages = crawl.fetch(links)
            filtered = crawl.filter(crawl.extract(pages))
            survivors = crawl.dedup(filtered)
            _write_documents(links.paths(place)[0], [one.paths(place)[0] for one in survivors], sink, reporter)
            if rejects is not None:
                crawl.write_rejects(rejects)
        crawl.sweep()


class _Crawl:
    """The steps in tasks: plans each from what the one before came to, and says its line."""

    def __init__(self, config: CrawlConfig, place: Path, engine: Engine, with_rejects: bool, reporter: Reporter
                 ) -> None:
        self._config = config
        self._place = place
        self._engine = engine
        self._with_rejects = with_rejects
        self._reporter = reporter
        self._done: list[Finished] = []

    def judge(self, paths: Sequence[str]) -> list[Finished]:
        config, jobs = self._config.links, self._engine.jobs
        return self._perform([
            Task("links", f"links-{number:05}", _identity_of(path, config),
                 partial(crawl_tasks.judge_input, path=_absolute(path), config=config, jobs=jobs), here=path == "-")
            for number, path in enumerate(paths, 1)])

    def unite(self, inputs: list[Finished]) -> Finished:
        config = self._config.links
        pairs = tuple((records, rows) for records, rows in (one.paths(self._place) for one in inputs))
        done = self._perform([Task(
            "links", "links", (_digests(inputs), config.sum_karma, config.min_karma),
            partial(crawl_tasks.unite_inputs, inputs=pairs, config=config, memory=SORT_MEMORY))])
        self._say("links")
        return done[0]

    def fetch(self, links: Finished) -> list[Finished]:
        source, count = links.paths(self._place)[0], self._config.shares
        size = max(self._config.part, -(-links.records // MOST_PARTS))
        tasks = []
        for number in range(1, count + 1):
            config = replace(self._config.fetch, work=self._share_directory(number))
            # Pages asked for again are asked for by every run that says so.
            basis = None if config.again else (links.digests, number, count, size, config)
            tasks.append(Task(
                "fetch", f"pages-{number}-of-{count}", basis,
                partial(crawl_tasks.fetch_share, links=source, share=Share(number, count), config=config,
                        part_size=size)))
        done = self._perform(tasks)
        self._say("fetch")
        return done

    def extract(self, pages: list[Finished]) -> list[list[Finished]]:
        tasks: list[Task] = []
        for number, share in enumerate(pages, 1):
            config = replace(self._config.extract, work=self._share_directory(number), workers=self._engine.jobs)
            tasks += [Task("extract", f"extracted-{_suffix(number, len(pages), part)}", (digest, config),
                           partial(crawl_tasks.extract_part, pages=path, config=config))
                      for part, (path, digest) in enumerate(zip(share.paths(self._place), share.digests, strict=True))]
        done = iter(self._perform(tasks))
        self._say("extract")
        return [[next(done) for _ in share.outputs] for share in pages]

    def filter(self, documents: list[list[Finished]]) -> list[list[Finished]]:
        rules, jobs = self._config.rules, self._engine.jobs
        done = iter(self._perform([
            Task("filter", f"filtered-{_suffix(number, len(documents), part)}", (one.digests, rules),
                 partial(crawl_tasks.filter_part, documents=one.paths(self._place)[0], rules=rules, jobs=jobs))
            for number, share in enumerate(documents, 1) for part, one in enumerate(share)]))
        self._say("filter")
        return [[next(done) for _ in share] for share in documents]

    def dedup(self, documents: list[list[Finished]]) -> list[Finished]:
        """Return the survivors of every share."""
        config = replace(self._config.dedup, jobs=self._engine.jobs)
        parts = [one for share in documents for one in share]
        names = [_suffix(number, len(documents), part) for number, share in enumerate(documents, 1)
                 for part in range(len(share))]
        signed = self._perform([
            Task("dedup", f"signatures-{name}", (one.digests, config.profile),
                 partial(crawl_tasks.sign_part, documents=one.paths(self._place)[0], config=config))
            for name, one in zip(names, parts, strict=True)])
        signatures = tuple(one.paths(self._place)[0] for one in signed)
        ranges = self._engine.shares if self._engine.shares > 1 and config.profile.bands else 0
        matched = self._perform([
            Task("dedup", f"matches-{share}-of-{ranges}", (_digests(signed), share, ranges),
                 partial(crawl_tasks.match_share, signatures=signatures, share=(share, ranges), memory=config.memory))
            for share in range(1, ranges + 1)])
        listed = self._perform([
            Task("dedup", "duplicates", (_digests(signed),),
                 partial(crawl_tasks.find_duplicates, signatures=signatures,
                         matches=tuple(one.paths(self._place)[0] for one in matched), memory=config.memory))])
        tasks, first = [], 1
        for number, share in enumerate(documents, 1):
            tasks.append(Task(
                "dedup", f"survivors-{number}-of-{len(documents)}",
                (_digests(share), first, listed[0].digests),
                partial(crawl_tasks.keep_survivors, documents=tuple(one.paths(self._place)[0] for one in share),
                        first=first, duplicates=listed[0].paths(self._place)[0])))
            first += len(share)
        done = self._perform(tasks)
        self._say("dedup")
        return done

    def write_rejects(self, sink: RecordWriter) -> None:
        """Write what all tasks dropped, in their order."""
        for one in self._done:
            assert one.rejects is not None
            with open_input(self._place / one.rejects) as stream:
                for line in read_lines(stream, one.rejects):
                    sink.write_line(line + b"\n")

    def sweep(self) -> None:
        """Remove what a crawl that is through needs no more: all of dedup, and what earlier options left."""
        kept = {LOCK, FACTS}
        for one in self._done:
            if one.step != "dedup":
                kept |= {done_name(one.name), one.rejects or "", *(output.name for output in one.outputs)}
        for path in self._place.iterdir():
            if path.name not in kept:
                path.unlink()

    def _perform(self, tasks: Sequence[Task]) -> list[Finished]:
        """Return what the tasks came to: now, or in an earlier run."""
        # Those of links are many and are found again soon; the others are kept for a run that asks for them.
        with_rejects = self._with_rejects or any(task.step != "links" for task in tasks)
        found = {task.name: find_finished(task, self._place, with_rejects) for task in tasks}
        new = self._engine.perform([task for task in tasks if found[task.name] is None], self._place, with_rejects,
                                   self._reporter)
        with contextlib.closing(new):  # type: ignore[type-var]  # a generator
            done = [found[task.name] or next(new) for task in tasks]
        self._done += done
        return done

    def _say(self, step: str) -> None:
        tally = StepTally(step)
        dropped: Counter[str] = Counter()
        for one in self._done:
            if one.step == step:
                tally.read += one.read
                tally.kept += one.kept
                dropped.update(one.dropped)
        tally.dropped = dict(dropped)
        self._reporter.note(tally.line())

    def _share_directory(self, number: int) -> Path:
        """Return where the WARC files and the state of a share's fetching are."""
        count = self._config.shares
        return self._config.work if count == 1 else self._config.work / f"share-{number}-of-{count}"


@contextlib.contextmanager
def _held(config: CrawlConfig) -> Iterator[Path]:
    """Hold WORK/steps for this process, and check that the crawl there has as many shares. Yields that directory."""
    place = config.work / STEPS
    place.mkdir(parents=True, exist_ok=True)
    with held_by_us(place / LOCK, config.work):
        _check_shares(place / FACTS, config)
        yield place


def _check_shares(path: Path, config: CrawlConfig) -> None:
    if not path.exists():
        write_atomic(path, f'{{"shares":{config.shares}}}\n'.encode())
    begun = parse_line(read_named(path), str(path)).get("shares")
    if type(begun) is not int:
        raise BadInput(f"{path} doesn't say how many shares the crawl has; start with a new --work directory")
    if begun != config.shares:
        raise UsageFault(f"the crawl in {config.work} was begun with --shards {begun}, where its pages are; "
                         f"give that, not {config.shares}, or another --work")


def _write_documents(links: Path, survivors: Sequence[Path], sink: RecordWriter, reporter: Reporter) -> None:
    """Write the documents of all shares in the order of the links."""
    tally = StepTally("merge")
    lines = in_link_order(survivors, links, tally, reporter)
    with contextlib.closing(lines):  # type: ignore[type-var]  # a generator
        for line in lines:
            sink.write_line(line)


def _absolute(path: str) -> str:
    return path if path == "-" else str(Path(path).resolve())


def _identity_of(path: str, config: LinkConfig) -> tuple[Any, ...] | None:
    """Return what the links of an input depend on; None when it can't be known again.

    A file is known by where it is, its size and its time of change. Raises UsageFault when there is none.
    """
    if path == "-":
        return None
    try:
        facts = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageFault(f"there is no {path}") from None
    if not os.path.isfile(path):
        return None
    return str(Path(path).resolve()), facts.st_size, facts.st_mtime_ns, config


def _digests(tasks: Sequence[Finished]) -> list[tuple[str, ...]]:
    return [one.digests for one in tasks]


def _suffix(number: int, count: int, part: int) -> str:
    return f"{number}-of-{count}-{part:05}"
