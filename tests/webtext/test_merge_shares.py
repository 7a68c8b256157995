"""Shares of a crawl merged to the bytes of one run: links by position, pages and documents in the links' order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import gpt2_here

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent
from gpt2cli.webtext import merge_shares
from gpt2cli.webtext.judge_links import LinkConfig
from gpt2cli.webtext.links import link_records
from gpt2cli.webtext.merge_shares import in_link_order, merged_links
from gpt2cli.webtext.shards import Share
from gpt2cli.webtext.tally import StepTally
from gpt2cli.webtext.urls import host_of_key

__all__ = ["gpt2_here"]


def posts(path: Path, count: int, seed: int) -> Path:
    """A dump in which keys repeat, also across files, with karma that only adds up, or is unknown."""
    draw = random.Random(seed)
    spellings = ("http://{0}/{1}", "https://www.{0}/{1}/", "http://m.{0}/{1}?utm_source=x")
    lines = []
    for _ in range(count):
        number = draw.randrange(count // 2)
        url = draw.choice(spellings).format(f"h{number % 31}.org", number)
        lines.append({"url": url, "score": draw.choice([None, 1, 2, 3, 9]), "created_utc": 1_507_000_000 + number})
    path.write_bytes(b"\n" * seed + b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return path


@pytest.mark.parametrize("sum_karma", [False, True])
@pytest.mark.parametrize("count", [2, 7])
def test_links_of_any_number_of_shares_merge_to_one_run(tmp_path: Path, count: int, sum_karma: bool) -> None:
    sources = [posts(tmp_path / f"RS{seed}", 900, seed) for seed in (1, 2)]
    whole = list(link_records(sources, LinkConfig(sum_karma=sum_karma), StepTally("links"), Silent()))
    parts = []
    for number in range(1, count + 1):
        config = LinkConfig(sum_karma=sum_karma, share=Share(number, count))
        parts.append(tmp_path / f"{number}.jsonl")
        lines = link_records(sources, config, StepTally("links"), Silent(), jobs=1 + number % 2)
        parts[-1].write_bytes(b"".join(lines))
    tally = StepTally("merge")
    assert list(merged_links(parts[::-1], tally, Silent())) == whole
    assert tally.read == tally.kept == len(whole) > 100
    with pytest.raises(BadInput, match="give every share once"):
        list(merged_links([*parts, parts[0]], StepTally("merge"), Silent()))


def shared_out(tmp_path: Path, kind: str, keep: float = 1.0) -> tuple[Path, list[Path], list[bytes]]:
    """Return a file of links, files of three shares of records of them, and all records in the links' order."""
    links = list(link_records([posts(tmp_path / "RS", 600, 3)], LinkConfig(), StepTally("links"), Silent()))
    (tmp_path / "links.jsonl").write_bytes(b"".join(links))
    draw, whole, shares = random.Random(4), [], [tmp_path / f"share{number}" for number in range(3)]
    parts: list[list[bytes]] = [[], [], []]
    for link in map(json.loads, links):
        if draw.random() < keep:
            fields = {"url": link["url"], "outcome": "ok", "retrieved": "now", "id": link["url_key"], "text": "\u00e9"}
            whole.append(encode_record(kind, fields))
            number = next(number for number in range(3) if Share(number + 1, 3).has(host_of_key(link["url_key"])))
            parts[number].append(whole[-1])
    for path, part in zip(shares, parts, strict=True):
        path.write_bytes(b"".join(part) + encode_record("gpt2.end", {"count": 0, "sha256": ""}))
    return tmp_path / "links.jsonl", shares, whole


@pytest.mark.parametrize(("kind", "keep"), [("gpt2.page", 1.0), ("gpt2.document", 0.5), ("gpt2.document", 0.0)])
def test_pages_and_documents_come_in_the_order_of_the_links(tmp_path: Path, kind: str, keep: float) -> None:
    links, shares, whole = shared_out(tmp_path, kind, keep)
    assert list(in_link_order(shares, links, StepTally("merge"), Silent())) == whole


