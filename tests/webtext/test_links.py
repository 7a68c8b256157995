from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from gpt2cli.errors import BadInput
from gpt2cli.reporter import Silent
from gpt2cli.webtext.judge_links import Link, LinkConfig, link_of
from gpt2cli.webtext.links import link_records
from gpt2cli.webtext.tally import StepTally

OCTOBER = 1_507_000_000


def post(url: str, **fields: Any) -> dict[str, Any]:
    return {"url": url, "score": 10, "subreddit": "books", "created_utc": OCTOBER, "is_self": False, **fields}


def select(tmp_path: Path, lines: list[Any], config: LinkConfig | None = None) -> tuple[list[Link], StepTally]:
    data = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    path = tmp_path / "RS"
    path.write_bytes(data)
    tally = StepTally("links")
    links = [link_of(json.loads(line)) for line in link_records([path], config or LinkConfig(), tally, Silent())]
    assert tally.read == tally.kept + sum(tally.dropped.values())
    assert tally.kept == len(links)
    return links, tally


def test_every_years_schema_is_read(tmp_path: Path) -> None:
    links, tally = select(tmp_path, [
        post("http://e.com/2011", created_utc=str(OCTOBER)),
        post("http://e.com/2013?a=1&amp;b=2", score=None, ups=9, downs=2),
        post("http://e.com/2015", created_utc=f"{OCTOBER}.0", edited=1.5, subreddit_id="t5_1"),
        post("http://e.com/2017", crosspost_parent="t3_x", created_utc=float(OCTOBER)),
        {"url": "http://e.com/bare", "score": "12", "created_utc": OCTOBER},
    ])
    assert [link.url for link in links] == ["http://e.com/2011", "http://e.com/2013?a=1&b=2", "http://e.com/2015",
                                            "http://e.com/2017", "http://e.com/bare"]
    assert [link.karma for link in links] == [10, 7, 10, 10, 12]
    assert all(link.created_utc == OCTOBER for link in links)
    assert links[-1].subreddit is None
    assert tally.dropped == {}


@pytest.mark.parametrize(("fields", "reason"), [
    ({"score": 2}, "karma below 3"), ({"score": None}, "karma unknown"), ({"is_self": True}, "self post"),
    ({"domain": "self.books"}, "self post"), ({"promoted": True, "subreddit": None}, "promoted"),
    ({"created_utc": 1_514_764_800}, "too new"), ({"created_utc": None}, "date unknown"),
    ({"url": "https://www.reddit.com/r/a/comments/1/x/"}, "reddit"),
    ({"url": "http://en.wikipedia.org/wiki/X"}, "wikipedia"),
    ({"url": "http://youtu.be/x"}, "media host"), ({"url": "http://e.com/cat.gif"}, "media file"),
    ({"url": "/r/relative"}, "not an http(s) URL"), ({"url": None}, "malformed line"),
    ({"score": "many"}, "malformed line"),
    ({"created_utc": "yesterday"}, "malformed line"), ({"url": "http://e.com/\ud800"}, "malformed line"),
])
def test_filters(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    links, tally = select(tmp_path, [post("http://e.com/kept"), {**post("http://e.com/dropped"), **fields}])
    assert [link.url for link in links] == ["http://e.com/kept"]
    assert tally.dropped == {reason: 1}


def test_the_last_second_of_2017_is_in(tmp_path: Path) -> None:
    assert len(select(tmp_path, [post("http://e.com/", created_utc=1_514_764_799)])[0]) == 1


def test_options_move_the_limits(tmp_path: Path) -> None:
    lines = [post("http://e.com/1", score=1), post("http://e.com/2", created_utc=1_600_000_000), post("http://vimeo.com/3")]
    assert len(select(tmp_path, lines, LinkConfig(min_karma=1, before=1_700_000_000, host_profile="none"))[0]) == 3


def test_malformed_lines_are_counted_and_the_rest_is_kept(tmp_path: Path) -> None:
    links, tally = select(tmp_path, [b"\xff\xfe{", b"[1]", b"not json", b'{"url":', b"{" * 5000, b"", post("http://e.com/"),
                                     b'{"url":"http://e.com/x","score":NaN}'])
    assert [link.url for link in links] == ["http://e.com/"]
    assert tally.dropped == {"malformed line": 6}


def test_a_file_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none of the 2 lines"):
        select(tmp_path, [b"column a,column b", b"1,2"])


def test_lines_end_at_newline_only(tmp_path: Path) -> None:
    line = json.dumps(post("http://e.com/", title="a\u2028b\u0085c"), ensure_ascii=False).encode()
    assert len(select(tmp_path, [line, b"http://e.com/plain\r"])[0]) == 2


def test_plain_urls_are_kept_without_karma(tmp_path: Path) -> None:
    links, _ = select(tmp_path, [b"http://e.com/a", b"  HTTPS://E.com/b?x=1&amp;y=2  "])
    assert links[0] == Link("http://e.com/a", "e.com/a", None, None, None)
    assert links[1].url == "https://e.com/b?x=1&amp;y=2"  # only Reddit escapes


def test_the_first_of_a_key_wins(tmp_path: Path) -> None:
    links, tally = select(tmp_path, [post("http://e.com/a", score=1), post("http://www.e.com/a", score=5),
                                     post("http://e.com/a/", score=50)])
    assert [(link.url, link.karma) for link in links] == [("http://www.e.com/a", 5)]
    assert tally.dropped == {"karma below 3": 1, "duplicate URL": 1}


def test_a_dump_with_reddits_two_gibibyte_window(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, write_content_size=False)
    path = tmp_path / "RS_2017-10.zst"
    line = json.dumps(post("http://e.com/a")).encode() + b"\n"
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path.write_bytes(compressor.compress(line) + compressor.flush())
    assert zstandard.get_frame_parameters(path.read_bytes()).window_size == 2**31
    assert len(list(link_records([path], LinkConfig(), StepTally("links"), Silent()))) == 1


@pytest.mark.parametrize("lost", [1, 50, 2000])
def test_a_truncated_dump_is_an_error(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "RS.zst"
    posts = (post(f"http://e.com/{number * 7919 % 10007}") for number in range(3000))
    lines = b"".join(json.dumps(fields).encode() + b"\n" for fields in posts)
    path.write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(lines)[:-lost])
    with pytest.raises(BadInput, match="cut short"):
        list(link_records([path], LinkConfig(), StepTally("links"), Silent()))


@pytest.mark.parametrize(("name", "value"), [
    ("url_key", "\ud800"), ("karma", [1]), ("subreddit", "a\udfff"), ("created_utc", {"a": "\ud800"}),
])
def test_links_to_fetch_carry_numbers_and_text(name: str, value: Any) -> None:
    link = {"url": "http://a.org/", "url_key": "a.org/", "karma": 1, "subreddit": None, "created_utc": "15"}
    assert link_of(link).url == "http://a.org/"
    with pytest.raises(BadInput, match=f"whose {name} is neither a number nor text"):
        link_of(link | {name: value})
