"""Overlap equals a brute-force count, whatever the text comes in and wherever our blocks end."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import brute_force_overlap as brute_force
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.overlap import inputs, ngram_index
from gpt2cli.overlap.inputs import InputForm
from gpt2cli.overlap.measure import OverlapConfig, measure_overlap
from gpt2cli.records import shard_format
from gpt2cli.reporter import Silent
from gpt2cli.tokens import documents as reading
from gpt2cli.tokens.pack import PackConfig, pack_shards
from gpt2cli.tokens.tokenize import TokenizeConfig, tokenize_documents

JOINTS = st.sampled_from([" ", "  ", ", ", "\n", "-", "_", " 。", "'"])
WORDS = st.sampled_from(["a", "B", "c1", "Ça", "中", "ΟΔΟΣ", "x" * 30])


@st.composite
def texts(draw: st.DrawFn) -> str:
    words = draw(st.lists(WORDS, max_size=25))
    return "".join(word + draw(JOINTS) for word in words)


CORPORA = st.lists(texts(), max_size=5)


def no_tasks(path: str) -> list[tuple[str, int, str]]:
    raise AssertionError(path)


def write_jsonl(path: Path, documents: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return str(path)


def write_separated(path: Path, documents: Sequence[str]) -> str:
    path.write_text("|".join(documents) + "|", newline="")
    return str(path)


def write_directory(path: Path, documents: Sequence[str]) -> str:
    path.mkdir(exist_ok=True)
    for old in path.iterdir():
        old.unlink()
    (path / "none.txt").touch()
    for number, text in enumerate(documents):
        (path / f"{number:03}.txt").write_text(text, newline="")
    return str(path)


def write_shard(path: Path, documents: Sequence[str]) -> str:
    source = write_jsonl(path.with_suffix(".jsonl"), documents)
    stream = io.BytesIO()
    tokenize_documents([source], stream, TokenizeConfig(), Silent())
    path.write_bytes(stream.getvalue())
    return str(path)


FORMS: dict[str, tuple[Callable[[Path, Sequence[str]], str], InputForm]] = {
    "train.jsonl": (write_jsonl, InputForm()),
    "separated.txt": (write_separated, InputForm(split_on="|")),
    "directory": (write_directory, InputForm()),
    "train.tok.zst": (write_shard, InputForm()),
}


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, long documents and frames of a few bytes and tokens, so that a few words cross many borders."""
    monkeypatch.setattr(reading, "BLOCK", 37)
    monkeypatch.setattr(reading, "LONG_LINE", 90)
    monkeypatch.setattr(inputs, "LONG_DOCUMENT", 20)
    monkeypatch.setattr(shard_format, "FRAME_TOKENS", 16)


def measured(train: Sequence[str], tests: Sequence[str], **options: Any) -> list[dict[str, Any]]:
    config = OverlapConfig(tuple(train), tuple(tests), **options)
    return [fields for _, fields in measure_overlap(config, no_tasks, Silent())]


def check_against_brute_force(records: list[dict[str, Any]], train: Sequence[str], test: Sequence[str], n: int
                              ) -> None:
    test = [text for text in test if text]
    *documents, whole = records
    expected = brute_force.overlap(train, test, n)
    assert [(one["n_grams"], one["n_overlap"]) for one in documents] == expected
    assert [one["id"] for one in documents] == [hashlib.sha256(text.encode()).hexdigest() for text in test]
    assert [one["document"] for one in documents] == list(range(len(test)))
    assert all(one["overlap"] == (one["n_overlap"] / one["n_grams"] if one["n_grams"] else 0) for one in documents)
    seen = {gram for text in train for gram in brute_force.grams(text, n)}
    own = {gram for text in test for gram in brute_force.grams(text, n)}
    assert (whole["n"], whole["n_documents"], whole["n_distinct"], whole["n_distinct_overlap"]) == (
        n, len(test), len(own), len(own & seen))
    assert (whole["n_grams"], whole["n_overlap"]) == tuple(map(sum, zip(*expected, strict=True)))
    assert whole["n_documents_with_overlap"] == sum(hits > 0 for _, hits in expected)
    words = sum(len([word for word in brute_force.words(text) if word]) for text in train)
    assert whole["train"] == {"documents": len([text for text in train if text]), "words": words}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("tiny_blocks")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(train=CORPORA, test=CORPORA.filter(any), n=st.integers(1, 9))
