"""kill -9 at random times: nothing is lost, only what was in flight is asked for again, and the archive is readable."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastwarc
import pytest
from webtext.local_site import Site, article, serving

from gpt2cli.webtext.archived_page import page_of
from gpt2cli.webtext.crawl_state import STATE, CrawlState
from gpt2cli.webtext.dump_container import open_dump
from gpt2cli.webtext.warc_reader import read_warc, record_at

KILLS = 20
HOSTS = 8
OF_RUN = ("retrieved", "warc", "offset", "length")


def urls_of(site: Site, pages: int) -> list[str]:
    """Pages of several hosts in turns; a few are redirects to another host, or not there."""
    urls = []
    for number in range(pages):
        host = f"127.0.0.{1 + number % HOSTS}"
        kind = f"/page-{number}"
        if number % 50 == 7:
            kind = f"/goto?http://127.0.0.{1 + (number + 1) % HOSTS}:{site.port}/landing-{number}"
        elif number % 50 == 9:
            kind = f"/missing-{number}"
        urls.append(f"http://{host}:{site.port}{kind}")
    return urls


def requested(site: Site) -> Counter[str]:
    return Counter(f"http://{headers['host']}{path}" for path, _, headers in site.log)


def finished(work: Path, urls: list[str]) -> set[str]:
    """The URLs whose end is on disk; every page among them can be read from the archive."""
    if not (work / STATE).exists():
        return set()
    with contextlib.closing(CrawlState(work / STATE)) as state:
        pages = {urls[number - 1]: page for number in range(1, len(urls) + 1)
                 for page in state.pages([number]).values()}
    for page in pages.values():
        if page["outcome"] == "ok":
            record = record_at(work / "warc" / page["warc"], page["offset"], page["length"], 10**7)
            assert page_of(record, 10**7).body == article("/" + page["final_url"].split("/", 3)[3])
    return set(pages)


@pytest.mark.slow
def test_twenty_kills(gpt2_popen: Callable[..., Any], gpt2: Callable[..., Any], tmp_path: Path) -> None:
    chance = random.Random(6)
    with serving(delay_s=0.03, address="0.0.0.0") as site:
        urls = urls_of(site, 60 * KILLS)
        links = tmp_path / "links.jsonl"
        links.write_text("".join(json.dumps({"schema": "gpt2.link/1", "url": url, "url_key": url[7:], "karma": 3,
                                             "subreddit": None, "created_utc": None}) + "\n" for url in urls))
        work = tmp_path / "work"
        command = ("webtext-scrape", "fetch", links, "--work", work, "--allow-net", "127.0.0.0/8", "--host-gap", "0",
                   "--concurrency", HOSTS, "-f", "-o", tmp_path / "pages.jsonl")
        kills, known = 0, Counter[str]()
        while kills < KILLS:
            seen = len(site.log)
            process = gpt2_popen(*command, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 60
            while len(site.log) == seen and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.15))
            process.kill()
            if process.wait() != -signal.SIGKILL:
                break  # it was through before: the machine is faster than was thought
            kills += 1
            time.sleep(0.05)  # what it had asked for is in the server's log now
            asked, done = requested(site), finished(work, urls)
            assert all(asked[url] == times for url, times in known.items())  # what was done was not asked for again
            open_ends = set(asked) & {url for url in urls if "/goto?" not in url}  # a redirect is kept by itself
            assert len(open_ends - done) <= HOSTS  # and only so much was in flight
            known = Counter({url: asked[url] for url in done})
            assert not (tmp_path / "pages.jsonl").exists()
        assert kills >= KILLS // 2
        gpt2(*command, check=True)
        asked = requested(site)
        assert all(asked[url] == times for url, times in known.items())
        assert sum(times - 1 for url, times in asked.items() if not url.endswith("/robots.txt")) <= HOSTS * kills
        pages = [json.loads(line) for line in (tmp_path / "pages.jsonl").read_bytes().splitlines()]
        gpt2(*command, "--work", tmp_path / "calm", "-o", tmp_path / "calm.jsonl", check=True)
        calm = [json.loads(line) for line in (tmp_path / "calm.jsonl").read_bytes().splitlines()]
    assert [page["url"] for page in pages] == urls
    assert [{name: value for name, value in page.items() if name not in OF_RUN} for page in pages] == \
        [{name: value for name, value in page.items() if name not in OF_RUN} for page in calm]
    ok = sum(page["outcome"] == "ok" for page in pages)
    ours = theirs = 0
    for path in sorted((work / "warc").iterdir()):
        with open_dump(path) as stream:
            ours += sum(record.kind == "response" for record in read_warc(stream, path.name, 10**7))
        with open(path, "rb") as file:
            theirs += sum(1 for _ in fastwarc.ArchiveIterator(file, record_types=fastwarc.WarcRecordType.response))
    assert ours == theirs == ok  # nothing twice, nothing torn
