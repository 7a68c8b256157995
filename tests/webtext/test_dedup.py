"""dedup against brute force over exact Jaccard similarities, and the properties that its design promises."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import zstandard
from in_process import gpt2_here
from near_documents import corpus, jaccard, lines, parsed

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.reporter import Silent
from gpt2cli.webtext import external_sort, sign_documents
from gpt2cli.webtext.dedup import DedupConfig, dedup
from gpt2cli.webtext.dedup_profiles import DEDUP_PROFILES
from gpt2cli.webtext.tally import StepTally

__all__ = ["gpt2_here"]
EXACT = DEDUP_PROFILES["exact"]


def run(inputs: Any, config: DedupConfig | None = None, reporter: Silent | None = None
        ) -> tuple[bytes, bytes, StepTally]:
    """Return (survivors, rejects, tally) of paths, or of a list of lines."""
    inputs = iter(inputs) if isinstance(inputs[0], bytes) else inputs
    kept, dropped = BytesIO(), BytesIO()
    tally = StepTally("dedup", RecordWriter(dropped))
    dedup(inputs, RecordWriter(kept), tally, config or DedupConfig(), reporter or Silent())
    return kept.getvalue(), dropped.getvalue(), tally


def ids(data: bytes) -> list[str]:
    return [record["id"] for record in parsed(data)]


def records(*texts: str, **more: Any) -> list[dict[str, Any]]:
    return [{"schema": "gpt2.document/1", "id": str(number), "text": text, **more} for number, text in enumerate(texts)]


def order(record: dict[str, Any]) -> tuple[float, str]:
    return (float("inf") if record.get("created_utc") is None else record["created_utc"], record["id"])


def stay_by_definition(documents: Sequence[dict[str, Any]], similarity: float) -> tuple[set[str], int]:
    """Return (ids that stay, clusters): the components of all pairs above `similarity`, the first of each."""
    words = [record["text"].split() for record in documents]
    component = list(range(len(documents)))
    for one, other in itertools.combinations(range(len(documents)), 2):
        if component[one] != component[other] and jaccard(words[one], words[other]) > similarity:
            component = [component[one] if number == component[other] else number for number in component]
    members: dict[int, list[dict[str, Any]]] = {}
    for record, number in zip(documents, component, strict=True):
        members.setdefault(number, []).append(record)
    return ({min(group, key=order)["id"] for group in members.values()},
            sum(len(group) > 1 for group in members.values()))


def test_survivors_are_those_of_brute_force() -> None:
    documents = corpus(240, size=40)
    stay, clusters = stay_by_definition(documents, 0.5)
    reporter = Silent()
    kept, dropped, tally = run(lines(documents).splitlines(), reporter=reporter)
    assert ids(kept) == [record["id"] for record in documents if record["id"] in stay]
    assert kept == lines([record for record in documents if record["id"] in stay])
    assert (tally.read, tally.kept, sum(tally.dropped.values())) == (240, len(stay), 240 - len(stay))
    assert reporter.notes[-1] == f"{tally.line()}, {clusters} clusters"
    by_id = {record["id"]: record for record in documents}
    assert set(ids(dropped)) == set(by_id) - stay
    for reject in parsed(dropped):
        one, other = by_id[reject["id"]], by_id[reject["survivor"]]
        assert other["id"] in stay and order(other) < order(one) and reject["what"] == one["url"]
        exact = one["text"] == other["text"]
        assert reject["reason"] == ("exact duplicate" if exact else "near duplicate")
        true = jaccard(one["text"].split(), other["text"].split())
        assert reject["similarity"] == 1 if exact else abs(reject["similarity"] - true) < 0.2


@pytest.mark.parametrize("change", ["order", "jobs", "memory", "files"])
def test_what_does_not_change_the_survivors(change: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    documents = corpus(300)
    data = lines(documents)
    kept, dropped, _ = run(data.splitlines())
    monkeypatch.setattr(sign_documents, "BATCH_LINES", 16)
    if change == "order":
        random.Random(4).shuffle(documents)
        shuffled, others, _ = run(lines(documents).splitlines())
        assert sorted(shuffled.splitlines()) == sorted(kept.splitlines())
        assert sorted(others.splitlines()) == sorted(dropped.splitlines())
    elif change == "jobs":
        assert run(data.splitlines(), DedupConfig(jobs=2))[:2] == (kept, dropped)
    elif change == "memory":
        monkeypatch.setattr(external_sort, "LEAST_MEMORY", 1)
        monkeypatch.setattr(external_sort, "MOST_RUNS", 5)
        assert run(data.splitlines(), DedupConfig(memory=20_000))[:2] == (kept, dropped)
    elif change == "files":
        paths = [tmp_path / f"{number}.jsonl.zst" for number in range(3)]
        for path, start in zip(paths, (0, 50, 180), strict=True):
            stop = {0: 50, 50: 180, 180: 300}[start]
            path.write_bytes(zstandard.compress(lines(documents[start:stop])))
        assert run(paths, DedupConfig(work=tmp_path / "work"))[:2] == (kept, dropped)
        assert not list((tmp_path / "work").iterdir())


def test_white_space_and_unicode_form_make_no_difference_but_case_does() -> None:
    texts = ["caf\u00e9 one", "cafe\u0301  one\n", "\tcaf\u00e9\u00a0one", "Caf\u00e9 one"]
    kept, _, tally = run(lines(records(*texts)).splitlines(), DedupConfig(EXACT))
    assert ids(kept) == ["0", "3"]
    assert tally.dropped == {"exact duplicate": 2}
    kept, _, tally = run(lines(records(*texts)).splitlines())
    assert ids(kept) == ["0"]  # near duplicates are compared by their words in lower case
    assert tally.dropped == {"exact duplicate": 2, "near duplicate": 1}


def test_short_and_empty_texts() -> None:
    texts = ["", " \n", "...", "!", "one two", "One, two!", "one two three", "one two three four five", "two one"]
    kept, _, tally = run(lines(records(*texts)).splitlines())
    assert ids(kept) == ["0", "2", "3", "4", "6", "7", "8"]
    assert tally.dropped == {"exact duplicate": 1, "near duplicate": 1}


def test_earliest_then_id_survives() -> None:
    text = "the same few words in every one of them"
    documents = [{"schema": "gpt2.document/1", "id": name, "text": text, "created_utc": created}
                 for name, created in (("c", None), ("b", 7), ("a", 7), ("z", 6.5), ("y", "6.5"), ("x", 1e300),
                                       ("w", True), ("v", "soon"))]
    for arrangement in (documents, documents[::-1]):
        assert ids(run(lines(arrangement).splitlines())[0]) == ["y"]
    assert ids(run(lines(documents[:3]).splitlines())[0]) == ["a"]
    assert ids(run(lines([documents[0], documents[6], documents[7]]).splitlines())[0]) == ["c"]
    negative = [{**documents[0], "id": str(value), "created_utc": value} for value in (0, -5, -0.5, 3)]
    assert ids(run(lines(negative).splitlines())[0]) == ["-5"]


def test_long_ids_are_told_by_their_beginning_and_hash() -> None:
    names = ["http://example.org/" + "é" * 40 + end for end in "ab"]
    documents = [{"schema": "gpt2.document/1", "id": name, "text": "five words in a row"} for name in names]
    kept, dropped, _ = run(lines(documents).splitlines())
    (survivor,) = ids(kept)
    (reject,) = parsed(dropped)
    hashed = hashlib.blake2b(survivor.encode(), digest_size=8).hexdigest()
    assert reject["survivor"].endswith("~" + hashed) and survivor.startswith(reject["survivor"].split("~")[0])
    assert {reject["id"], survivor} == set(names)


def test_a_bucket_of_everything_stays_linear() -> None:
    same = "all of these documents have the very same words"
    _, _, tally = run(lines(records(*[same + "!" * number for number in range(3000)])).splitlines())
    assert (tally.kept, tally.dropped) == (1, {"near duplicate": 2999})


def test_scripts_without_spaces_have_words_too() -> None:
    text = "".join(chr(0x4E00 + number * 37 % 5000) for number in range(300))
    kept, _, tally = run(lines(records(text, text[:150] + "人" + text[151:], text[::-1])).splitlines())
    assert ids(kept) == ["0", "2"] and tally.dropped == {"near duplicate": 1}


def test_other_peoples_jsonl_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_text('{"text": "one of mine", "source": "x"}\n\n{"text": "one  of mine"}\n{"id": 5, "text": "b"}\n'
                    '{"schema": "gpt2.link/1", "url": "u"}\n{"schema":"mine/3","text":"c"}\n{"no": "text"}\n')
    reporter = Silent()
    kept, _, tally = run([path], reporter=reporter)
    digest = hashlib.sha256(b"one of mine").hexdigest()
    other = hashlib.sha256(b"one  of mine").hexdigest()
    first = min(digest, other)
    assert ids(kept) == [first, "5"]
    assert {record["schema"] for record in parsed(kept)} == {"gpt2.document/1"}
    assert f"{path}: skipped 1 gpt2.link, 1 neither schema nor text, 1 unknown schema" in reporter.notes
    assert tally.read == 3


@pytest.mark.parametrize("line", [
    b"{", b"[]", b'{"schema":"gpt2.document/2","id":"a","text":"t"}', b'{"schema":"gpt2.document/1","id":"a"}',
    b'{"schema":"gpt2.document/1","id":"a","text":4}', b'{"text":"\\ud800"}', b"\xff",
    b'{"schema":"gpt2.end/1","count":NaN}'])
def test_bad_lines_are_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b'{"text":"good"}\n' + line + b"\n")
    with pytest.raises(BadInput, match=r"docs\.jsonl line 2"):
        run([path])


def test_an_input_that_changes_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(lines(corpus(30)))

    class Changing(Silent):
        def progress(self, done: float, total: float | None, unit: str, **fields: str) -> None:
            if unit == "documents ranked":
                path.write_bytes(lines(corpus(30, seed=2)))

    with pytest.raises(BadInput, match="changed since"):
        run([path], DedupConfig(work=tmp_path / "work"), Changing())
    assert run([path], DedupConfig(work=tmp_path / "work"))[2].read == 30


def test_a_stop_keeps_what_is_finished_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(lines(corpus(60)))
    expected = run([path])[0]

    class Stopping(Silent):
        ranked = False

        def progress(self, done: float, total: float | None, unit: str, **fields: str) -> None:
            self.ranked = unit == "documents ranked"

        def stopping(self) -> bool:
            return self.ranked

    config = DedupConfig(work=tmp_path / "work")
    with pytest.raises(Interrupted):
        run([path], config, Stopping())
    (state,) = (tmp_path / "work" / "dedup" / "state").iterdir()
    assert not (tmp_path / "work" / "dedup" / "scratch").exists()
    monkeypatch.setattr(sign_documents, "Signer", None)  # nothing is signed again
    assert run([path], config)[0] == expected and not state.exists()


def test_the_command(gpt2_here: Callable[..., Any], tmp_path: Path) -> None:
    data = lines(corpus(80))
    kept, dropped, tally = run(data.splitlines())
    path = tmp_path / "kept.jsonl.zst"
    done = gpt2_here("webtext-scrape", "dedup", "-o", path, "--rejects", tmp_path / "rejects.jsonl", "-j", 2,
                     input=data, check=True)
    assert zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read() == kept
    assert (tmp_path / "rejects.jsonl").read_bytes() == dropped
    assert tally.line() in done.stderr.decode()
    piped = gpt2_here("webtext-scrape", "dedup", input=data, check=True).stdout
    assert piped.startswith(kept) and json.loads(piped[len(kept) :])["schema"] == "gpt2.end/1"
    again = gpt2_here("webtext-scrape", "dedup", input=piped, check=True)
    assert again.stdout == piped and b"no end record" not in again.stderr
    cut = gpt2_here("webtext-scrape", "dedup", input=data, check=True)
    assert b"no end record" in cut.stderr
    nothing = gpt2_here("webtext-scrape", "dedup", check=True)
    assert b"standard input is empty" in nothing.stderr
    fewer = gpt2_here("webtext-scrape", "dedup", "--similarity", ".95", input=data, check=True).stdout
    assert len(fewer) > len(piped)
    assert dataclasses.replace(DEDUP_PROFILES["openwebtext"], similarity=0.95).values == 128


@pytest.mark.parametrize(("arguments", "message"), [
    (("--profile", "exact", "--similarity", ".7"), "near duplicates"), (("--memory", "1K"), "at least"),
    (("nowhere.jsonl",), "there is no nowhere.jsonl"), ((".",), "is a directory"), (("--similarity", "2"), "range")])
def test_usage(arguments: tuple[str, ...], message: str, gpt2_here: Callable[..., Any]) -> None:
    done = gpt2_here("webtext-scrape", "dedup", *arguments, input=b"")
    assert done.returncode == 2 and message in done.stderr.decode()
