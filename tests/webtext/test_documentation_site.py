"""The demo's web: real pages of Python's documentation server, crawled from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

SCRIPT = Path(__file__).resolve().parents[2] / "demo" / "documentation_site.py"


def site(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--dump", "work/RS_2017-10.zst", "--port-file", "work/port", "--", *command],
        cwd=tmp_path, capture_output=True, check=False, timeout=120)


def decompress(path: Path) -> bytes:
    return zstandard.ZstdDecompressor(max_window_size=2**31).decompressobj().decompress(path.read_bytes())


@pytest.mark.slow
def test_the_dump_is_like_reddits_and_depends_on_the_port_only(tmp_path: Path) -> None:
    result = site(tmp_path, "true")
    assert result.returncode == 0, result.stderr.decode()
    port = int((tmp_path / "work" / "port").read_text())
    dump = decompress(tmp_path / "work" / "RS_2017-10.zst")
    posts = [json.loads(line) for line in dump.splitlines()]
    pages = {post["url"] for post in posts if f"127.0.0.1:{port}/" in post["url"]}
    assert len(pages) > 150
    assert any(post["is_self"] for post in posts) and any(post["score"] is None for post in posts)
    assert any("wikipedia.org" in post["url"] for post in posts) and any("&amp;" in post["url"] for post in posts)
    assert [post["created_utc"] for post in posts[:100]] == sorted(post["created_utc"] for post in posts[:100])
    site(tmp_path, "true")
    again = int((tmp_path / "work" / "port").read_text())
    assert decompress(tmp_path / "work" / "RS_2017-10.zst") == dump.replace(f":{port}/".encode(), f":{again}/".encode())


@pytest.mark.slow
def test_pages_are_the_same_each_time(tmp_path: Path) -> None:
    """ftplib and doctest show objects in their signatures; two servers have them at other addresses."""
    fetch = ("import pathlib, urllib.request as r; at = pathlib.Path('work/port').read_text().strip(); "
             "print([r.urlopen(f'http://127.0.0.1:{at}/{m}.html').read() for m in ('ftplib', 'doctest')])")
    one, other = (site(tmp_path, sys.executable, "-c", fetch).stdout for _ in range(2))
    assert one == other and one.replace(b"&nbsp;", b" ").count(b"object object&gt;") > 1


@pytest.mark.slow
def test_the_exit_status_is_passed_on(tmp_path: Path) -> None:
    assert site(tmp_path, "sh", "-c", "exit 65").returncode == 65
    assert site(tmp_path, "sh", "-c", "kill -TERM $$").returncode == 143


@pytest.mark.slow
def test_the_crawl_of_the_demo(tmp_path: Path, shell_environment: dict[str, str],
                               bash: Callable[..., Any]) -> None:
    result = bash(
        f"{sys.executable} {SCRIPT} --dump RS_2017-10.zst --port-file port -- "
        "gpt2 webtext-scrape RS_2017-10.zst --work webtext --allow-net 127.0.0.0/8 --host-gap 0 "
        "-o crawl.jsonl.zst --rejects rejects.jsonl", tmp_path)
    assert result.returncode == 0, result.stderr.decode()
    documents = [json.loads(line) for line in decompress(tmp_path / "crawl.jsonl.zst").splitlines()]
    texts = [document["text"] for document in documents]
    assert len(documents) > 130
    assert sum(map(len, texts)) > 800_000
    assert len(set(texts)) == len(texts)
    assert any("The \"if\" statement is used for conditional execution:" in text for text in texts)
    reasons = {json.loads(line)["reason"] for line in (tmp_path / "rejects.jsonl").read_bytes().splitlines()}
    assert {"self post", "karma below 3", "karma unknown", "duplicate URL", "wikipedia", "too new", "promoted",
            "media host", "media file", "not an http(s) URL", "connect_failed", "not_html", "exact duplicate",
            "near duplicate", "text under 200 characters", "min-tokens"} == reasons
