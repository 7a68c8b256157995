"""Which links stay: summed karma, block lists, shares, merging; the same bytes in any memory and on any processes."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import Gpt2Error
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent
from gpt2cli.webtext.judge_links import LinkConfig
from gpt2cli.webtext.links import link_records
from gpt2cli.webtext.shards import Share
from gpt2cli.webtext.tally import StepTally

OCTOBER = 1_507_000_000


def post(url: str, **fields: Any) -> dict[str, Any]:
    return {"url": url, "score": 10, "subreddit": "books", "created_utc": OCTOBER, "is_self": False, **fields}


def write(path: Path, posts: list[Any]) -> Path:
    path.write_bytes(b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
                              for line in posts))
    return path


def lines(paths: list[Path], config: LinkConfig | None = None, **options: Any) -> tuple[list[bytes], StepTally]:
    tally = StepTally("links")
    found = list(link_records(paths, config or LinkConfig(), tally, Silent(), **options))
    assert tally.read == tally.kept + sum(tally.dropped.values())
    return found, tally


def links(tmp_path: Path, posts: list[Any], config: LinkConfig | None = None) -> tuple[list[dict[str, Any]], StepTally]:
    found, tally = lines([write(tmp_path / "RS", posts)], config)
    return [json.loads(line) for line in found], tally


def many(count: int) -> list[dict[str, Any]]:
    """Posts of which about half repeat an earlier URL under another spelling."""
    draw = random.Random(1)
    spellings = ("http://{0}/p/{1}", "https://www.{0}/p/{1}/", "http://m.{0}/p/{1}?utm_source=x", "https://{0}:443/p/{1}#top")
    return [post(draw.choice(spellings).format(f"h{number % 97}.org", number), score=draw.randrange(-3, 9))
            for number in (draw.randrange(count // 2) for _ in range(count))]


def test_summed_karma(tmp_path: Path) -> None:
    found, tally = links(tmp_path, [
        post("http://e.com/a", score=1, subreddit="first"), post("http://e.com/low", score=5),
        post("http://www.e.com/a/", score=1, subreddit="second"), post("http://e.com/low", score=-3),
        post("http://e.com/a#x", score=1), post("http://e.com/unknown", score=None), b"http://e.com/low2",
        post("http://e.com/low2", score=-4), post("http://e.com/a", score=None),
    ], LinkConfig(sum_karma=True))
    assert [(link["url"], link["karma"], link["subreddit"]) for link in found] == [
        ("http://e.com/a", 3, "first"), ("http://e.com/low2", -4, None)]
    assert tally.dropped == {"duplicate URL": 5, "karma below 3, summed": 1, "karma unknown": 1}


def test_crossposts(tmp_path: Path) -> None:
    """Fields as the dumps of 2017 and later have them."""
    page = "https://www.reddit.com/r/a/comments/1/x/"
    outside = {"url": "http://e.com/1?a=1&amp;b=2", "is_self": False, "over_18": True}
    found, tally = links(tmp_path, [
        post("/r/a/comments/1/x/", crosspost_parent="t3_1", crosspost_parent_list=[outside]),
        post("http://e.com/2", crosspost_parent="t3_2", crosspost_parent_list=[{"url": "http://e.com/2"}]),
        post(page, crosspost_parent="t3_3", crosspost_parent_list=[{"url": page, "is_self": True}]),
        post("http://e.com/3", crosspost_parent="t3_4", crosspost_parent_list=None),
        post("http://e.com/4", crosspost_parent_list=["t3_5", 7]),
    ])
    assert [link["url"] for link in found] == ["http://e.com/1?a=1&b=2", "http://e.com/2", "http://e.com/3",
                                               "http://e.com/4"]
    assert tally.dropped == {"self post": 1}
    assert links(tmp_path, [post(page, crosspost_parent_list=[outside])], LinkConfig(over_18=False))[1].dropped == {
        "over 18": 1}


@pytest.mark.parametrize(("fields", "config", "reason"), [
    ({"over_18": True}, LinkConfig(over_18=False), "over 18"),
    ({"quarantine": True}, LinkConfig(quarantine=False), "quarantined"),
    ({"promoted": True}, LinkConfig(), "promoted"),
    ({"subreddit": "Pics"}, LinkConfig(blocked_subreddits=frozenset({"pics"})), "blocked subreddit"),
    ({"url": "http://a.B.org/"}, LinkConfig(blocked_hosts=frozenset({"b.org"})), "blocked host"),
    ({"url": "https://github.com/x"}, LinkConfig(host_profile="openwebtext"), "hard to scrape"),
    ({"score": 1 << 40}, LinkConfig(), "malformed line"), ({"created_utc": 1 << 60}, LinkConfig(), "malformed line"),
])
def test_what_each_setting_leaves_out(tmp_path: Path, fields: dict[str, Any], config: LinkConfig, reason: str) -> None:
    posts = [post("http://e.com/kept"), {**post("http://e.com/dropped"), **fields}]
    assert links(tmp_path, posts, config)[1].dropped == {reason: 1}
    if reason not in ("promoted", "malformed line"):
        assert len(links(tmp_path, posts)[0]) == 2
    if reason == "promoted":
        assert len(links(tmp_path, posts, LinkConfig(promoted=True))[0]) == 2


@pytest.mark.parametrize("sum_karma", [False, True])
def test_memory_and_processes_change_no_byte_and_the_result_is_the_plain_one(tmp_path: Path, sum_karma: bool) -> None:
    posts = many(20_000)
    source = [write(tmp_path / "RS", posts)]
    config = LinkConfig(sum_karma=sum_karma)
    whole, tally = lines(source, config)
    for options in ({"memory": 1}, {"jobs": 2}):
        other, again = lines(source, config, **options)
        assert other == whole and again == tally
    sums: Counter[str] = Counter()
    for fields in posts:
        number = fields["url"].split("/p/")[1].split("?")[0].split("#")[0].strip("/")
        if sum_karma:
            sums[number] += fields["score"]
        elif fields["score"] >= 3 and number not in sums:
            sums[number] = fields["score"]
    wanted = {f"h{int(number) % 97}.org/p/{number}": karma for number, karma in sums.items() if karma >= 3}
    assert {link["url_key"]: link["karma"] for link in map(json.loads, whole)} == wanted


def without_position(line: bytes) -> bytes:
    fields = json.loads(line)
    part, number = fields.pop("position")
    assert part == 1 and number > 0
    del fields["schema"]
    return encode_record("gpt2.link", fields)


def test_shares_are_disjoint_and_whole_and_keep_a_host_together(tmp_path: Path) -> None:
    source = [write(tmp_path / "RS", many(4000))]
    whole = lines(source)[0]
    parts = [[without_position(line) for line in lines(source, LinkConfig(share=Share(number, 3)))[0]]
             for number in (1, 2, 3)]
    assert sorted(line for part in parts for line in part) == sorted(whole)
    hosts = [{json.loads(line)["url_key"].split("/")[0] for line in part} for part in parts]
    assert all(hosts) and sum(map(len, hosts)) == len(set.union(*hosts)) == 97
    for part in parts:
        assert part == [line for line in whole if line in set(part)], "in the order of the whole"


@pytest.mark.parametrize("sum_karma", [False, True])
def test_links_of_several_months_merge_to_what_one_run_gives(tmp_path: Path, sum_karma: bool) -> None:
    posts = many(4000)
    months = [write(tmp_path / f"RS{at}", posts[at : at + 1000]) for at in range(0, 4000, 1000)]
    config = LinkConfig(sum_karma=sum_karma)
    by_month = LinkConfig(sum_karma=sum_karma, min_karma=-1000) if sum_karma else config
    end = b'{"schema":"gpt2.end/1","count":0,"sha256":""}\n'
    parts = []
    for month in months:
        parts.append(month.with_suffix(".jsonl"))
        parts[-1].write_bytes(b"".join(lines([month], by_month)[0]) + end)
    assert lines(parts, config)[0] == lines(months, config)[0]


def test_malformed_lines_are_told_with_their_places(tmp_path: Path) -> None:
    path = write(tmp_path / "RS", [post("http://e.com/"), *[b"{broken"] * 8, b'{"schema":"gpt2.page/1"}'])
    reporter = Silent()
    list(link_records([path], LinkConfig(), StepTally("links"), reporter))
    assert len(reporter.warnings) == 6
    assert reporter.warnings[0].startswith(f"{path} line 2: not JSON (")
    assert reporter.warnings[5] == "4 more malformed lines are left out; --rejects FILE tells of each"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    source = write(tmp_path / "RS", many(3000))
    stream = link_records([source], LinkConfig(), StepTally("links"), Silent(), memory=1)
    next(stream)
    assert list((tmp_path / "tmp").iterdir())
    stream.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_memory_does_not_grow_with_the_links(tmp_path: Path) -> None:
    """Of the Python heap, which is where links and rows would pile up."""
    peaks = []
    for count in (3000, 12_000):
        source = write(tmp_path / "RS", [post(f"http://e.com/{number}", title="x" * 800) for number in range(count)])
        tracemalloc.start()
        stream = link_records([source], LinkConfig(), StepTally("links"), Silent(), memory=1)
        assert sum(1 for _ in stream) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.15 * peaks[0], peaks


SIMPLE = st.none() | st.booleans() | st.integers(-10, 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=6)
JUNK = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner))
FIELDS = st.sampled_from(["url", "score", "ups", "downs", "created_utc", "subreddit", "is_self", "domain", "promoted",
                          "over_18", "quarantine", "crosspost_parent_list", "schema", "karma", "url_key"])
URLS = st.sampled_from(["http://e.com/", "https://[::1", "http://a:99999/", "http://\u2100.com/", "http:///x", "http://e.com/%zz?&=;"])
STRANGE = st.dictionaries(FIELDS, JUNK | URLS | st.just("gpt2.link/1"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60) | STRANGE | URLS.map(str.encode), max_size=6), st.booleans())
def test_only_our_errors_escape_hostile_lines(tmp_path_factory: pytest.TempPathFactory, hostile: list[Any],
                                              sum_karma: bool) -> None:
    path = write(tmp_path_factory.mktemp("hostile") / "RS", hostile)
    try:
        found, tally = lines([path], LinkConfig(sum_karma=sum_karma, min_karma=-9))
    except Gpt2Error:
        return
    assert len(found) == tally.kept
    assert all(json.loads(line)["schema"] == "gpt2.link/1" for line in found)
