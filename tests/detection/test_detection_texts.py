"""How texts are read, cut to one form, and divided into parts."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from gpt2cli.detection.split import digests, divide, is_known, place
from gpt2cli.detection.texts import (
    Text,
    common_words,
    cut_all,
    distinct_once_cut,
    first_words,
    read_distinct,
    trimmed,
    without_shared,
)
from gpt2cli.errors import BadInput
from gpt2cli.reporter import Silent


def text(words: str, prompt: str | None = None) -> Text:
    digest = sha256(words.encode()).hexdigest()
    return Text(words, digest, digest if prompt is None else sha256(prompt.encode()).hexdigest(), "here")


def write(path: Path, *records: dict) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


SAMPLE = {"schema": "gpt2.sample/1", "prompt": "Once", "text": " upon a time", "finish_reason": "length",
          "temperature": 0.7, "top_k": 40, "top_p": None}


def test_samples_documents_and_foreign_records_are_read_with_their_setting_and_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", SAMPLE, {"text": "plain"}, {"prompt": "Once", "text": " a person went on"},
                 {"schema": "gpt2.document/1", "id": sha256(b"own").hexdigest(), "text": "own"}, {"other": 1})
    reporter = Silent()
    found = read_distinct([path], "generated texts", reporter)
    assert [one.text for one in found] == [" upon a time", "plain", " a person went on", "own"]
    assert [one.setting for one in found] == [(0.7, 40, None), None, None, None]
    once = sha256(b"Once").hexdigest()
    assert [one.key for one in found] == [once, sha256(b"plain").hexdigest(), once, sha256(b"own").hexdigest()]
    assert reporter.warnings == ["generated texts: skipped: 1 record without text"]


def test_plain_text_directories_and_repeats(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("first of all\n")
    (tmp_path / "d" / "b.txt").write_text("first of all\n")
    (tmp_path / "d" / "c.txt").write_text(" \n")
    reporter = Silent()
    assert [one.text for one in read_distinct([str(tmp_path / "d")], "human texts", reporter)] == ["first of all\n"]
    assert reporter.warnings == ["human texts: skipped: 1 empty text",
                                 "human texts: left out 1 repetition of texts given before"]


@pytest.mark.parametrize(("record", "message"), [
    ({**SAMPLE, "schema": "gpt2.sample/2"}, "line 1: schema gpt2.sample/2 was written by a newer gpt2"),
    ({"schema": "gpt2.step/1", "text": "x"}, "there are no human texts in"),
    ({"text": " \ufffd\n"}, "there are no human texts in"),
    ({"text": ""}, "there are no human texts in"),
])
def test_what_can_not_be_read_is_said(tmp_path: Path, record: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_distinct([write(tmp_path / "a.jsonl", record)], "human texts", Silent())


def test_a_text_given_as_both_kinds_is_left_out_of_both() -> None:
    reporter = Silent()
    human, generated = without_shared([text("a"), text("b")], [text("b"), text("c")], reporter)
    assert ([one.text for one in human], [one.text for one in generated]) == (["a"], ["c"])
    assert reporter.warnings == ["1 text given both as human and as generated: left out of both"]


def test_cutting_leaves_no_sign_of_where_a_text_was_cut() -> None:
    assert trimmed("\ufffd \u00a0\n\ufffda \ufffd b\ufffd\n") == "a \ufffd b"
    assert first_words("\ufffd one  two\nthree\ufffd four", 3) == "one  two\nthree"
    assert first_words(" one two ", 3) is None and first_words(" one two ", None) == "one two"
    assert first_words(" \ufffd ", None) is None
    assert [one.text for one in cut_all([text("a b c"), text("a"), text(" d e")], 2)] == ["a b", "d e"]


def test_texts_that_are_equal_once_cut_count_once_whatever_their_order() -> None:
    texts = [text("a b c"), text("a b d"), text("x y z"), text("a b e")]
    cut = cut_all(texts, 2)
    kept = distinct_once_cut(cut)
    assert [one.text for one in kept if one.text == "a b"] == ["a b"] and len(kept) == 2
    assert {one.id for one in kept} == {one.id for one in distinct_once_cut(cut[::-1])}
    assert min(one.id for one in cut if one.text == "a b") in {one.id for one in kept}


def test_the_common_length_is_what_nine_tenths_of_both_have() -> None:
    human = [text(" ".join("w" * number)) for number in range(1, 101)]
    generated = [text(" ".join("w" * 50)) for _ in range(10)]
    words = common_words(human, generated)
    assert words == 11
    assert len(cut_all(human, words)) == 90 and len(cut_all(generated, words)) == 10


def test_parts_depend_on_the_text_alone_and_prompts_stay_together() -> None:
    texts = [text(f"text {number}", f"prompt {number % 500}") for number in range(4000)]
    parts = divide(texts, 0.2)
    sizes = [len(part) / len(texts) for part in (parts.test, parts.calibration, parts.validation, parts.fit)]
    assert sizes == pytest.approx([0.2, 0.2, 0.1, 0.5], abs=0.06)
    again = divide(texts[::-3], 0.2)
    assert {one.id for one in again.test} <= {one.id for one in parts.test}
    keys = [{one.key for one in part} for part in (parts.test, parts.calibration, parts.validation, parts.fit)]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 500
    assert divide(texts, 0).test == []
    assert 0 <= place("x") < 1 and place("x") != place("y")


def test_a_text_is_known_by_itself_or_by_its_prompt() -> None:
    known = digests([text("used", "prompt")])
    assert is_known(text("used"), known) and is_known(text("new", "prompt"), known)
    assert not is_known(text("new"), known) and not is_known(text("new", "another"), known)
