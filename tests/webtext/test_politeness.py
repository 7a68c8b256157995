"""What a server sees of us: its log proves the pauses, the one connection, and that what it asks for is obeyed."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from webtext.local_site import Site, serving
from webtext.test_fetch import fetch, guard_for, links

from gpt2cli.errors import BadInput, Interrupted, UsageFault
from gpt2cli.reporter import Silent
from gpt2cli.webtext.address_guard import AddressGuard
from gpt2cli.webtext.crawl_state import STATE, CrawlState
from gpt2cli.webtext.fetch import FetchConfig, fetch_pages
from gpt2cli.webtext.judge_links import Link
from gpt2cli.webtext.tally import StepTally

LOOPBACK = AddressGuard(allow=(ipaddress.ip_network("127.0.0.0/8"),))


def times_of(site: Site, path: str) -> list[float]:
    return [when for seen, when, _ in site.log if seen == path]


def gaps(times: list[float]) -> list[float]:
    return [later - sooner for sooner, later in itertools.pairwise(times)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name below .test is 127.0.0.1."""
    asked = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: Any, **named: Any) -> Any:
        return asked("127.0.0.1" if host.endswith(".test") else host, port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_retry_after_is_obeyed_by_all_requests_to_the_host_and_clamped(tmp_path: Path) -> None:
    with serving() as site:
        paths = ["/busy/1/1", "/next", "/busy/1/3600"]
        pages = fetch(tmp_path, site, *map(site.url, paths), max_delay_s=1.5)
        assert [page["outcome"] for page in pages] == ["ok"] * 3
        first, second = times_of(site, "/busy/1/1")
        assert second - first >= 1
        assert not any(first < when < second for _, when, _ in site.log)
        first, second = times_of(site, "/busy/1/3600")
        assert 1.5 <= second - first < 60


def test_a_server_that_stays_busy_is_left_alone_ever_longer(tmp_path: Path) -> None:
    with serving() as site:
        page, = fetch(tmp_path, site, site.url("/busy/9/0"), host_gap_s=0.02, retries=4)
        assert (page["outcome"], page["status"]) == ("http_error", 503)
        waits = gaps(times_of(site, "/busy/9/0"))
        assert len(waits) == 4
        assert all(wait >= 0.05 * 2**number for number, wait in enumerate(waits))  # 5 gaps, doubling, at least half


def test_crawl_delay_is_obeyed_and_clamped(tmp_path: Path) -> None:
    with serving((200, b"User-agent: *\nCrawl-delay: 3600")) as site:
        fetch(tmp_path, site, *(site.url(f"/{n}") for n in range(4)), max_delay_s=0.3)
        pages = [when for path, when, _ in site.log if path != "/robots.txt"]
        assert len(pages) == 4 and min(gaps(pages)) >= 0.3
        assert site.most_at_once == 1


def test_failures_that_may_pass_are_tried_again_and_no_others(tmp_path: Path) -> None:
    with serving() as site:
        pages = fetch(tmp_path, site, *map(site.url, ("/flaky/2", "/flaky/9", "/missing", "/pdf")), retries=2)
        assert [page["outcome"] for page in pages] == ["ok", "disconnected", "http_error", "not_html"]
        assert site.hits() == {"/robots.txt": 1, "/flaky/2": 3, "/flaky/9": 3, "/missing": 1, "/pdf": 1}


def test_a_host_that_only_fails_is_given_up_and_stays_so(tmp_path: Path) -> None:
    with serving() as site:
        urls = [site.url(f"/reset?{n}") for n in range(20)]
        pages = fetch(tmp_path, site, *urls, retries=0, host_failures=5)
        assert [page["outcome"] for page in pages] == ["disconnected"] * 5 + ["host_down"] * 15
        assert len(site.log) == 1 + 5
        again = fetch(tmp_path, site, site.url("/fine"), retries=0, host_failures=5)
        assert again[0]["outcome"] == "host_down" and len(site.log) == 6  # it is in the state, for the next run too


def test_one_answer_closes_the_breaker(tmp_path: Path) -> None:
    with serving() as site:
        urls = [site.url(f"/{'fine' if n % 3 == 2 else 'reset'}?{n}") for n in range(15)]
        pages = fetch(tmp_path, site, *urls, retries=0, host_failures=3)
        assert [page["outcome"] for page in pages] == ["disconnected", "disconnected", "ok"] * 5


def test_at_most_so_many_requests_at_an_address(tmp_path: Path, names: None) -> None:
    with serving(delay_s=0.02) as site:
        site.together = 3
        urls = [site.url(f"/{n}", f"host-{n}.test") for n in range(30)]
        pages = fetch(tmp_path, site, *urls, concurrency=30, per_address=3, guard=LOOPBACK)
        assert [page["outcome"] for page in pages] == ["ok"] * 30
        assert site.most_at_once == 3


def test_redirects_to_one_host_take_turns_there(tmp_path: Path, names: None) -> None:
    """Twenty hosts send us to a twenty-first: it sees one connection and the gap, and they wait for nobody."""
    with serving() as site:
        urls = [site.url(f"/goto?{site.url(f'/landing-{n}', 'all.test')}", f"host-{n}.test") for n in range(20)]
        pages = fetch(tmp_path, site, *urls, concurrency=4, per_address=30, host_gap_s=0.05, guard=LOOPBACK)
        assert [page["outcome"] for page in pages] == ["ok"] * 20
        assert [page["final_url"] for page in pages] == [site.url(f"/landing-{n}", "all.test") for n in range(20)]
        there = [when for _, when, headers in site.log if headers["host"].startswith("all.test")]
        assert len(there) == 21 and min(gaps(there)) >= 0.05


def test_robots_redirects_are_followed_and_read_once_for_all_runs(tmp_path: Path, names: None) -> None:
    with serving((200, b"User-agent: *\nDisallow: /private")) as site, _redirecting(site.url("/robots.txt")) as other:
        urls = [f"http://a.test:{other}/page", f"http://a.test:{other}/private"]
        pages = fetch(tmp_path, site, *urls, guard=LOOPBACK)
        assert [page["outcome"] for page in pages] == ["ok", "robots_denied"]
        assert site.hits() == {"/robots.txt": 1}
        fetch(tmp_path, site, *urls, f"http://a.test:{other}/page-2", guard=LOOPBACK)
        assert site.hits() == {"/robots.txt": 1}


@contextlib.contextmanager
def _redirecting(target: str) -> Iterator[int]:
    """A site whose robots.txt is elsewhere; yields its port."""
    with serving() as site:
        site.robots = (302, b"")
        site.robots_location = target
        yield site.port


def test_failed_urls_are_fetched_again_when_asked(tmp_path: Path) -> None:
    with serving() as site:
        urls = [site.url("/flaky/1"), site.url("/missing"), site.url("/fine")]
        assert [page["outcome"] for page in fetch(tmp_path, site, *urls, retries=0)] == \
            ["disconnected", "http_error", "ok"]
        pages = fetch(tmp_path, site, *urls, retries=0, again=("disconnected",))
        assert [page["outcome"] for page in pages] == ["ok", "http_error", "ok"]
        assert site.hits() == {"/robots.txt": 1, "/flaky/1": 2, "/missing": 1, "/fine": 1}


def test_links_are_read_as_a_stream_and_pages_come_while_the_crawl_goes_on(tmp_path: Path) -> None:
    """The first page is there long before the last is asked for, and can be read; closing ends the crawl."""
    with serving(delay_s=0.02) as site:
        config = FetchConfig(tmp_path, concurrency=2, host_gap_s=0.0, guard=guard_for(site))
        stream: Iterator[Link] = iter(links(*(site.url(f"/{n}") for n in range(300))))
        pages = fetch_pages(stream, config, StepTally("fetch"), Silent())
        assert next(pages)["url"] == site.url("/0")
        assert len(site.log) < 200
        pages.close()  # type: ignore[attr-defined]  # a generator
        seen = len(site.log)
        time.sleep(0.2)
        assert len(site.log) <= seen + 2
        assert CrawlState(tmp_path / STATE).count("page") >= 1


def test_the_same_url_twice_is_fetched_once_and_told_twice(tmp_path: Path) -> None:
    with serving() as site:
        pages = fetch(tmp_path, site, site.url("/a"), site.url("/b"), site.url("/a"))
        assert pages[0] == pages[2] and site.hits()["/a"] == 1


@pytest.mark.parametrize(("damage", "says"), [
    (lambda state: state.write_bytes(b"no database at all" * 1000), "is damaged"),
    (lambda state: state.write_bytes(state.read_bytes()[:5000]), "is damaged"),
    (lambda state: state.write_bytes(state.read_bytes()[:4096] + bytes(20_000)), "is damaged"),
    (lambda state: state.unlink(), "another crawl"),
])
def test_a_damaged_state_is_refused_with_a_sentence(tmp_path: Path, damage: Any, says: str) -> None:
    with serving() as site:
        fetch(tmp_path, site, *(site.url(f"/{n}") for n in range(50)))
        for path in tmp_path.glob(f"{STATE}-*"):
            path.unlink()
        damage(tmp_path / STATE)
        archive = {path: path.read_bytes() for path in (tmp_path / "warc").iterdir()}
        with pytest.raises(BadInput, match=says):
            fetch(tmp_path, site, *(site.url(f"/{n}") for n in range(60)))
        assert {path: path.read_bytes() for path in (tmp_path / "warc").iterdir()} == archive


def test_a_foreign_and_a_newer_state_are_refused(tmp_path: Path) -> None:
    import sqlite3

    with serving() as site:
        with contextlib.closing(sqlite3.connect(tmp_path / STATE)) as other:
            other.execute("CREATE TABLE x(y)")
        with pytest.raises(BadInput, match="no state of a crawl"):
            fetch(tmp_path, site, site.url("/"))
        (tmp_path / STATE).unlink()
        fetch(tmp_path, site, site.url("/"))
        with contextlib.closing(sqlite3.connect(tmp_path / STATE)) as newer:
            newer.execute("PRAGMA user_version = 9")
        with pytest.raises(BadInput, match="newer gpt2"):
            fetch(tmp_path, site, site.url("/"))


def test_a_stop_while_links_are_read(tmp_path: Path) -> None:
    class Stopping(Silent):
        def stopping(self) -> bool:
            return True

    with serving() as site:
        config = FetchConfig(tmp_path, guard=guard_for(site))
        with pytest.raises(Interrupted, match="safe"):
            list(fetch_pages(links(site.url("/a")), config, StepTally("fetch"), Stopping()))
        assert site.log == []


def test_more_in_flight_than_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda what: (256, 256))
    with serving() as site, pytest.raises(UsageFault, match="ulimit -n"):
        fetch(tmp_path, site, site.url("/a"), concurrency=1000)
