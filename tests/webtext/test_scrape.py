"""The command itself: steps in a pipe, all steps at once, signals, statuses."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from webtext.local_site import Site, serving

Gpt2 = Callable[..., subprocess.CompletedProcess[bytes]]
FETCHING = ("--allow-net", "127.0.0.0/8", "--allow-net", "::1/128", "--host-gap", "0", "--timeout", "5")
LOCAL = (*FETCHING, "-j", "2")
WHOLE = (*LOCAL, "--dedup", "exact")


def dump(path: Path, site: Site, pages: int) -> Path:
    """A dump whose odd posts are on another host name, so that two requests are in flight."""
    lines = []
    for number in range(pages):
        url = site.url(f"/page-{number % (pages - 3)}", "localhost" if number % 2 else "127.0.0.1")
        lines.append({"url": url, "score": 3 + number, "subreddit": "books", "created_utc": 1_507_000_000 + number})
    lines.append({"url": site.url("/missing"), "score": 9, "created_utc": "1507000000"})
    lines.append({"url": site.url("/low"), "score": 2, "created_utc": 1_507_000_000})
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b"broken\n"
    path.write_bytes(zstandard.ZstdCompressor().compress(data))
    return path


def records(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def test_all_steps_equal_the_steps_in_a_pipe(gpt2: Gpt2, bash: Callable[..., Any], tmp_path: Path) -> None:
    with serving() as site:
        dump(tmp_path / "RS.zst", site, 12)
        whole = gpt2("webtext-scrape", "RS.zst", *WHOLE, "-o", "whole.jsonl.zst", "--rejects", "rejects.jsonl",
                     cwd=tmp_path, check=True)
        options = " ".join(FETCHING)
        script = (f"gpt2 webtext-scrape links RS.zst | gpt2 webtext-scrape fetch --work w2 {options} | "
                  "gpt2 webtext-scrape extract --work w2 | gpt2 webtext-scrape filter | "
                  "gpt2 webtext-scrape dedup --profile exact -o piped.jsonl.zst")
        piped = bash(script, tmp_path)
        assert piped.returncode == 0, piped.stderr.decode()
    documents = zstandard.ZstdDecompressor().decompressobj().decompress((tmp_path / "whole.jsonl.zst").read_bytes())
    assert (tmp_path / "piped.jsonl.zst").read_bytes() == (tmp_path / "whole.jsonl.zst").read_bytes()
    found = records(documents)
    assert [record["schema"] for record in found] == ["gpt2.document/1"] * 9
    assert {record["language"] for record in found} == {"en"}
    assert [record["karma"] for record in found] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    summary = whole.stderr.decode()
    assert "links: read 15, kept 13, dropped 2 (1 karma below 3, 1 malformed line)" in summary
    assert "fetch: read 13, kept 12, dropped 1 (1 http_error)" in summary
    assert "extract: read 12, kept 12, dropped 0" in summary
    assert "filter: read 12, kept 12, dropped 0" in summary
    assert "dedup: read 12, kept 9, dropped 3 (3 exact duplicate)" in summary
    reasons = [record["reason"] for record in records((tmp_path / "rejects.jsonl").read_bytes())]
    assert sorted(reasons) == ["exact duplicate"] * 3 + ["http_error", "karma below 3", "malformed line"]
    assert "end record" not in piped.stderr.decode()


def test_stdout_ends_with_the_end_record_and_says_nothing_else(gpt2: Gpt2) -> None:
    result = gpt2("webtext-scrape", "links", input=b"http://example.com/a\n", check=True)
    found = records(result.stdout)
    assert [record["schema"] for record in found] == ["gpt2.link/1", "gpt2.end/1"]
    assert found[0]["karma"] is None


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [
    (signal.SIGTERM, -signal.SIGTERM), pytest.param(signal.SIGINT, -signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_the_state(gpt2: Gpt2, gpt2_popen: Callable[..., Any], tmp_path: Path, number: int,
                                  status: int) -> None:
    with serving(delay_s=0.03) as site:
        source = dump(tmp_path / "RS.zst", site, 80)
        arguments = ("webtext-scrape", source, *WHOLE, "--work", tmp_path / "w", "-o", tmp_path / "docs.jsonl")
        process = gpt2_popen(*arguments, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while len(site.log) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        error = process.communicate(timeout=60)[1].decode()
        assert process.returncode == status
        assert "the same command goes on from there" in error
        assert not (tmp_path / "docs.jsonl").exists()
        with contextlib.closing(sqlite3.connect(tmp_path / "w" / "state.sqlite3")) as state:
            done = state.execute("SELECT count(*) FROM page").fetchone()[0]
        assert done >= 4
        site.log.clear()
        again = gpt2(*arguments, check=True)
        assert f"fetch: {done} pages are in {tmp_path / 'w'} already, {81 - done} are to be fetched" in (
            again.stderr.decode())
        assert sum(site.hits().values()) <= 81 - done + 2
    assert len(records((tmp_path / "docs.jsonl").read_bytes())) == 77


@pytest.mark.parametrize(("arguments", "status", "says"), [
    (("links", "cut.zst"), 65, "cut short"),
    (("links", "table.csv"), 65, "none of the 2 lines"),
    (("links", "absent.zst"), 2, "there is no absent.zst"),
    (("table.csv", "--allow-net", "everywhere"), 2, "--allow-net everywhere"),
    (("table.csv", "--before", "yesterday"), 2, "is no date"),
    (("table.csv", "--contact", "me"), 2, "--contact"),
    (("links", "links.txt", "-o", "table.csv"), 2, "--force"),
    (("fetch", "links.jsonl"), 65, "gpt2.link record without"),
    (("fetch", "bad.jsonl"), 65, "not an http(s) URL"),
    (("dedup", "surrogate.jsonl"), 65, "lone surrogate"),
])
def test_statuses(gpt2: Gpt2, tmp_path: Path, arguments: tuple[str, ...], status: int, says: str) -> None:
    (tmp_path / "cut.zst").write_bytes(zstandard.ZstdCompressor().compress(b"http://e.com/\n" * 9)[:-4])
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    (tmp_path / "links.txt").write_text("http://example.com/\n")
    (tmp_path / "links.jsonl").write_text('{"schema":"gpt2.link/1","url":"http://127.0.0.1/"}\n')
    (tmp_path / "bad.jsonl").write_text('{"schema":"gpt2.link/1","url":"file:///etc/passwd","url_key":"x","karma":1,'
                                        '"subreddit":null,"created_utc":null}\n')
    (tmp_path / "surrogate.jsonl").write_text('{"schema":"gpt2.document/1","id":"0","text":"a \\ud800 b"}\n')
    result = gpt2("webtext-scrape", *arguments, cwd=tmp_path)
    assert (result.returncode, says in result.stderr.decode()) == (status, True), result.stderr.decode()


def test_a_file_named_like_a_step(gpt2: Gpt2, tmp_path: Path) -> None:
    (tmp_path / "links").write_text("http://example.com/\n")
    assert records(gpt2("webtext-scrape", "links", "./links", cwd=tmp_path, check=True).stdout)[0]["url"] == \
        "http://example.com/"


def test_min_chars_and_page_timeout_and_max_bytes_reach_their_steps(gpt2: Gpt2, tmp_path: Path) -> None:
    with serving() as site:
        (tmp_path / "links.txt").write_text(f"{site.url('/a')}\n{site.url('/bomb')}\n")
        result = gpt2("webtext-scrape", "links.txt", *LOCAL, "--min-chars", "100K", "--max-bytes", "1M",
                      "--page-timeout", "9", "--concurrency", "2", "--hosts", "none", "--min-karma", "0", "--contact",
                      "https://example.org/", cwd=tmp_path, check=True)
        assert site.log[0][2]["user-agent"].endswith("(+https://example.org/)")
    text = result.stderr.decode()
    assert "1 too_big" in text and "1 text under 100000 characters" in text
    assert records(result.stdout)[0]["count"] == 0
