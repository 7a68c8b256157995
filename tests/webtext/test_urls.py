from __future__ import annotations

from pathlib import Path

import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.webtext.hosts import PROFILES, exclusion, host_profile, read_names
from gpt2cli.webtext.urls import UrlFault, clean_url, host_of_key, url_key

SAME_PAGE = [
    "http://example.com/a/b",
    "https://example.com/a/b/",
    "http://www.example.com/a/b#part",
    "https://m.example.com:443/a/b",
    "http://amp.example.com:80/a/b?utm_source=reddit&utm_medium=x",
    "HTTP://EXAMPLE.COM/a/b?fbclid=1",
    "http://example.com/a/%62",
]


def test_variants_of_one_page_share_a_key() -> None:
    assert {url_key(clean_url(url)) for url in SAME_PAGE} == {"example.com/a/b"}


@pytest.mark.parametrize(("one", "other"), [
    ("http://example.com/A", "http://example.com/a"),
    ("http://example.com/?p=1", "http://example.com/?p=2"),
    ("http://example.com/#!one", "http://example.com/#!two"),
    ("http://example.com/a%2Fb", "http://example.com/a/b"),
    ("http://example.com:8080/", "http://example.com/"),
    ("http://m.com/", "http://com.com/"),
    ("http://news.example.com/", "http://example.com/"),
    ("http://example.com/?q=a%26b", "http://example.com/?q=a&b"),
])
def test_different_pages_keep_different_keys(one: str, other: str) -> None:
    assert url_key(clean_url(one)) != url_key(clean_url(other))


def test_query_order_does_not_matter_for_the_key() -> None:
    assert url_key("http://e.com/?b=2&a=1") == url_key("http://e.com/?a=1&b=2")


def test_the_fetched_url_is_left_alone() -> None:
    url = "http://www.example.com/a/?utm_source=x&b=2&a=%7E1"
    assert clean_url(url) == url
    assert clean_url("http://Example.com/Case?Q=1#frag") == "http://example.com/Case?Q=1"
    assert clean_url("http://example.com") == "http://example.com/"
    assert clean_url("http://bücher.example/ä") == "http://xn--bcher-kva.example/ä"


@pytest.mark.parametrize(("url", "reason"), [
    ("ftp://example.com/", "not an http"), ("javascript:alert(1)", "not an http"), ("/r/Python/", "not an http"),
    ("http://user:secret@example.com/", "credentials"), ("http:///path", "host"), ("http://a b.com/", "white space"),
    ("http://example.com/\x00", "control"), ("http://[::1/", "malformed"), ("http://example.com:99999/", "malformed"),
    ("http://example..com/", "host"), ("http://exa mple.com", "white space"),
    ("http://e.com/" + "x" * 3000, "too long"),
    ("http://<script>/", "host"),
])
def test_what_is_not_fetched(url: str, reason: str) -> None:
    with pytest.raises(UrlFault, match=reason):
        clean_url(url)


@pytest.mark.parametrize("host", [
    "google.com", "sites.google.com", "github.com", "ebay.com", "apple.com", "archive.org", "web.archive.org",
    "x.blogspot.com", "pastebin.com", "notreddit.com", "mywikipedia.org",
])
def test_what_openai_kept_is_never_blocked(host: str) -> None:
    assert exclusion(host, "webtext") is None


@pytest.mark.parametrize(("host", "reason"), [
    ("en.wikipedia.org", "wikipedia"), ("en.m.wikipedia.org", "wikipedia"), ("wikipedia.org.", "wikipedia"),
    ("www.reddit.com", "reddit"), ("i.redd.it", "reddit"), ("v.redd.it", "reddit"), ("i.imgur.com", "media host"),
    ("youtu.be", "media host"), ("m.youtube.com", "media host"), ("pbs.twimg.com", "media host"),
])
def test_what_is_blocked(host: str, reason: str) -> None:
    assert exclusion(host, "webtext") == reason


def test_without_a_profile_wikipedia_and_reddit_stay_out() -> None:
    assert exclusion("imgur.com", "none") is None
    assert exclusion("en.wikipedia.org", "none") == "wikipedia"
    assert exclusion("redd.it", "none") == "reddit"


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_knows_wikipedia_reddit_and_media_files(name: str) -> None:
    profile = host_profile(name)
    assert exclusion("en.wikipedia.org", name) == "wikipedia" and exclusion("www.reddit.com", name) == "reddit"
    assert profile.no_page("/a/b.JPG") == "media file" and profile.no_page("/v.gifv") == "media file"
    assert profile.no_page("/a.jpg/page") is None and profile.no_page("/jpg") is None
    assert profile.no_page("/a.html") is None and profile.no_page("/a.") is None
    assert all(domain == domain.lower() and "." in domain for domain in profile.domains)


def test_openwebtexts_list_drops_what_openai_kept() -> None:
    assert exclusion("github.com", "openwebtext") == exclusion("docs.google.com", "openwebtext") == "hard to scrape"
    assert exclusion("itunes.apple.com", "openwebtext") and not exclusion("apple.com", "openwebtext")


def test_no_host_of_the_webtext_profile_is_among_webtexts_published_domains() -> None:
    """Its name before the top-level domain; "Twitch" there is a host in capitals that OpenAI's own list let through."""
    text = (Path(__file__).parent / "webtext_domains.txt").read_text()
    published = {name for line in text.splitlines() if not line.startswith("#") for name in line.split()}
    assert len(published) == 999 and {"google", "github", "ebay", "pastebin", "apple", "Twitch"} <= published
    blocked = {domain.rsplit(".", 1)[0].rsplit(".", 1)[-1] for domain in host_profile("webtext").domains}
    assert blocked & published == set()
    assert {"google", "github"} <= {domain.split(".")[0] for domain in host_profile("openwebtext").domains} & published


@pytest.mark.parametrize(("key", "host"), [
    ("e.com/a", "e.com"), ("e.com", "e.com"), ("e.com:8080/a:b", "e.com"), ("e.com?x=http://y/", "e.com"),
    ("[2001:db8::1]:8080/a", "[2001:db8::1]"), ("e.com#!x/y", "e.com"),
])
def test_the_host_of_a_key(key: str, host: str) -> None:
    assert host_of_key(key) == host


def test_name_lists(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("# blocked\nr/The_Donald\n/r/Pics/ # pictures\n\nfunny\r\n")
    assert read_names(tmp_path / "names", "r/") == {"the_donald", "pics", "funny"}
    for bad, says in ((b"two words\n", "line 1 is more than one name"), (b"ok\n\xff\n", "line 2 is not UTF-8")):
        (tmp_path / "bad").write_bytes(bad)
        with pytest.raises(BadInput, match=says):
            read_names(tmp_path / "bad")
    with pytest.raises(UsageFault, match="there is no host profile 'redd'"):
        host_profile("redd")
