"""The tables of a crawl's state, and the mark that every row carries: a hash of its values.

SQLite keeps no checksum of its pages. So a value that changed on the disk is found by its row's mark, and a row that is
lost, doubled or out of its place by SQLite's own integrity check, which compares tables with their indexes; both
before anything in the file is used.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from types import MappingProxyType

from gpt2cli.errors import BadInput
from gpt2cli.records.schemas import newer_format

APPLICATION = 0x67703277  # "gp2w"
VERSION = 2
"""Of the tables; before 2 the rows had no mark."""
FORMAT = "gpt2.crawl-state"
PAGE_FIELDS = ("outcome", "status", "detail", "final_url", "bytes", "retrieved", "warc", "offset", "length")
"""Columns of the table page beside the link, and fields of gpt2.page/1."""
COLUMNS = MappingProxyType({
    "host": ("name", "failures"), "link": ("hash", "url"), "pending": ("host", "link", "progress"),
    "page": ("link", *PAGE_FIELDS), "warc": ("name", "bytes"), "robots": ("host", "origin", "fetched", "rules"),
})
"""Columns by table, without the mark; host and link have an id before them, which their indexes bear out."""
_CREATED = """
CREATE TABLE host(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, failures INTEGER NOT NULL, mark INTEGER NOT NULL);
CREATE TABLE link(id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, url TEXT NOT NULL, mark INTEGER NOT NULL);
CREATE INDEX link_by_hash ON link(hash);
CREATE TABLE pending(host INTEGER NOT NULL, link INTEGER NOT NULL, progress TEXT, mark INTEGER NOT NULL,
    PRIMARY KEY(host, link)) WITHOUT ROWID;
CREATE TABLE page(link INTEGER PRIMARY KEY, outcome TEXT NOT NULL, status INTEGER, detail TEXT, final_url TEXT,
    bytes INTEGER, retrieved TEXT NOT NULL, warc TEXT, offset INTEGER, length INTEGER, mark INTEGER NOT NULL);
CREATE TABLE warc(name TEXT PRIMARY KEY, bytes INTEGER NOT NULL, mark INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE robots(host INTEGER NOT NULL, origin TEXT NOT NULL, fetched INTEGER NOT NULL, rules TEXT NOT NULL,
    mark INTEGER NOT NULL, PRIMARY KEY(host, origin)) WITHOUT ROWID;
"""


def open_tables(database: sqlite3.Connection, name: str, looked_through: bool = False) -> None:
    """Make the tables in a new file, or look through those of an old one; rows of a file without marks get them.

    name: for messages. looked_through: this process has done so already. Raises BadInput for a file that is damaged,
    foreign or newer, and what SQLite raises.
    """
    database.create_function("mark", -1, _mark, deterministic=True)
    application, = database.execute("PRAGMA application_id").fetchone()
    version, = database.execute("PRAGMA user_version").fetchone()
    if (application, version) == (0, 0) and not database.execute("SELECT 1 FROM sqlite_master").fetchone():
        database.executescript(f"BEGIN;{_CREATED}PRAGMA application_id = {APPLICATION};"
                               f"PRAGMA user_version = {VERSION};COMMIT;")
        return
    if application != APPLICATION:
        raise BadInput(f"{name} is no state of a crawl; give another --work directory")
    if version > VERSION:
        raise newer_format(name, FORMAT, version, VERSION)
    if version < 1:
        raise _damaged(name, f"its tables are of version {version}")
    if looked_through:
        return
    _look_through(database, name, with_marks=version == VERSION)
    if version < VERSION:
        _add_marks(database)


def put(table: str, how: str = "INSERT") -> str:
    """Return the statement that puts a row of COLUMNS[table] and its mark in; how: INSERT or INSERT OR something."""
    columns = COLUMNS[table]
    values = ", ".join(f"?{number}" for number in range(1, len(columns) + 1))
    return f"{how} INTO {table}({', '.join(columns)}, mark) VALUES({values}, mark({values}))"


def _mark(*values: object) -> int:
    digest = hashlib.blake2b(json.dumps(values).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _look_through(database: sqlite3.Connection, name: str, with_marks: bool) -> None:
    said, = database.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        raise _damaged(name, " ".join(str(said).split()))
    for table, columns in COLUMNS.items() if with_marks else ():
        query = f"SELECT {columns[0]} FROM {table} WHERE mark IS NOT mark({', '.join(columns)}) LIMIT 1"
        found = database.execute(query).fetchone()
        if found is not None:
            raise _damaged(name, f"in its table {table} the row of {columns[0]} {str(found[0])[:80]!r} is not what was "
                                 "written")


def _add_marks(database: sqlite3.Connection) -> None:
    steps = [f"ALTER TABLE {table} ADD COLUMN mark INTEGER NOT NULL DEFAULT 0; "
             f"UPDATE {table} SET mark = mark({', '.join(columns)});" for table, columns in COLUMNS.items()]
    database.executescript(f"BEGIN;{''.join(steps)}PRAGMA user_version = {VERSION};COMMIT;")


def _damaged(name: str, what: str) -> BadInput:
    return BadInput(f"{name} is damaged ({what}); restore it, or start with a new --work directory")
