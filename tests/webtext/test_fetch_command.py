"""The verb itself: its options reach the fetch, hostile servers cost bounded memory, a full disk costs nothing."""

from __future__ import annotations

import collections
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import gpt2_here
from webtext.local_site import serving
from webtext.test_fetch import fetch, guard_for, links

from gpt2cli.reporter import Silent
from gpt2cli.webtext.fetch import FetchConfig, fetch_pages
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.warc import Response
from gpt2cli.webtext.warc_files import WarcFiles

__all__ = ["gpt2_here"]
Gpt2Here = Callable[..., subprocess.CompletedProcess[bytes]]
SERVER = Path(__file__).resolve().parents[1] / "bench" / "webtext_fetch" / "server.py"
LOCAL = ("--allow-net", "127.0.0.0/8", "--host-gap", "0")
ENDS = {"bomb": "too_big", "endless": "too_big", "drip": "timeout", "headers": "bad_response", "loop": "redirect_loop",
        "short": "incomplete", "reset": "disconnected", "silent": "timeout"}


def link_lines(*urls: str) -> bytes:
    return b"".join(json.dumps({"schema": "gpt2.link/1", "url": url, "url_key": url[7:], "karma": 3, "subreddit": None,
                                "created_utc": None}).encode() + b"\n" for url in urls)


def pages_of(output: bytes) -> list[dict[str, Any]]:
    return [record for record in map(json.loads, output.splitlines()) if record["schema"] == "gpt2.page/1"]


def test_every_option_reaches_the_fetch(gpt2_here: Gpt2Here, tmp_path: Path) -> None:
    with serving() as site:
        source = link_lines(*map(site.url, ("/a", "/chain/1", "/reset", "/busy/9/9", "/missing")))
        arguments = ("webtext-scrape", "fetch", *LOCAL, "--work", tmp_path, "--warc", "gz", "--max-redirects", "0",
                     "--retries", "0", "--max-delay", "0", "--per-address", "1", "--host-failures", "2",
                     "--body-memory", "64Ki", "--concurrency", "3")
        first = pages_of(gpt2_here(*arguments, input=source, check=True).stdout)
        assert [page["outcome"] for page in first] == \
            ["ok", "too_many_redirects", "disconnected", "http_error", "host_down"]
        assert first[0]["warc"] == "crawl-00000.warc.gz"
        again = gpt2_here(*arguments, "--again", "too_many_redirects, host_down", "--max-redirects", "5",
                          "--host-failures", "9", input=source, check=True)
        assert [page["outcome"] for page in pages_of(again.stdout)] == \
            ["ok", "ok", "disconnected", "http_error", "http_error"]
        assert b"fetch: 3 pages are in" in again.stderr
        assert site.hits()["/reset"] == site.hits()["/busy/9/9"] == 1


