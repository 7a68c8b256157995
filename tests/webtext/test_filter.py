"""The filter over streams: order, counts, rejects, foreign records, processes, shares, and what is refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import gpt2_here  # noqa: F401
from webtext.test_filter_rules import GERMAN, PROSE

from gpt2cli.errors import Gpt2Error, UsageFault
from gpt2cli.reporter import Silent
from gpt2cli.webtext.filter_documents import filtered_lines
from gpt2cli.webtext.rule_set import rule_set
from gpt2cli.webtext.tally import StepTally

Gpt2 = Callable[..., subprocess.CompletedProcess[bytes]]
SMALL = ("--set", "min-tokens.minimum=20")


def document(text: str, **fields: Any) -> dict[str, Any]:
    return {"schema": "gpt2.document/1", "id": hashlib.sha256(text.encode()).hexdigest(), "text": text, **fields}


def jsonl(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def many(count: int) -> list[dict[str, Any]]:
    texts = [f"{number} {PROSE}" if number % 3 else GERMAN if number % 2 else "short" for number in range(count)]
    return [document(text, url=f"http://e.com/{number}", karma=number) for number, text in enumerate(texts)]


def kept(result: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found.pop()["schema"] == "gpt2.end/1"
    return found


def test_order_counts_and_rejects_with_what_was_measured(gpt2_here: Gpt2, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "docs.jsonl").write_bytes(jsonl(many(9)))
    result = gpt2_here("webtext-scrape", "filter", tmp_path / "docs.jsonl", *SMALL, "--rejects", tmp_path / "r.jsonl",
                       check=True)
    assert [record["karma"] for record in kept(result)] == [1, 2, 4, 5, 7, 8]
    assert kept(result)[0] == document(f"1 {PROSE}", url="http://e.com/1", karma=1, language="en")
    assert "filter: read 9, kept 6, dropped 3 (2 min-tokens, 1 language)" in result.stderr.decode()
    rejects = [json.loads(line) for line in (tmp_path / "r.jsonl").read_bytes().splitlines()]
    assert rejects[0] == {"schema": "gpt2.reject/1", "what": "http://e.com/0", "reason": "min-tokens",
                          "step": "filter", "value": 1, "minimum": 20}
    assert rejects[1] == {"schema": "gpt2.reject/1", "what": "http://e.com/3", "reason": "language",
                          "step": "filter", "value": 0, "minimum": 50}


def test_processes_change_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(jsonl(many(5000))))
    rules = rule_set(["webtext", "gopher-quality", "c4"], changes=["min-tokens.minimum=20"])
    results = []
    for jobs in (1, 2, 3):
        tally = StepTally("filter")
        lines = list(filtered_lines([path], rules, tally, Silent(), jobs))
        results.append((lines, tally.read, tally.dropped))
    assert results[0] == results[1] == results[2]
    assert results[0][1] == 5000 and len(results[0][2]) > 1


def test_shares_of_files_in_order_are_the_whole(gpt2_here: Gpt2, tmp_path: Path) -> None:  # noqa: F811
    files = []
    for part in range(5):
        files.append(tmp_path / f"{part}.jsonl")
        files[-1].write_bytes(jsonl(many(20)[part * 4 : part * 4 + 4]))
    parts = []
    for share in (1, 2, 3):
        gpt2_here("webtext-scrape", "filter", *files, *SMALL, "--shard", f"{share}/3", "-o", tmp_path / f"s{share}",
                  check=True)
        parts.append((tmp_path / f"s{share}").read_bytes())
    gpt2_here("webtext-scrape", "filter", *files, *SMALL, "-o", tmp_path / "whole", check=True)
    assert b"".join(parts) == (tmp_path / "whole").read_bytes() and all(parts)


def test_foreign_records_and_passed_over_ones(gpt2_here: Gpt2) -> None:  # noqa: F811
    lines = jsonl([{"text": PROSE, "id": "urn:7", "meta": {"a": [1]}}, {"title": "no text"}, {"text": None},
                   {"schema": "gpt2.link/1", "url": "x"}, {"text": "a \ud800", "url": "http://e.com/"}])
    result = gpt2_here("webtext-scrape", "filter", *SMALL, input=b"\n" + lines, check=True)
    assert kept(result) == [document(PROSE, meta={"a": [1]}, language="en")]
    said = result.stderr.decode()
    assert "skipped 1 gpt2.link records, 2 records without text" in said
    assert "read 2, kept 1, dropped 1 (1 lone surrogate)" in said


def test_a_changed_text_has_a_new_id_and_the_lines_are_counted(gpt2_here: Gpt2) -> None:  # noqa: F811
    data = jsonl([document(f"Menu\n{PROSE}")])
    result = gpt2_here("webtext-scrape", "filter", "--rules", "c4", input=data, check=True)
    assert kept(result) == [document(PROSE)]
    assert "c4-terminal-punctuation: 1 lines of texts changed or taken out" in result.stderr.decode()


def test_an_end_record_is_watched(gpt2_here: Gpt2) -> None:  # noqa: F811
    data = gpt2_here("webtext-scrape", "filter", "--rules", "none", input=jsonl(many(5)), check=True).stdout
    again = gpt2_here("webtext-scrape", "filter", "--rules", "none", input=data, check=True)
    assert again.stdout == data and b"warning" not in again.stderr
    lines = b"".join(data.splitlines(True)[:-1])
    cut = gpt2_here("webtext-scrape", "filter", "--rules", "none", input=lines, check=True)
    assert b"has no end record" in cut.stderr


def test_thresholds_from_a_file_and_one_by_one(gpt2_here: Gpt2, tmp_path: Path) -> None:  # noqa: F811
    shown = gpt2_here("webtext-scrape", "filter", "--show-rules", check=True).stdout
    (tmp_path / "all.toml").write_bytes(shown)
    (tmp_path / "some.toml").write_text("[min-tokens]\nminimum = 1\n")
    counts = []
    for options in (("--thresholds", tmp_path / "all.toml"), ("--thresholds", tmp_path / "some.toml"),
                    ("--thresholds", tmp_path / "some.toml", "--set", "min-tokens.minimum=20"),
                    ("--rules", "webtext,-language,-min-tokens"), ("--rules", "webtext,-webtext")):
        counts.append(len(kept(gpt2_here("webtext-scrape", "filter", *options, input=jsonl(many(12)), check=True))))
    assert counts == [0, 8, 8, 12, 12]
    text = jsonl([{"text": "The boats came home in the evening. " * 200}])
    for least, number in ((64.5, 1), ("1e2", 1), (1600.5, 1), (1601.5, 0)):
        done = gpt2_here("webtext-scrape", "filter", "--set", f"min-tokens.minimum={least}", input=text, check=True)
        assert len(kept(done)) == number, least


@pytest.mark.parametrize(("arguments", "status", "says"), [
    (("--rules", "gofer"), 2, "there is no rule 'gofer'"), (("--rules", "c4-bad-words"), 2, "--bad-words"),
    (("--set", "min-tokens"), 2, "write RULE.KEY=VALUE"), (("--set", "min-tokens.minimum=x"), 2, "--set"),
    (("--set", "min-tokens.least=1"), 2, "no such threshold"), (("--set", "nothing.minimum=1"), 2, "no rule 'nothing'"),
    (("--set", "min-tokens.minimum=-1"), 2, "a number, 0 or more"), (("--set", "language.languages=[]"), 2, "a list"),
    (("--set", "c4-citations.pattern='['"), 2, "a regular expression"),
    (("--thresholds", "absent.toml"), 2, "there is no absent.toml"),
    (("--shard", "2/3"), 2, "standard input"), (("--shard", "0/3"), 2, "no share"), (("--show-rules", "x"), 2, "leave"),
])
def test_what_is_refused(gpt2_here: Gpt2, arguments: tuple[str, ...], status: int, says: str) -> None:  # noqa: F811
    result = gpt2_here("webtext-scrape", "filter", *arguments, input=b"{}\n")
    assert (result.returncode, says in result.stderr.decode()) == (status, True), result.stderr.decode()


@pytest.mark.parametrize("table", ["[{long}]\n", "[min-tokens]\n{long} = 1\n"])
def test_a_name_of_a_page_is_not_repeated_whole(gpt2_here: Gpt2, tmp_path: Path, table: str) -> None:  # noqa: F811
    (tmp_path / "rules.toml").write_text(table.format(long="9" * 5000))
    result = gpt2_here("webtext-scrape", "filter", "--thresholds", tmp_path / "rules.toml", input=b"{}\n")
    assert result.returncode == 2 and b"rules.toml" in result.stderr and len(result.stderr) < 1000, result.stderr


@pytest.mark.parametrize(("data", "says"), [
    (b"{}\nnot json\n", "standard input line 2: not JSON"), (b"[1]\n", "a JSON object was expected"),
    (b'{"schema":"gpt2.document/9","text":"x"}\n', "newer gpt2"), (b'{"schema":"gpt2.document/1"}\n', "without text"),
    (zstandard.ZstdCompressor().compress(b'{"text":"a"}\n' * 99)[:-3], "cut short"),
])
def test_bad_input_is_65_and_says_where(gpt2_here: Gpt2, data: bytes, says: str) -> None:  # noqa: F811
    result = gpt2_here("webtext-scrape", "filter", input=data)
    assert (result.returncode, says in result.stderr.decode()) == (65, True), result.stderr.decode()


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3))
TEXTS = st.text(max_size=300) | st.text(st.sampled_from("the a.#…-\n\x00\ud800\ufffe{"), max_size=300)
RECORDS = st.dictionaries(st.sampled_from(["text", "url", "id", "schema", "language"]),
                          JSON | TEXTS | st.sampled_from(["gpt2.document/1", "http://[::1/", "http://e.com"]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=30) | RECORDS, max_size=4), st.sampled_from(["webtext", "gopher", "c4", "none"]))
def test_only_our_errors_escape_hostile_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[Any], group: str
                                              ) -> None:
    path = tmp_path_factory.mktemp("hostile") / "docs.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    tally = StepTally("filter")
    try:
        found = list(filtered_lines([path], rule_set([group]), tally, Silent()))
    except Gpt2Error:
        return
    assert len(found) == tally.kept == tally.read - sum(tally.dropped.values())
    assert all({"id", "text"} <= set(json.loads(line)) for line in found)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.binary(max_size=80))
def test_only_usage_faults_escape_hostile_thresholds(tmp_path_factory: pytest.TempPathFactory, change: str, file: bytes
                                                     ) -> None:
    path = tmp_path_factory.mktemp("hostile") / "rules.toml"
    path.write_bytes(file)
    plain = rule_set(["webtext"])
    for options in ({"changes": [change]}, {"changes": [f"language.{change}"]}, {"thresholds": path}):
        try:
            taken = rule_set(["webtext"], **options)
        except UsageFault as error:
            assert str(error)
            continue
        # what is taken may set other limits, and changes neither which rules there are nor what each asks for
        assert taken.names == plain.names
        assert [set(settings) for _, settings in taken.rules] == [set(settings) for _, settings in plain.rules]


def test_one_table_of_a_config_file_serves_every_step(gpt2_here: Gpt2, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "all.toml").write_text('[webtext-scrape]\nrules = "none"\nmin-karma = 9\ncontact = "https://e.org/"\n')
    config = ("--config", tmp_path / "all.toml")
    assert len(kept(gpt2_here("webtext-scrape", "filter", *config, input=jsonl(many(4)), check=True))) == 4
    post = {"url": "http://e.com/", "score": 8, "created_utc": 1_507_000_000}
    assert kept(gpt2_here("webtext-scrape", "links", *config, input=jsonl([post]), check=True)) == []
    (tmp_path / "all.toml").write_text("[webtext-scrape]\nmin-karmas = 9\n")
    refused = gpt2_here("webtext-scrape", "links", *config, input=jsonl([post]))
    assert refused.returncode == 2 and b"unknown key 'min-karmas'" in refused.stderr
