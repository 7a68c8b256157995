"""What a crawl knows, in SQLite under --work: links, what of them is pending, and what became of the others.

The WARC is the truth: its bytes are on disk before a row that points to them is committed, and what lies beyond the
committed length is cut off at the next start. So a kill costs only the requests that were in flight.

Tables: host (name, failures in a row), link (url), pending (links of a host that are not done, with how far their
redirects led), page (what became of a link), warc (committed bytes of each file), robots (rules by origin). Every row
is looked through before the file is used, see crawl_tables.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2cli.errors import BadInput, IOFailure
from gpt2cli.webtext.crawl_tables import PAGE_FIELDS, open_tables, put
from gpt2cli.webtext.urls import host_of

STATE = "state.sqlite3"
_CACHE_KIB = 16_384
_REPLACE = "INSERT OR REPLACE"
_HEADER = 100
"""Bytes of the header of an SQLite file."""
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH)


@dataclass(slots=True)
class Job:
    """A link on its way: `url` is what to request next, `hops` the URLs that redirected to it, `spent` seconds."""

    link: int
    url: str
    hops: tuple[str, ...] = ()
    spent: float = 0.0
    attempts: int = 0


@dataclass(slots=True)
class HostJobs:
    """A host (its row's id and name) with the first of its pending jobs, and the origins whose robots.txt is saved."""

    id: int
    name: str
    failures: int
    jobs: list[Job]
    saved: set[str]


@dataclass(slots=True)
class Settlement:
    """What to commit at once. pages: (host id, link, fields of the page); moves: (host id, job, name of the host that
    it goes on at); robots: (host id, origin, UTC seconds, rules); failures: by host id; warc: committed bytes by file.
    """

    pages: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)
    moves: list[tuple[int, Job, str]] = field(default_factory=list)
    robots: list[tuple[int, str, int, str]] = field(default_factory=list)
    failures: dict[int, int] = field(default_factory=dict)
    warc: dict[str, int] = field(default_factory=dict)


