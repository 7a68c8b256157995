"""The whole crawl: finished tasks are kept, other options redo what they change, and no division changes a byte."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from in_process import gpt2_here
from webtext.local_site import Site, serving

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.records.streams import open_output
from gpt2cli.reporter import Silent
from gpt2cli.webtext.address_guard import AddressGuard, parse_network
from gpt2cli.webtext.dedup import DedupConfig
from gpt2cli.webtext.dedup_profiles import DEDUP_PROFILES
from gpt2cli.webtext.engines import Engine, LocalEngine
from gpt2cli.webtext.extract import ExtractConfig
from gpt2cli.webtext.fetch_config import FetchConfig
from gpt2cli.webtext.judge_links import LinkConfig
from gpt2cli.webtext.rule_set import rule_set
from gpt2cli.webtext.whole_crawl import CrawlConfig, scrape

__all__ = ["gpt2_here"]
LOCAL = AddressGuard(allow=(parse_network("127.0.0.0/8"), parse_network("::1/128")))


def dumps(directory: Path, site: Site, pages: int) -> list[str]:
    """Two dumps whose pages are on two host names; some repeat, some are gone, some lines are no posts."""
    paths = []
    hosts = ("127.0.0.1", "localhost")
    for month in (1, 2):
        lines = [{"url": site.url(f"/page-{number * month}", hosts[number % 2]), "score": number % 5 + 1,
                  "subreddit": "books", "created_utc": 1_507_000_000 + 1000 * month - number}
                 for number in range(pages)]
        lines.append({"url": site.url("/missing", hosts[month - 1]), "score": 9, "created_utc": "1507000000"})
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b"broken\n"
        paths.append(str(directory / f"RS{month}"))
        Path(paths[-1]).write_bytes(data)
    return paths


def crawl(work: Path, **changes: Any) -> CrawlConfig:
    config = CrawlConfig(work, LinkConfig(), FetchConfig(work, host_gap_s=0.0, timeout_s=10.0, guard=LOCAL),
                         ExtractConfig(work), rule_set(["webtext"]), DedupConfig(DEDUP_PROFILES["fineweb"]))
    return replace(config, **changes)


def run(paths: list[str], config: CrawlConfig, engine: Engine | None = None) -> tuple[bytes, Counter[bytes], Silent]:
    """Return the documents, the rejects as lines, and what was said."""
    out, dropped, reporter = BytesIO(), BytesIO(), Silent()
    scrape(paths, RecordWriter(out), RecordWriter(dropped), config, engine or LocalEngine(1), reporter)
    return out.getvalue(), Counter(dropped.getvalue().splitlines()), reporter


class Ranges(LocalEngine):
    """Looks for duplicates in three ranges of band keys, as a cluster does."""

    shares = 3


def test_shares_jobs_parts_and_ranges_change_no_byte(tmp_path: Path) -> None:
    with serving() as site:
        paths = dumps(tmp_path, site, 20)
        documents, rejects, said = run(paths, crawl(tmp_path / "one"))
        assert 5 < documents.count(b"\n") < 24 and rejects
        for number, engine, changes in ((0, LocalEngine(2), {"part": 12}), (1, Ranges(1), {"shares": 4, "part": 8})):
            other, others_rejects, others_said = run(paths, crawl(tmp_path / str(number), **changes), engine)
            assert other == documents
            assert others_rejects == rejects
            assert said.notes[:4] == others_said.notes[:4] and said.notes[-1] == others_said.notes[-1]
    assert [note.split(":")[0] for note in said.notes] == ["links", "fetch", "extract", "filter", "dedup", "dedup"]
    steps = {path.name for path in (tmp_path / "1" / "steps").iterdir()}
    assert {"pages-1-of-4.done.json", "pages-3-of-4-00001.jsonl.zst", "filtered-4-of-4-00001.done.json"} <= steps
    assert not any(name.startswith(("signatures", "matches", "duplicates", "survivors")) for name in steps)


def finished(work: Path) -> dict[str, int]:
    """Return the time of change of every task that is done, and finished for good."""
    return {path.name: path.stat().st_mtime_ns for path in (work / "steps").glob("*.done.json")}


def test_other_options_redo_only_what_they_change(tmp_path: Path) -> None:
    with serving() as site:
        paths = dumps(tmp_path, site, 6)
        base = crawl(tmp_path / "work")
        run(paths, base)
        requests, first = len(site.log), finished(base.work)
        stricter = replace(base, rules=rule_set(["webtext"], changes=["min-tokens.minimum=1000000"]))
        assert run(paths, stricter)[0] == b""
        second = finished(base.work)
        assert {name for name in first if first[name] != second[name]} == {"filtered-1-of-1-00000.done.json"}
        longer = replace(base, extract=replace(base.extract, min_chars=1_000_000))
        assert "extract: read 5, kept 0, dropped 5 (5 text under 1000000 characters)" in run(paths, longer)[2].notes
        third = finished(base.work)
        assert {name for name in second if second[name] != third[name]} == {
            "extracted-1-of-1-00000.done.json", "filtered-1-of-1-00000.done.json"}
        assert len(site.log) == requests
        Path(paths[0]).write_text(Path(paths[0]).read_text() + "\n")  # another file, but the same links
        run(paths, longer)
        assert {name for name in third if third[name] != finished(base.work)[name]} == {
            "links-00001.done.json", "links.done.json"}
        run(paths, replace(longer, links=replace(longer.links, min_karma=4)))
        assert len(site.log) == requests, "fewer links, all of which are known"


@pytest.mark.parametrize("damage", ["lost", "short", "nonsense"])
def test_what_was_damaged_since_is_done_again(tmp_path: Path, damage: str) -> None:
    with serving() as site:
        paths = dumps(tmp_path, site, 6)
        config = crawl(tmp_path / "work")
        before = run(paths, config)
        target = config.work / "steps" / "filtered-1-of-1-00000.jsonl.zst"
        if damage == "lost":
            target.unlink()
        elif damage == "short":
            target.write_bytes(target.read_bytes()[:-1])
        else:
            (config.work / "steps" / "filtered-1-of-1-00000.done.json").write_text('{"outputs": [{"name": "../x"}]}')
        assert run(paths, config)[:2] == before[:2]


def test_the_work_directory_has_one_crawl_at_a_time_and_one_number_of_shares(tmp_path: Path) -> None:
    with serving() as site:
        paths = dumps(tmp_path, site, 3)
        config = crawl(tmp_path / "work", shares=2)
        seen: list[str] = []

        class Second(Silent):
            def stopping(self) -> bool:
                if not seen:
                    with pytest.raises(UsageFault) as raised:
                        run(paths, config)
                    seen.append(str(raised.value))
                return False

        scrape(paths, RecordWriter(BytesIO()), None, config, LocalEngine(1), Second())
        assert "in use by another webtext-scrape" in seen[0]
        with pytest.raises(UsageFault, match="was begun with --shards 2"):
            run(paths, replace(config, shares=1))


def test_rejects_can_be_asked_for_later(tmp_path: Path) -> None:
    with serving() as site:
        paths = dumps(tmp_path, site, 6)
        config = crawl(tmp_path / "work")
        scrape(paths, RecordWriter(BytesIO()), None, config, LocalEngine(1), Silent())
        before, requests = finished(config.work), len(site.log)
        _, rejects, _ = run(paths, config)
        assert Counter(json.loads(line)["step"] for line in rejects.elements())["links"] > 2
        assert len(site.log) == requests
        after = finished(config.work)
        assert {name for name in before if before[name] != after[name]} == {
            "links-00001.done.json", "links-00002.done.json", "links.done.json"}


def test_standard_input_is_read_again_and_the_rest_kept(gpt2_here: Callable[..., Any], tmp_path: Path) -> None:
    with serving() as site:
        urls = "".join(site.url(f"/page-{number}") + "\n" for number in range(4)).encode()
        command = ("webtext-scrape", "--work", tmp_path / "w", "--allow-net", "127.0.0.0/8", "--host-gap", 0, "-j", 1)
        first = gpt2_here(*command, input=urls, check=True)
        requests, before = len(site.log), finished(tmp_path / "w")
        assert gpt2_here(*command, input=urls, check=True).stdout == first.stdout
        after = finished(tmp_path / "w")
        assert {name for name in before if before[name] != after[name]} == {"links-00001.done.json"}
        more = gpt2_here(*command, input=urls + site.url("/more").encode(), check=True)
        assert b"fetch: read 5, kept 5" in more.stderr
        assert len(site.log) == requests + 1


def in_child(work: Callable[[], None]) -> int:
    """Do `work` in a child of this process and return its id."""
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def to_file(paths: list[str], out: Path, config: CrawlConfig) -> None:
    with open_output(out) as kept, open_output(out.with_suffix(".rejects")) as dropped:
        scrape(paths, RecordWriter(kept), RecordWriter(dropped), config, LocalEngine(1), Silent())


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    with serving(delay_s=0.02) as site:
        paths = dumps(tmp_path, site, 30)
        began = time.monotonic()
        to_file(paths, tmp_path / "calm", crawl(tmp_path / "calm-work", shares=2, part=10))
        calm_s = time.monotonic() - began
        requests_when_calm = site.hits()
        site.log.clear()
        config = crawl(tmp_path / "torn-work", shares=2, part=10)
        draw, kills, done = random.Random(6), 0, {}
        while kills < 20:
            child = in_child(lambda: to_file(paths, tmp_path / "torn", config))
            time.sleep(draw.uniform(0.05, 0.35) * calm_s)
            os.kill(child, signal.SIGKILL)
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            kills += killed
            calm_s *= 1 if killed else 0.7  # the machine was busier when it was measured
            if not killed:  # it came to its end: once more from the beginning, with what it fetched
                assert (tmp_path / "torn").read_bytes() == (tmp_path / "calm").read_bytes()
                (tmp_path / "torn").unlink()
                (tmp_path / "torn.rejects").unlink()
                for path in (config.work / "steps").glob("*.done.json"):
                    path.unlink()
                done = {}
            assert not (tmp_path / "torn").exists()
            now = finished(config.work)
            assert {name: now.get(name) for name in done} == done, "what is finished is not done again"
            done = now
        to_file(paths, tmp_path / "torn", config)
        assert (tmp_path / "torn").read_bytes() == (tmp_path / "calm").read_bytes()
        assert (tmp_path / "torn.rejects").read_bytes() == (tmp_path / "calm.rejects").read_bytes()
        pages = {path: count for path, count in site.hits().items() if path != "/robots.txt"}
        assert set(pages) == set(requests_when_calm) - {"/robots.txt"}
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"RS1", "RS2", "calm", "calm.rejects", "calm-work", "torn", "torn.rejects", "torn-work"}
    assert {path.name for path in (config.work / "steps").iterdir()} == {
        path.name for path in (tmp_path / "calm-work" / "steps").iterdir()}


@pytest.mark.slow
def test_on_a_ray_cluster_of_two_workers(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'gpt2cli[ray]'")
    from gpt2cli.webtext.ray_engine import RayEngine

    with serving() as site:
        paths = dumps(tmp_path, site, 20)
        documents, rejects, _ = run(paths, crawl(tmp_path / "local"))
        with RayEngine(None, 2) as engine:
            assert engine.shares == 2
            config = crawl(tmp_path / "ray", shares=2, part=5)
            assert run(paths, config, engine)[:2] == (documents, rejects)
            requests = len(site.log)
            again = run(paths, config, engine)
            assert again[:2] == (documents, rejects) and len(site.log) == requests
            with pytest.raises(UsageFault, match="there is no"):
                run([*paths, str(tmp_path / "absent")], config, engine)
            Path(paths[0]).write_text("a,b\n1,2\n")
            with pytest.raises(BadInput, match="none of the 2 lines"):
                run(paths, config, engine)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere:port"])
def test_where_no_cluster_is(gpt2_here: Callable[..., Any], tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'gpt2cli[ray]'")
    (tmp_path / "links").write_text("http://e.com/\n")
    command = ("webtext-scrape", tmp_path / "links", "--work", tmp_path / "w", "--ray-address", address)
    refused = gpt2_here(*command, "--engine", "ray")
    assert refused.returncode == 2 and f"no Ray cluster at {address}".encode() in refused.stderr
    assert gpt2_here(*command).returncode == 2, "without --engine ray"
    assert not (tmp_path / "w").exists()


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpt2cli.webtext.ray_engine import RayEngine

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageFault, match=r"gpt2cli\[ray\]"):
        RayEngine(None, 1)
