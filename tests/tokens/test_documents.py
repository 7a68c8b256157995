"""What is read as what, what is skipped, and what is never changed."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from unittest import mock

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from whole_documents import parse_documents, read_documents

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import RecordWriter, encode_record
from gpt2cli.tokens import documents
from gpt2cli.tokens.document_batch import DocumentTally, LongDocument
from gpt2cli.tokens.documents import read_batches, stream_batches


def texts(data: bytes, form: str = "auto") -> tuple[list[str], DocumentTally]:
    tally = DocumentTally()
    return [document.text for document in parse_documents(io.BytesIO(data), "x", tally, form)], tally


@pytest.mark.parametrize(("data", "expected"), [
    (b'{"text":"a"}\n{"text":"b\\r\\n "}', ["a", "b\r\n "]),
    (b'\n \n{"text":"after blank lines"}\n', ["after blank lines"]),
    (b'\xef\xbb\xbf{"text":"after a BOM"}\n', ["after a BOM"]),
    (b"plain\r\ntext\n\n", ["plain\r\ntext\n\n"]),
    (b"\xef\xbb\xbfBOM in text stays", ["\ufeffBOM in text stays"]),
    (b"{ not JSON }\n{", ["{ not JSON }\n{"]),
    (b"{\n  \"text\": \"pretty\"\n}\n", ["{\n  \"text\": \"pretty\"\n}\n"]),
    (b"[1]\n", ["[1]\n"]),
    (b"\n\n", ["\n\n"]),
    (b"", []),
])
def test_content_tells_the_format(data: bytes, expected: list[str]) -> None:
    assert texts(data)[0] == expected


def test_format_can_be_said() -> None:
    assert texts(b'{"text":"a"}\n', "text")[0] == ['{"text":"a"}\n']
    with pytest.raises(BadInput, match="x line 1: not JSON"):
        texts(b"plain", "jsonl")
    with pytest.raises(UsageFault, match="no format"):
        texts(b"plain", "xml")


def test_records_of_ours_and_of_others_and_what_is_skipped() -> None:
    ours = encode_record("gpt2.document", {"id": "0", "text": "ours", "url": "u"})
    data = ours + b"".join(json.dumps(record).encode() + b"\n" for record in (
        {"text": "theirs", "meta": 1}, {"body": "?"}, {"text": 5}, {"text": ""}, {"schema": "gpt2.reject/1", "what": "",
                                                                               "reason": ""}))
    found, tally = texts(data)
    assert found == ["ours", "theirs"]
    assert tally.documents == 2
    assert tally.skipped == {"records without text": 1, "records whose text is no string": 1,
                             "records with empty text": 1, "gpt2.reject records": 1}
    assert "1 record without text" in tally.sentences()[0]


def test_what_has_no_text_is_told_apart() -> None:
    found, tally = texts(b'{"a":1}\n{"text":null}\n{"text":["x"]}\n{"text":""}\n\n{"schema":"theirs","text":"t"}\n')
    assert found == ["t"]
    assert tally.skipped == {"records without text": 1, "records whose text is null": 1, "blank lines": 1,
                             "records whose text is no string": 1, "records with empty text": 1}


def test_places_come_along() -> None:
    (document,) = parse_documents(io.BytesIO(b'{"text":"a","url":"u"}'), "f.jsonl", DocumentTally())
    assert document.where == "f.jsonl line 1"


def test_bytes_that_are_no_utf8_are_replaced_counted_and_placed() -> None:
    found, tally = texts(b"ok \xff\xfe \xef\xbf\xbd")
    assert (found, tally.loss.invalid_bytes) == (["ok \ufffd\ufffd \ufffd"], 2)
    assert "not UTF-8 by U+FFFD (the first: x, byte 3)" in tally.sentences()[0]
    found, tally = texts(b'{"text":"a"}\n{"text":"\xff"}\n')
    assert found == ["a", "\ufffd"]
    assert "replaced 1 byte sequences that are not UTF-8 by U+FFFD (the first: x, byte 22)" in tally.sentences()


def test_lone_surrogates_are_replaced_counted_and_placed() -> None:
    found, tally = texts(b'{"text":"\\ud83d\\ude42"}\n{"text":"a\\ud800b\\udc00"}\n')
    assert found == ["🙂", "a\ufffdb\ufffd"]
    assert tally.sentences() == ["replaced 2 lone surrogates, which are no text, by U+FFFD (the first: x line 2)"]


def test_broken_and_newer_records_are_refused() -> None:
    with pytest.raises(BadInput, match="x line 2: not JSON"):
        texts(b'{"text":"a"}\n{"text":\n')
    with pytest.raises(BadInput, match="newer gpt2"):
        texts(b'{"schema":"gpt2.document/9","text":"a"}\n')


@pytest.mark.parametrize("name", ["cut.jsonl", "cut.ndjson", "cut.jsonl.zst"])
def test_a_broken_first_record_does_not_make_text_of_records(name: str, tmp_path: Path) -> None:
    data = b'{"text":\n{"text":"a"}\n'
    (tmp_path / name).write_bytes(zstandard.compress(data) if name.endswith(".zst") else data)
    with pytest.raises(BadInput, match="line 1: not JSON"):
        list(read_documents([tmp_path / name], DocumentTally()))


def test_files_in_order_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"second")
    (tmp_path / "a.zst").write_bytes(zstandard.compress(b'{"text":"first"}\n'))
    found = read_documents([tmp_path / "a.zst", tmp_path / "b.txt"], DocumentTally())
    assert [document.text for document in found] == ["first", "second"]


def test_a_shard_and_foreign_formats_are_not_text(tmp_path: Path, shard: Path) -> None:
    with pytest.raises(BadInput, match="is a token shard, not text"):
        list(read_documents([shard], DocumentTally()))
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(b"text"))
    with pytest.raises(BadInput, match="is in gzip format, not text; unpack it first"):
        list(read_documents([packed], DocumentTally()))
    assert len(list(read_documents([packed], DocumentTally(), "text"))) == 1


def test_a_directory_is_its_text_files_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.MD", "a/y.jsonl.zst", "a-b.txt", ".hidden.txt", ".git/x.txt", "a/image.png", "é.rst"):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        record = json.dumps({"text": name}).encode()
        path.write_bytes(zstandard.compress(record) if name.endswith(".zst") else name.encode())
    (tmp_path / "d" / "loop").symlink_to(tmp_path / "d")
    tally = DocumentTally()
    found = [document.text for document in read_documents([tmp_path / "d", tmp_path / "d" / "b.txt"], tally)]
    assert found == ["a/y.jsonl.zst", "a/z.MD", "a-b.txt", "b.txt", "é.rst", "b.txt"]
    assert tally.skipped == {"files of other kinds in directories": 2}
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"no text file in .*\.jsonl"):
        list(read_documents([tmp_path / "empty"], DocumentTally()))


@pytest.mark.parametrize("separator", ["<|endoftext|>", "\n\n", "\u2029"])
def test_text_is_split_at_a_string(tmp_path: Path, separator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "BLOCK", 16)
    monkeypatch.setattr(documents, "LONG_LINE", 50)
    expected = ["one", "two " * 100, "", "thrée\r\n" * 9 + "x", "{}", "z" * 51]
    for end in ("", separator):
        (tmp_path / "a.txt").write_bytes((separator.join(expected) + end).encode())
        found, tally = [], DocumentTally()
        for work in read_batches([tmp_path / "a.txt"], tally, split_on=separator):
            found += [b"".join(work.blocks)] if isinstance(work, LongDocument) else [text for *_, text in work.texts]
        assert found == [text.encode() for text in expected if text]
        assert tally.skipped == {"empty texts between separators": 1}


def test_split_on_is_for_text() -> None:
    for form, separator in (("jsonl", "x"), ("auto", "")):
        with pytest.raises(UsageFault, match="--split-on"):
            list(stream_batches(io.BytesIO(b"text"), "x", DocumentTally(), form, separator))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["text", "body"]), st.text(max_size=60)), max_size=12), st.data())
def test_block_and_line_lengths_change_nothing(records: list[tuple[str, str]], data: st.DataObject) -> None:
    """Tiny blocks and a tiny limit for long lines take every path there is through the reader."""
    lines = "".join(json.dumps({name: text}, ensure_ascii=data.draw(st.booleans())) + "\n" for name, text in records)
    source = lines.encode("utf-8", "surrogatepass")
    block, limit = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 60))
    expected, told = texts(source, "jsonl")
    with mock.patch.multiple(documents, BLOCK=block, LONG_LINE=limit):
        found, tally = texts(source, "jsonl")
    assert found == expected
    assert (tally.documents, tally.skipped, tally.loss.surrogates) == (
        told.documents, told.skipped, told.loss.surrogates)


def test_an_end_record_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    for number in range(5):
        writer.write("gpt2.document", {"id": str(number), "text": f"text {number}" * 30})
    writer.end()
    for block, limit in ((1 << 19, 1 << 20), (10, 150)):
        monkeypatch.setattr(documents, "BLOCK", block)
        monkeypatch.setattr(documents, "LONG_LINE", limit)
        whole = stream.getvalue()
        cut = whole[whole.index(b"\n") + 1 :]
        endless = whole[: whole.rindex(b'{"schema"')]
        for data, words in ((whole, ""), (whole + whole, ""), (endless, "has no end record"),
                            (cut, "an end record does not match the 4 lines")):
            tally = DocumentTally()
            assert list(parse_documents(io.BytesIO(data), "x", tally, expect_end=True))
            assert [words in warning for warning in tally.warnings] == [True] * bool(words)
            assert not tally.skipped