class CrawlState:
    """One connection to the state; used by one thread at a time.

    looked_through: another connection of this process has found the file sound.
    Raises BadInput for a damaged or foreign file, IOFailure when the disk is full or fails.
    """

    def __init__(self, path: Path, *, looked_through: bool = False) -> None:
        self._path = path
        if path.exists() and 0 < path.stat().st_size < _HEADER:  # SQLite would begin a new database in it
            raise BadInput(f"{path} is damaged (it was cut short); restore it, or start with a new --work directory")
        with self._guarded():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            open_tables(self._db, str(path), looked_through)

    def close(self) -> None:
        """Close the file."""
        with self._guarded():
            self._db.close()

    def add_links(self, urls: Sequence[str], again: frozenset[str] = frozenset()) -> list[int]:
        """Return the numbers of links, those that are new made pending; so are those whose outcome is in `again`."""
        hosts: dict[str, int] = {}
        numbers = []
        with self._transaction():
            for url in urls:
                number = self._known(url)
                if number is None:
                    number = self._inserted(put("link"), (_hash(url), url))
                elif not (again and self._forget(number, again)):
                    numbers.append(number)
                    continue
                name = host_of(url)
                if name not in hosts:
                    hosts[name] = self._host(name)
                self._db.execute(put("pending", "INSERT OR IGNORE"), (hosts[name], number, None))
                numbers.append(number)
        return numbers

    def count(self, table: str) -> int:
        """Return the number of rows of `pending` or `page`."""
        assert table in ("pending", "page")
        with self._guarded():
            return int(self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def hosts_after(self, after: int, most: int, jobs: int) -> list[HostJobs]:
        """Return the next hosts by id that have pending links; fewer than `most` when there are no more."""
        found: list[HostJobs] = []
        with self._guarded():
            while len(found) < most:
                after, = self._db.execute("SELECT min(host) FROM pending WHERE host > ?", (after,)).fetchone()
                if after is None:
                    break
                found.append(self.host(after, jobs))
        return found

    def host(self, number: int, jobs: int) -> HostJobs:
        """Return a host with its first pending jobs."""
        with self._guarded():
            name, failures = self._db.execute("SELECT name, failures FROM host WHERE id = ?", (number,)).fetchone()
            saved = {origin for origin, in self._db.execute("SELECT origin FROM robots WHERE host = ?", (number,))}
            return HostJobs(number, name, failures, self.jobs(number, -1, jobs), saved)

    def jobs(self, host: int, after: int, most: int) -> list[Job]:
        """Return pending jobs of a host, those of links numbered above `after`."""
        with self._guarded():
            rows = self._db.execute(
                "SELECT pending.link, link.url, progress FROM pending JOIN link ON link.id = pending.link "
                "WHERE host = ? AND pending.link > ? ORDER BY pending.link LIMIT ?", (host, after, most))
            return [_job(*row) for row in rows]

    def robots(self, host: int, origin: str) -> tuple[int, str] | None:
        """Return when (UTC seconds) and what rules were read of an origin's robots.txt."""
        with self._guarded():
            query = "SELECT fetched, rules FROM robots WHERE host = ? AND origin = ?"
            row: tuple[int, str] | None = self._db.execute(query, (host, origin)).fetchone()
            return row

    def warc_bytes(self) -> dict[str, int]:
        """Return the committed length of every WARC file."""
        with self._guarded():
            return dict(self._db.execute("SELECT name, bytes FROM warc").fetchall())

    def commit(self, settled: Settlement) -> list[int]:
        """Put it all on disk, or nothing; return the ids of the hosts that the moves lead to."""
        with self._transaction():
            self._db.executemany("DELETE FROM pending WHERE host = ? AND link = ?",
                                 [(host, link) for host, link, _ in settled.pages]
                                 + [(host, job.link) for host, job, _ in settled.moves])
            self._db.executemany(put("page", _REPLACE),
                                 [(link, *map(fields.get, PAGE_FIELDS)) for _, link, fields in settled.pages])
            targets = [self._host(name) for _, _, name in settled.moves]
            self._db.executemany(put("pending", _REPLACE), [
                (target, job.link, json.dumps([job.url, job.hops, job.spent]))
                for target, (_, job, _) in zip(targets, settled.moves, strict=True)])
            self._db.executemany(put("robots", _REPLACE), settled.robots)
            self._db.executemany("UPDATE host SET failures = ?2, mark = mark(name, ?2) WHERE id = ?1",
                                 list(settled.failures.items()))
            self._db.executemany(put("warc", _REPLACE), list(settled.warc.items()))
        return targets

    def announce(self, name: str) -> None:
        """Put on disk that a WARC file of this name is the crawl's, if that is not known yet."""
        with self._guarded():
            self._db.execute(put("warc", "INSERT OR IGNORE"), (name, 0))

    def pages(self, links: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return the page fields (those that are not null) of the links that are done, by link."""
        marks = ",".join("?" * len(links))
        with self._guarded():
            rows = self._db.execute(f"SELECT link, {', '.join(PAGE_FIELDS)} FROM page WHERE link IN ({marks})", links)
            return {row[0]: _present(row[1:]) for row in rows}

    def _known(self, url: str) -> int | None:
        row = self._db.execute("SELECT id FROM link WHERE hash = ? AND url = ?", (_hash(url), url)).fetchone()
        return None if row is None else int(row[0])

    def _forget(self, link: int, outcomes: frozenset[str]) -> bool:
        row = self._db.execute("SELECT outcome FROM page WHERE link = ?", (link,)).fetchone()
        if row is None or row[0] not in outcomes:
            return False
        self._db.execute("DELETE FROM page WHERE link = ?", (link,))
        return True

    def _host(self, name: str) -> int:
        row = self._db.execute("SELECT id FROM host WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else self._inserted(put("host"), (name, 0))

    def _inserted(self, statement: str, values: Iterable[Any]) -> int:
        return int(self._db.execute(statement, tuple(values)).lastrowid or 0)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._guarded():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _UNREADABLE:
                raise BadInput(f"{self._path} is damaged ({error}); restore it, or start with a new --work directory"
                               ) from None
            raise IOFailure(f"{self._path}: {error}") from None
        except (ValueError, TypeError) as error:
            raise BadInput(f"{self._path} is damaged ({error}); start with a new --work directory") from None


def _hash(url: str) -> int:
    return int.from_bytes(hashlib.blake2b(url.encode(), digest_size=8).digest(), "little", signed=True)


def _job(link: int, url: str, progress: str | None) -> Job:
    if progress is None:
        return Job(link, url)
    target, hops, spent = json.loads(progress)
    return Job(link, str(target), tuple(map(str, hops)), float(spent))


def _present(values: Sequence[Any]) -> dict[str, Any]:
    return {name: value for name, value in zip(PAGE_FIELDS, values, strict=True) if value is not None}
