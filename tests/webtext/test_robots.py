"""What is kept of a robots.txt judges as the whole of it does, and a hostile one costs little."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protego import Protego

from gpt2cli.webtext.robots import AGENT, ALLOW_ALL, RulesCache, parse_rules, relevant_lines

URLS = [f"http://e.com{path}" for path in ("/", "/a", "/a/b?c=d", "/private/x", "/x.pdf")]
LINES = st.lists(st.sampled_from([
    "User-agent: *", "User-agent: gpt2cli", "user-agent : GPT2", "User-Agent: Googlebot", "User-agent:",
    "useragent: x*", "User agent gpt2cli", "Disallow: /", "Disallow: /a", "Allow: /a/b", "Disallow:",
    "disallow /private", "Disallow: *.pdf$", "Crawl-delay: 7", "Sitemap: http://e.com/map", "Host: e.com", "# comment",
    "", "Disallow: /a # why", "Noindex: /a",
    "<html>", "no rule at all", "\ufeffDisallow: /a"]), max_size=25)


@settings(max_examples=400, deadline=None)
@given(LINES)
def test_the_lines_kept_judge_as_all_do(lines: list[str]) -> None:
    text = "\n".join(lines)
    whole, kept = Protego.parse(text), parse_rules(relevant_lines(text.encode()))
    assert [kept.refuses(url) is None for url in URLS] == [whole.can_fetch(url, AGENT) for url in URLS]
    assert kept.delay_s == whole.crawl_delay(AGENT)


@pytest.mark.parametrize("body", [
    b"\n".join(b"User-agent: a%d" % n for n in range(15_000)) + b"\nUser-agent: *\n"
    + b"\n".join(b"Disallow: /%d" % n for n in range(15_000)),
    b"User-agent: *\nDisallow: /" + b"*a" * 250_000,
    b"User-agent: *\n" + b"\n".join(b"Disallow: *%d*x" % n for n in range(25_000)),
    bytes(range(256)) * 2000, b"User-agent: *\n" * 36_000 + b"Disallow: /\n",
], ids=["agents times rules", "one long rule", "rules", "noise", "one agent often"])
def test_hostile_files_cost_little(body: bytes) -> None:
    began = time.process_time()
    parse_rules(relevant_lines(body)).refuses("http://e.com/" + "ab" * 1000)
    assert time.process_time() - began < 20  # the product of agents and rules would be minutes


def test_the_cache_forgets_the_oldest_and_what_is_too_old() -> None:
    cache = RulesCache(100_000)
    for number in range(10):
        cache.put(f"http://{number}", ALLOW_ALL, 500, 1000.0)
        assert cache.get("http://0", 0.0) is not None or number > 3
    assert cache.get("http://1", 0.0) is None and cache.get("http://9", 0.0) is ALLOW_ALL
    assert cache.get("http://9", 1001.0) is None
