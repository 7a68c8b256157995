"""What is read as a text, and which part of it; whatever comes, only a sentence for a person escapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.quality.documents import Text, TextSource, n_skipped, read_texts
from gpt2cli.tokens.document_batch import DocumentTally

SAMPLE = {"schema": "gpt2.sample/1", "prompt": "Once ", "text": "upon", "finish_reason": "length", "prompt_number": 3}


def read(path: Path, tally: DocumentTally | None = None, **how: Any) -> list[Text]:
    return read_texts(TextSource((str(path),), **how), tally or DocumentTally())


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_samples_are_continuations_or_wholes(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", SAMPLE, SAMPLE | {"text": ""})
    where = [f"{path} line 1", f"{path} line 2"]
    assert read(path) == [Text("upon", "Once ", None, where[0]), Text("", "Once ", None, where[1])]
    assert read(path, whole=True) == [Text("Once upon", "", None, where[0]), Text("Once ", "", None, where[1])]
    assert [text.key for text in read(path, key="prompt_number")] == ["3", "3"]


def test_documents_of_every_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", {"text": "one", "id": "x"}, {"text": "", "id": 7}, SAMPLE | {"id": "s"},
                 {"schema": "gpt2.document/1", "id": "y", "text": "\ud800!"})
    tally = DocumentTally()
    found = read(path, tally, key="id")
    assert [(text.text, text.key) for text in found] == [("one", "x"), ("", "7"), ("upon", "s"), ("\ufffd!", "y")]
    assert tally.loss.surrogates == 1 and n_skipped(tally) == 0
    (tmp_path / "d.jsonl.zst").write_bytes(zstandard.compress(path.read_bytes()))
    assert [text.text for text in read(tmp_path / "d.jsonl.zst")] == [text.text for text in found]


def test_what_is_no_document_is_counted(tmp_path: Path) -> None:
    tally = DocumentTally()
    path = write(tmp_path / "d.jsonl", {"title": "x"}, {"text": 3}, {"text": "yes"},
                 {"schema": "gpt2.verify/1", "path": "x", "ok": True})
    path.write_text(path.read_text() + "\n\n")
    assert [text.text for text in read(path, tally)] == ["yes"] and n_skipped(tally) == 3


def test_plain_text_is_a_document_a_file_or_a_line(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"one\n\ntwo \xff\r\nlast")
    assert [text.text for text in read(path)] == ["one\n\ntwo \ufffd\r\nlast"]
    assert [text.text for text in read(path, lines=True)] == ["one", "", "two \ufffd\r", "last"]
    path.write_bytes(b"a\n")
    assert [text.text for text in read(path, lines=True)] == ["a"]
    path.write_bytes(b"")
    assert [text.text for text in read(path)] == [""] and read(path, lines=True) == []
    long = ("x y " * 250 + "\n") * 2000
    path.write_text(long)
    assert [text.text for text in read(path)] == [long] and len(read(path, lines=True)) == 2000
    (tmp_path / "d").mkdir()
    for name in ("b.txt", "a.txt"):
        (tmp_path / "d" / name).write_text(name)
    assert [text.text for text in read(tmp_path / "d")] == ["a.txt", "b.txt"]


def test_a_record_of_more_than_a_mebibyte(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", {"text": "z" * (3 << 20)}, {"text": "after"})
    assert [len(text.text) for text in read(path, lines=True)] == [3 << 20, 5]
    with pytest.raises(BadInput, match="too long a record to be paired by a field"):
        read(path, key="id")


@pytest.mark.parametrize(("data", "key", "said"), [
    (b'{"text":"a"}\n', "id", "line 1 has no string or whole number in `id`"),
    (b'{"text":"a","id":true}\n', "id", "has no string or whole number in `id`"),
    (b"plain", "id", "is plain text, without any field, so it has no `id`"),
    (b'{"schema":"gpt2.sample/2","text":"a"}\n', None, "line 1: schema gpt2.sample/2 was written by a newer gpt2"),
    (b'{"schema":"gpt2.sample/1","prompt":"","text":null}\n', None, "whose prompt and text are not both strings"),
    (b'{"text":"a"}\n{"text"\n', None, "line 2: not JSON"),
    (b"PK\x03\x04....", None, "is in zip format, not text"),
    (b"\x50\x2a\x4d\x18\x10\x00\x00\x00" + b'{"schema":"gpt2.', None, "is a token shard"),
])
def test_what_is_refused(tmp_path: Path, data: bytes, key: str | None, said: str) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(Gpt2Error) as refused:
        read(tmp_path / "x", key=key)
    assert said in str(refused.value)


values = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.none(), max_size=1)
hostile = st.dictionaries(st.sampled_from(["schema", "text", "prompt", "id", "finish_reason"]),
                          values | st.sampled_from(["gpt2.sample/1", "gpt2.document/1", "gpt2.sample/9"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(st.one_of(st.binary(max_size=20), hostile.map(lambda record: json.dumps(record).encode())), max_size=4),
       st.booleans(), st.sampled_from([None, "id"]), st.sampled_from(["auto", "jsonl", "text"]))
def test_only_sentences_escape(tmp_path: Path, lines: list[bytes], flag: bool, key: str | None, form: str) -> None:
    (tmp_path / "x").write_bytes(b"\n".join(lines))
    try:
        found = read(tmp_path / "x", key=key, form=form, lines=flag, whole=flag)
    except Gpt2Error as error:
        assert str(error)
        return
    for text in found:
        text.text.encode()
        text.prompt.encode()