@pytest.mark.parametrize(("arguments", "says"), [
    (("--again", "ok"), "--again ok: choose from"), (("--again", "everything"), "--again everything: choose from"),
    (("--warc", "xz"), "--warc"), (("--body-memory", "1"), "--body-memory"),
    (("--host-failures", "0"), "--host-failures"),
])
def test_wrong_options(gpt2_here: Gpt2Here, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = gpt2_here("webtext-scrape", "fetch", "--work", tmp_path / "w", *arguments, input=link_lines())
    assert done.returncode == 2
    assert says in done.stderr.decode()


def test_a_full_output_device_is_told_and_costs_no_page(gpt2_here: Gpt2Here, tmp_path: Path) -> None:
    with serving() as site:
        source = link_lines(*(site.url(f"/{n}") for n in range(5)))
        arguments = ("webtext-scrape", "fetch", *LOCAL, "--work", tmp_path)
        done = gpt2_here(*arguments, "-o", "/dev/full", input=source)
        assert done.returncode == 74 and b"No space left" in done.stderr
        assert len(pages_of(gpt2_here(*arguments, input=source, check=True).stdout)) == 5


def test_a_list_of_urls_is_no_links_yet(gpt2_here: Callable[..., Any], tmp_path: Path) -> None:
    done = gpt2_here("webtext-scrape", "fetch", "--work", tmp_path, input=b"http://127.0.0.1/\n")
    assert done.returncode == 65
    assert b"line 1: not JSON" in done.stderr and b"gpt2.link records, which the step before writes" in done.stderr


def test_a_full_disk_ends_the_run_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    append = WarcFiles.append

    def full(self: WarcFiles, response: Response) -> tuple[str, int, int]:
        written.append(response.url)
        if len(written) == 6:
            append(self, response)  # half of it may be there
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return append(self, response)

    with serving() as site:
        urls = [site.url(f"/{n}") for n in range(40)]
        with monkeypatch.context() as patch:
            patch.setattr(WarcFiles, "append", full)
            with pytest.raises(OSError, match="No space left"):
                fetch(tmp_path, site, *urls, concurrency=2)
        assert 5 <= len(site.log) < 40
        assert [page["outcome"] for page in fetch(tmp_path, site, *urls)] == ["ok"] * 40
        assert sum(count - 1 for count in site.hits().values()) <= 2  # those in flight


@pytest.fixture
def hostile_port(tmp_path: Path) -> Iterator[int]:
    """A server of which every path is one kind of hostility, on all of 127.0.0.0/8."""
    port = tmp_path / "port"
    with subprocess.Popen([sys.executable, str(SERVER), str(port), str(tmp_path / "log"), "1000", "1"]) as process:
        while not port.exists() or not port.read_text():
            assert process.poll() is None
            time.sleep(0.01)
        yield int(port.read_text())
        process.send_signal(signal.SIGTERM)


MEASURED = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a command and prints its peak memory in KiB: a small process, for the peak begins with that of who starts it."""


def test_hostile_servers_cost_their_limits_and_no_more(tmp_path: Path, hostile_port: int) -> None:
    kinds = [kind for kind in ENDS for _ in range(12)]
    urls = [f"http://127.0.1.{number + 1}:{hostile_port}/{kind}/x" for number, kind in enumerate(kinds)]
    (tmp_path / "links.jsonl").write_bytes(link_lines(*urls))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, sys.executable, "-m", "gpt2cli", "webtext-scrape", "fetch",
         tmp_path / "links.jsonl", *LOCAL, "--work", tmp_path / "work", "-o", tmp_path / "pages.jsonl",
         "--timeout", "5", "--concurrency", "100", "--body-memory", "4Mi", "--max-bytes", "2M"], capture_output=True)
    summary = done.stderr.decode()
    assert done.returncode == 0, summary
    pages = pages_of((tmp_path / "pages.jsonl").read_bytes())
    ends = collections.Counter((kind, page["outcome"]) for kind, page in zip(kinds, pages, strict=True))
    assert all(ends[kind, outcome] for kind, outcome in ENDS.items()), ends
    assert all(outcome in (ENDS[kind], "timeout") for kind, outcome in ends), ends  # on a machine that is busy
    assert re.search(r"fetch: read 96, kept 0, dropped 96", summary)
    assert int(done.stdout) < 120_000  # KiB, of which 52,000 are the program's own


def test_a_slow_consumer_holds_up_no_request(tmp_path: Path) -> None:
    """Extraction may take long: what is asked meanwhile doesn't time out, and the pages are all there."""
    with serving(delay_s=0.02) as site:
        config = FetchConfig(tmp_path, host_gap_s=0.0, timeout_s=2.0, guard=guard_for(site))
        outcomes = []
        for page in fetch_pages(links(*(site.url(f"/{n}") for n in range(10))), config, StepTally("fetch"), Silent()):
            outcomes.append(page["outcome"])
            if len(outcomes) == 2:
                deadline = time.monotonic() + 60
                while site.hits().total() < 11 and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert site.hits().total() == 11  # all were asked for while nobody took a page
                time.sleep(2.1)
        assert outcomes == ["ok"] * 10


