"""The SQLite state of a crawl: what the disk changed in it is found when it is opened, before a row is used."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from faults.file_damage import Damage, places

from gpt2cli.errors import BadInput
from gpt2cli.webtext.crawl_state import CrawlState, Job, Settlement

LINKS = 120
URLS = [f"http://127.0.0.{1 + number % 5}/page-{number}-{'x' * (number % 37)}" for number in range(LINKS)]


def some_commits(state: CrawlState, first: int = 0, last: int = LINKS - 20) -> None:
    """Take in all links and settle those from `first` to `last`, ten at a time, in every way there is."""
    numbers = state.add_links(URLS)
    state.announce("crawl-00000.warc.zst")
    hosts = {host.name: host.id for host in state.hosts_after(0, 9, LINKS)}
    for start in range(first, last, 10):
        settled = Settlement(warc={"crawl-00000.warc.zst": 100 * (start + 10)})
        for at in range(start, start + 10):
            host = hosts[f"127.0.0.{1 + at % 5}"]
            if at % 10 == 7:
                job = Job(numbers[at], "http://127.0.0.9/there", (URLS[at],), 0.25, 1)
                settled.moves.append((host, job, "127.0.0.9"))
            elif at % 10 == 8:
                settled.pages.append((host, numbers[at], {
                    "outcome": "http_error", "status": 404, "detail": "status 404",
                    "retrieved": "2017-10-01T12:00:01Z"}))
            else:
                settled.pages.append((host, numbers[at], {
                    "outcome": "ok", "status": 200, "final_url": URLS[at], "bytes": 1000 + at,
                    "retrieved": "2017-10-01T12:00:00Z", "warc": "crawl-00000.warc.zst", "offset": 100 * at,
                    "length": 100}))
            settled.robots.append((host, f"http://127.0.0.{1 + at % 5}:80", 1_506_859_200 + start,
                                   "User-agent: *\nDisallow: /private\n"))
            settled.failures[host] = at % 3
        state.commit(settled)


def content(path: Path) -> list[Any]:
    """All that a state says, through what the crawl reads it with."""
    state = CrawlState(path)
    try:
        hosts = state.hosts_after(0, 99, LINKS)
        robots = [state.robots(host.id, origin) for host in hosts for origin in sorted(host.saved)]
        return [hosts, robots, state.pages(range(1, LINKS + 1)), state.warc_bytes(), state.count("pending"),
                state.count("page"), state.add_links(URLS)]
    finally:
        state.close()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    state = CrawlState(tmp_path / "state.sqlite3")
    some_commits(state)
    state.close()
    assert [path.name for path in tmp_path.iterdir()] == ["state.sqlite3"]
    return tmp_path / "state.sqlite3"


def test_every_change_of_the_file_is_found_when_it_is_opened(sound: Path) -> None:
    copy = sound.with_name("copy.sqlite3")

    def read() -> list[Any]:
        for path in sound.parent.glob("copy.sqlite3*"):
            path.unlink()
        shutil.copy(sound, copy)
        return content(copy)

    damage = Damage(read, lambda path, words: "copy.sqlite3" in words)
    size = sound.stat().st_size
    for how, place in places(size, "state", 100, tuple(range(4096, size, 4096))):
        if (how, place) != ("cut", 0):  # a new one; its WARC gives it away, see test_politeness
            damage.try_on(sound, how, place)
    print(damage.told("crawl state"))
    assert damage.missed == [] and damage.unnamed == []


@pytest.mark.parametrize("table", ["host", "link", "pending", "page", "warc", "robots"])
def test_a_value_changed_in_any_table_is_named(sound: Path, table: str) -> None:
    """By one that SQLite itself finds nothing wrong with: the file is whole, and a row says something else."""
    import sqlite3

    column = {"host": "failures", "link": "url", "pending": "progress", "page": "offset", "warc": "bytes",
              "robots": "rules"}[table]
    database = sqlite3.connect(sound)
    database.execute(f"UPDATE {table} SET {column} = '7' WHERE rowid = 3" if table in ("host", "link", "page")
                     else f"UPDATE {table} SET {column} = '7'")
    database.commit()
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    with pytest.raises(BadInput, match=rf"state\.sqlite3 is damaged \(in its table {table} the row of "):
        CrawlState(sound)


def test_a_damaged_log_of_a_killed_crawl_loses_the_latest_commits_and_nothing_else(tmp_path: Path) -> None:
    """SQLite takes the commits up to the damage: what they tell is what was once committed, or the file is refused."""
    (tmp_path / "live").mkdir()
    live = CrawlState(tmp_path / "live" / "state.sqlite3")
    some_commits(live, 0, 0)
    right = []
    killed = tmp_path / "killed"
    for start in range(0, 60, 10):
        some_commits(live, start, start + 10)
        shutil.copytree(tmp_path / "live", killed, dirs_exist_ok=True)
        (killed / "state.sqlite3-shm").unlink()
        seen = shutil.copytree(killed, tmp_path / f"seen-{start}")
        right.append(content(seen / "state.sqlite3"))
    live.close()
    log, tries = killed / "state.sqlite3-wal", 0
    whole = {path.name: path.read_bytes() for path in killed.iterdir()}
    before = content_before_any(tmp_path)
    for how, place in places(log.stat().st_size, "wal", 32):
        data = bytearray(whole[log.name])
        if how == "flip":
            data[place // 8] ^= 1 << place % 8
        trial = tmp_path / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        trial.mkdir()
        (trial / "state.sqlite3").write_bytes(whole["state.sqlite3"])
        (trial / log.name).write_bytes(data[:place] if how == "cut" else data)
        try:
            found = content(trial / "state.sqlite3")
        except BadInput as error:
            assert "state.sqlite3" in str(error)
        else:
            assert found in right or found == before or found[5] == 0, f"{how} {place}: neither refused nor a commit"
        tries += 1
    print(f"log of a killed crawl: {tries} tries")


def content_before_any(tmp_path: Path) -> list[Any]:
    """What a state says in which nothing is settled."""
    (tmp_path / "new").mkdir()
    state = CrawlState(tmp_path / "new" / "state.sqlite3")
    some_commits(state, 0, 0)
    state.close()
    return content(tmp_path / "new" / "state.sqlite3")
