"""Fetching from a real server on 127.0.0.1 that is sometimes hostile. No other address is ever asked for:
refusals are proved with 127.0.0.2 as the stand-in for what must not be reached."""

from __future__ import annotations

import ipaddress
import itertools
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from webtext.local_site import Site, article, serving

from gpt2cli.errors import Interrupted, UsageFault
from gpt2cli.reporter import Silent
from gpt2cli.webtext.address_guard import Address, AddressGuard
from gpt2cli.webtext.archived_page import page_of
from gpt2cli.webtext.crawl_state import STATE, CrawlState
from gpt2cli.webtext.fetch import FetchConfig, fetch_pages
from gpt2cli.webtext.judge_links import Link
from gpt2cli.webtext.outcomes import OUTCOMES
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.warc_reader import record_at
from gpt2cli.webtext.work_lock import lock_work

STAND_IN = "127.0.0.2"


def guard_for(site: Site) -> AddressGuard:
    """Take 127.0.0.1 and the site's port for the public web, and all else for what must not be reached."""
    def public(address: Address) -> bool:
        return address == ipaddress.ip_address("127.0.0.1")

    return AddressGuard(public=public, ports=frozenset({site.port}))


def links(*urls: str) -> list[Link]:
    return [Link(url, url, 5, "books", 1_500_000_000) for url in urls]


def fetch(work: Path, site: Site, *urls: str, **settings: Any) -> list[dict[str, Any]]:
    config = FetchConfig(work, **{"host_gap_s": 0.0, "timeout_s": 3.0, "max_bytes": 500_000, "guard": guard_for(site),
                                  **settings})
    tally = StepTally("fetch")
    pages = list(fetch_pages(links(*urls), config, tally, Silent()))
    assert [page["url"] for page in pages] == list(urls)
    assert all(page["outcome"] in OUTCOMES for page in pages)
    assert tally.read == len(urls) == tally.kept + sum(tally.dropped.values())
    return pages


def archived_body(work: Path, page: dict[str, Any]) -> bytes:
    """The body that a page record points to, and nothing else of the file."""
    return page_of(record_at(work / "warc" / page["warc"], page["offset"], page["length"], 10**7), 10**7).body


HOSTILE = {
    "/missing": "http_error", "/pdf": "not_html", "/odd-type": "not_html",
    "/bomb": "too_big", "/endless": "too_big", "/damaged": "bad_encoding",
    "/short": "incomplete", "/reset": "disconnected", "/garbage": "bad_response", "/huge-headers": "bad_response",
    "/long-header": "bad_response", "/loop-a": "redirect_loop", "/chain/9": "too_many_redirects",
    "/goto?https://en.wikipedia.org/wiki/X": "excluded_host", "/goto?file:///etc/passwd": "bad_redirect",
    "/goto?http://user:secret@127.0.0.1/": "bad_redirect", "/goto?": "bad_redirect",
    "/goto?http://127.0.0.1:22/": "refused_port",
}
GOOD = ["/one", "/two?a=1&b=2", "/gzip", "/untyped", "/chain/3"]


def test_every_url_ends_as_a_typed_outcome_and_loses_no_neighbour(tmp_path: Path) -> None:
    with serving() as site:
        paths = [path for pair in zip(HOSTILE, GOOD * 9, strict=False) for path in pair]
        paths = list(dict.fromkeys(paths))
        pages = fetch(tmp_path, site, *(site.url(path) for path in paths), concurrency=8)
        outcomes = dict(zip(paths, pages, strict=True))
        assert {path: outcomes[path]["outcome"] for path in HOSTILE} == HOSTILE
        assert [outcomes[path]["outcome"] for path in GOOD] == ["ok"] * len(GOOD)
        assert outcomes["/missing"]["status"] == 404
        assert outcomes["/chain/3"]["final_url"] == site.url("/end")
        one = outcomes["/one"]
        assert archived_body(tmp_path, one) == article("/one")
        assert archived_body(tmp_path, outcomes["/gzip"]) == article("squeezed")
        assert site.hits()["/robots.txt"] == 1
        assert {"karma", "subreddit", "created_utc", "url_key"} <= one.keys()


@pytest.mark.parametrize("path", ["/drip", "/silent"])
def test_slow_servers_cost_their_timeout(tmp_path: Path, path: str) -> None:
    with serving() as site:
        began = time.monotonic()
        assert fetch(tmp_path, site, site.url(path), timeout_s=0.5)[0]["outcome"] == "timeout"
        assert time.monotonic() - began < 30  # the server's own end is later


@pytest.mark.parametrize(("host", "outcome"), [
    (STAND_IN, "refused_address"), ("0x7f000002", "refused_address"),
    ("[::ffff:127.0.0.2]", "refused_address"), ("[::1]", "refused_address"),
    ("127.2", "refused_address"), ("2130706434", "refused_address"), ("0177.0.0.2", "refused_address"),
])
def test_the_guard_sees_literals_in_every_spelling(tmp_path: Path, host: str, outcome: str) -> None:
    with serving() as site:
        assert fetch(tmp_path, site, f"http://{host}:{site.port}/")[0]["outcome"] == outcome
        assert site.log == []


def test_the_guard_sees_names_and_redirects(tmp_path: Path) -> None:
    def nothing(address: Address) -> bool:
        return False

    with serving() as site:
        pages = fetch(tmp_path / "a", site, site.url("/", "localhost"), guard=AddressGuard(public=nothing))
        assert pages[0]["outcome"] == "refused_address"
        assert site.log == []
        pages = fetch(tmp_path / "b", site, site.url(f"/goto?http://{STAND_IN}:{site.port}/"))
        assert pages[0]["outcome"] == "refused_address"