def test_equals_brute_force(form: str, tmp_path: Path, train: list[str], test: list[str], n: int) -> None:
    write, how = FORMS[form]
    source = write(tmp_path / form, train)
    records = measured([source], [write_jsonl(tmp_path / "test.jsonl", test)], n=n, form=how)
    check_against_brute_force(records, train, test, n)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "separated.txt"])
@pytest.mark.usefixtures("tiny_blocks")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(train=CORPORA, test=CORPORA.filter(any), n=st.integers(1, 9))
def test_the_test_side_may_come_in_any_form(form: str, tmp_path: Path, train: list[str], test: list[str], n: int
                                            ) -> None:
    target = FORMS[form][0](tmp_path / form, test)
    check_against_brute_force(measured([write_jsonl(tmp_path / "a.jsonl", train)], [target], n=n), train, test, n)


@pytest.mark.usefixtures("tiny_blocks")
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(train=CORPORA, test=CORPORA.filter(any))
def test_any_number_of_processes_gives_the_same(tmp_path: Path, train: list[str], test: list[str]) -> None:
    sides = [write_jsonl(tmp_path / "train.jsonl", train)], [write_jsonl(tmp_path / "test.jsonl", test)]
    assert measured(*sides, n=2, show=9, jobs=3) == measured(*sides, n=2, show=9)


def random_words(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(1, 9))) for _ in range(count)]