def test_what_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links, shares, _ = shared_out(tmp_path, "gpt2.page")
    with pytest.raises(BadInput, match="give the pages of all shares"):
        list(in_link_order(shares[:2], links, StepTally("merge"), Silent()))
    links, shares, _ = shared_out(tmp_path, "gpt2.document", 0.5)
    first, *rest = shares[0].read_bytes().splitlines(keepends=True)
    shares[0].write_bytes(b"".join([*rest[:5], first]))
    with pytest.raises(BadInput, match=r"share0 line 6: .* is no link of .*links.jsonl, or not in its order"):
        list(in_link_order(shares, links, StepTally("merge"), Silent()))
    with pytest.raises(BadInput, match=r"is no gpt2.link record; --order LINKS"):
        list(merged_links(shares[1:], StepTally("merge"), Silent()))
    with pytest.raises(BadInput, match="without a position"):
        list(merged_links([links], StepTally("merge"), Silent()))
    monkeypatch.setattr(merge_shares, "MOST_SHARES", 2)
    with pytest.raises(UsageFault, match="3 files are more than the 2"):
        list(in_link_order(shares, links, StepTally("merge"), Silent()))


def test_by_the_command(gpt2_here: Callable[..., Any], tmp_path: Path) -> None:
    source = posts(tmp_path / "RS", 300, 1)
    whole = gpt2_here("webtext-scrape", "links", source, check=True)
    parts = []
    for number in (1, 2):
        parts.append(tmp_path / f"{number}.jsonl.zst")
        gpt2_here("webtext-scrape", "links", source, "--shard", f"{number}/2", "-o", parts[-1], check=True)
    merged = gpt2_here("webtext-scrape", "merge", *parts, check=True)
    assert merged.stdout == whole.stdout
    assert b"merge: read" in merged.stderr
    refused = gpt2_here("webtext-scrape", "merge", "-", "--order", "-")
    assert refused.returncode == 2 and b"can't both be standard input" in refused.stderr
    assert gpt2_here("webtext-scrape", "merge", source).returncode == 65


JUNK = st.none() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=3)
SCHEMAS = st.sampled_from(["gpt2.link/1", "gpt2.page/1", "gpt2.document/1", "gpt2.link/9"])
RECORD = st.fixed_dictionaries({"schema": SCHEMAS},
                               optional={name: JUNK for name in ("url", "url_key", "karma", "subreddit", "created_utc",
                                                                 "position", "outcome", "retrieved", "id", "text")})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(RECORD | st.binary(max_size=20), max_size=3), max_size=3))
def test_only_our_errors_escape(tmp_path_factory: pytest.TempPathFactory, files: list[list[Any]]) -> None:
    directory = tmp_path_factory.mktemp("hostile")
    paths = []
    for number, records in enumerate(files):
        paths.append(directory / str(number))
        paths[-1].write_bytes(b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n"
                                       for one in records))
    for merged in (lambda: merged_links(paths, StepTally("merge"), Silent()),
                   *(lambda path=path: in_link_order(paths, path, StepTally("merge"), Silent()) for path in paths)):
        try:
            found = list(merged())
        except Gpt2Error as error:
            assert "\n" not in str(error) and str(error)
        else:
            assert len(found) <= sum(len(records) for records in files)
            assert all("position" not in record for record in found)


def test_a_field_that_no_file_can_hold(tmp_path: Path) -> None:
    """Found by fuzzing: half a surrogate pair in a field that is only passed on."""
    link = {"url": "http://a.org/", "url_key": "a.org/", "karma": 1, "subreddit": "x", "created_utc": ["\ud800"]}
    (tmp_path / "x.jsonl").write_text(json.dumps({"schema": "gpt2.link/1", **link, "position": [1, 1]}) + "\n")
    with pytest.raises(BadInput, match=r"x.jsonl line 1: a lone surrogate"):
        list(merged_links([tmp_path / "x.jsonl"], StepTally("merge"), Silent()))


def test_a_url_that_is_no_text(tmp_path: Path) -> None:
    page = {"schema": "gpt2.page/1", "url": [], "outcome": "ok", "retrieved": None, "id": None}
    (tmp_path / "x.jsonl").write_text(json.dumps(page) + "\n")
    with pytest.raises(BadInput, match=r"x.jsonl line 1: its url is no text"):
        list(in_link_order([tmp_path / "x.jsonl"], tmp_path / "x.jsonl", StepTally("merge"), Silent()))