def test_the_default_guard_refuses_this_machine(tmp_path: Path) -> None:
    with serving() as site:
        pages = fetch(tmp_path, site, site.url("/"), site.url("/", "localhost"), guard=AddressGuard())
        assert [page["outcome"] for page in pages] == ["refused_address"] * 2
        assert site.log == []


def test_dead_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **named: Any) -> Any:
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return asked(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with serving() as site:
        port = site.port
    with serving() as other:
        guard = AddressGuard(allow=(ipaddress.ip_network("127.0.0.0/8"),))
        pages = fetch(tmp_path, other, f"http://127.0.0.1:{port}/a", f"http://127.0.0.1:{port}/b", other.url("/c"),
                      "http://no-such-host.invalid/", guard=guard)
    assert [page["outcome"] for page in pages] == ["connect_failed", "connect_failed", "ok", "dns_failed"]


@pytest.mark.parametrize(("robots", "public", "private"), [
    ((200, b"User-agent: *\nDisallow: /private"), "ok", "robots_denied"),
    ((200, b"User-agent: gpt2cli\nDisallow: /private\n\nUser-agent: *\nDisallow: /"), "ok", "robots_denied"),
    ((200, b"User-agent: *\nDisallow: /private\n" + b"#" * 900_000 + b"\nDisallow: /"), "ok", "robots_denied"),
    ((200, b"<html>no rules at all</html>"), "ok", "ok"),
    ((404, b""), "ok", "ok"),
    ((403, b""), "ok", "ok"),
    ((500, b""), "robots_unreachable", "robots_unreachable"),
])
def test_robots(tmp_path: Path, robots: tuple[int, bytes], public: str, private: str) -> None:
    with serving(robots) as site:
        pages = fetch(tmp_path, site, site.url("/public"), site.url("/private/x"), site.url("/public/2"))
        assert [page["outcome"] for page in pages] == [public, private, public]
        assert site.hits()["/robots.txt"] == (3 if public == "robots_unreachable" else 1)  # a 5xx may pass
        assert (site.hits()["/private/x"] > 0) == (private == "ok")


def test_redirects_obey_robots_too(tmp_path: Path) -> None:
    with serving((200, b"User-agent: *\nDisallow: /private")) as site:
        assert fetch(tmp_path, site, site.url("/goto?/private"))[0]["outcome"] == "robots_denied"
        assert site.hits()["/private"] == 0


def test_one_connection_and_a_gap_per_host_and_an_honest_name(tmp_path: Path) -> None:
    with serving(delay_s=0.02) as site:
        fetch(tmp_path, site, *(site.url(f"/{n}") for n in range(6)), host_gap_s=0.15, contact="https://example.org/me")
        times = [when for _, when, _ in site.log]
        assert len(times) == 7
        assert site.most_at_once == 1
        assert min(later - sooner for sooner, later in itertools.pairwise(times)) >= 0.15
        assert all(headers["user-agent"].startswith("gpt2cli/") for _, _, headers in site.log)
        assert all("(+https://example.org/me)" in headers["user-agent"] for _, _, headers in site.log)
        assert not any("cookie" in headers or "referer" in headers for _, _, headers in site.log)


def test_hosts_are_served_side_by_side(tmp_path: Path) -> None:
    with serving() as site:
        site.together = 3
        guard = AddressGuard(allow=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")))
        hosts = ("127.0.0.1", "localhost", "0x7f000001")
        fetch(tmp_path, site, *(site.url(f"/{n}", host) for n in range(3) for host in hosts), guard=guard)
        assert site.most_at_once == 3


def test_the_proxy_of_the_environment_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serving() as site:
        assert fetch(tmp_path, site, site.url("/"))[0]["outcome"] == "ok"


def test_finished_pages_are_not_fetched_again(tmp_path: Path) -> None:
    with serving() as site:
        first = fetch(tmp_path, site, site.url("/a"), site.url("/missing"))
        again = fetch(tmp_path, site, site.url("/missing"), site.url("/a"), site.url("/b"))
        assert site.hits() == {"/robots.txt": 1, "/a": 1, "/missing": 1, "/b": 1}
        assert again[:2] == first[::-1]


@pytest.mark.slow
def test_stopping_keeps_what_is_done(tmp_path: Path) -> None:
    class Stopping(Silent):
        def stopping(self) -> bool:
            return len(site.log) > 5

    with serving(delay_s=0.05) as site:
        urls = [site.url(f"/{n}") for n in range(40)]
        config = FetchConfig(tmp_path, host_gap_s=0.0, guard=guard_for(site))
        with pytest.raises(Interrupted, match="goes on from there"):
            list(fetch_pages(links(*urls), config, StepTally("fetch"), Stopping()))
        done = CrawlState(tmp_path / STATE).count("page")
        assert 3 <= done < 40
        requests = len(site.log)
        assert len(fetch(tmp_path, site, *urls)) == 40
        assert len(site.log) - requests == 40 - done


def test_two_scrapes_cannot_share_a_directory(tmp_path: Path) -> None:
    with lock_work(tmp_path), pytest.raises(UsageFault, match="in use"), lock_work(tmp_path):
        pass
    with lock_work(tmp_path):
        pass