@pytest.mark.parametrize("form", FORMS)
def test_planted_duplicates_of_8_to_50_words_are_all_found(form: str, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK", 700)
    monkeypatch.setattr(reading, "LONG_LINE", 1500)
    monkeypatch.setattr(inputs, "LONG_DOCUMENT", 300)
    monkeypatch.setattr(shard_format, "FRAME_TOKENS", 128)
    copies = [random_words(size, size) for size in range(8, 51)]
    train, draw = [], random.Random(1)
    for number, copy in enumerate(copies):  # in documents of every length, at every place
        before, after = (random_words(draw.randint(0, 400), 1000 * side + number) for side in (1, 2))
        train.append(" ".join(before + copy + after))
    test = [", ".join([*random_words(30, 5000 + size), *copy, *random_words(30, 7000 + size)]).upper()
            for size, copy in enumerate(copies)]
    write, how = FORMS[form]
    source = write(tmp_path / form, train)
    records = measured([source], [write_jsonl(tmp_path / "t.jsonl", test)], form=how, show=100)
    documents, passages = records[:43], records[43:-1]
    assert [one["n_overlap"] for one in documents] == [size - 7 for size in range(8, 51)]
    assert [one["n_words"] for one in passages] == list(range(50, 7, -1))
    for one in passages:
        copy = copies[one["document"]]
        assert one["text"] == ", ".join(copy).upper() == test[one["document"]][one["start"] : one["stop"]]
        assert [(source["document"], source["n_grams"]) for source in one["train"]] == [
            (one["document"], len(copy) - 7)]


def test_equal_hashes_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash of few values: the index draws another where its own n-grams collide, and compares what it looks up."""
    drawn = ngram_index.multipliers
    monkeypatch.setattr(ngram_index, "multipliers",
                        lambda n, seed: drawn(n, seed) * (0 if seed < 3 else 1))  # all collide, three times
    test, train = ["one two three"], ["two three one two", "three one two three four"]
    paths = write_jsonl(tmp_path / "a.jsonl", train), write_jsonl(tmp_path / "b.jsonl", test)
    check_against_brute_force(measured([paths[0]], [paths[1]], n=2), train, test, 2)
    monkeypatch.setattr(ngram_index, "mixed", lambda sums: sums)
    monkeypatch.setattr(ngram_index, "window_sums", lambda values, starts, factors: values[starts].astype("uint64"))
    train = ["one three two one"]  # its 2-grams begin as those of the test text do
    path = write_jsonl(tmp_path / "c.jsonl", train)
    check_against_brute_force(measured([path], [paths[1]], n=2), train, test, 2)


def test_a_run_of_letters_too_long_for_a_word_breaks_ngrams(tmp_path: Path) -> None:
    for size, expected in ((1024, 2), (1025, 0)):
        text = f"one {'x' * size} two"
        path = write_jsonl(tmp_path / "a.jsonl", [text])
        assert measured([path], [path], n=2)[0]["n_overlap"] == expected


def test_a_shard_set_is_asked_for_val_and_read_for_train(tmp_path: Path) -> None:
    documents = [" ".join(random_words(40, seed)) for seed in range(60)]
    shard = write_shard(tmp_path / "x.tok.zst", documents)
    pack_shards([shard], str(tmp_path / "set"), PackConfig(val_fraction=0.2), Silent())
    *held_out, whole = measured([str(tmp_path / "set")], [str(tmp_path / "set")])
    assert whole["n_overlap"] == 0
    assert whole["train"]["documents"] + len(held_out) == 60 and 0 < len(held_out) < 60
    *_, whole = measured([str(path) for path in sorted((tmp_path / "set").glob("*.zst"))], [str(tmp_path / "set")])
    assert whole["overlap"] == 1 and whole["train"]["documents"] == 60


def test_lines_of_a_plain_text_are_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one two three\n\nfour five six\nseven"
    (tmp_path / "t.txt").write_text(text)
    train = write_jsonl(tmp_path / "a.jsonl", ["x one two three y", "three four five"])
    for limit in (1 << 20, 5):
        monkeypatch.setattr(reading, "LONG_LINE", limit)
        monkeypatch.setattr(reading, "BLOCK", 1 << 19 if limit > 5 else 4)
        records = measured([train], [str(tmp_path / "t.txt")], n=2, by_line=True)
        check_against_brute_force(records, ["x one two three y", "three four five"], text.splitlines(True), 2)


def test_several_test_files_have_one_numbering_and_counts_of_their_own(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", ["a b c d e"])
    tests = [write_jsonl(tmp_path / "one.jsonl", ["a b c", "x y"]), write_jsonl(tmp_path / "two.jsonl", ["b c z", "q"])]
    *documents, whole = measured([train], tests, n=2)
    assert [(one["document"], one["test"]) for one in documents] == [
        (0, "one.jsonl"), (1, "one.jsonl"), (2, "two.jsonl"), (3, "two.jsonl")]
    assert (whole["n_grams"], whole["n_overlap"], whole["n_distinct"], whole["n_distinct_overlap"]) == (5, 3, 4, 2)
    parts = [(one["test"], one["n_documents"], one["n_grams"], one["n_overlap"], one["n_distinct_overlap"])
             for one in whole["tests"]]
    assert parts == [("one.jsonl", 2, 3, 2, 2), ("two.jsonl", 2, 2, 1, 1)]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    some = write_jsonl(tmp_path / "a.jsonl", ["a"])
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    for train, tests, error, words in (
        ([some], [], UsageFault, "--test"), (["-"], ["-"], UsageFault, "twice"), ([], ["-"], UsageFault, "twice"),
        ([some], [empty], BadInput, "no document"),
    ):
        with pytest.raises(error, match=words):
            measured(train, tests)
    (tmp_path / "cut.tok.zst").write_bytes(Path(write_shard(tmp_path / "x.tok.zst", ["one two"])).read_bytes()[:-30])
    with pytest.raises(BadInput, match="cut short"):
        measured([str(tmp_path / "cut.tok.zst")], [some])
