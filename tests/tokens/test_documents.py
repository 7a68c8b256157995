"""What is read as what, what is skipped, and what is never changed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import zstandard

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import encode_record
from gpt2cli.tokens.documents import DocumentTally, parse_documents, read_documents


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
                             "records with empty text": 1, "gpt2.reject": 1}
    assert "1 records without text" in tally.sentences()[0]


def test_fields_and_places_come_along() -> None:
    (document,) = parse_documents(io.BytesIO(b'{"text":"a","url":"u"}'), "f.jsonl", DocumentTally())
    assert (document.fields, document.where) == ({"url": "u"}, "f.jsonl record 1")


def test_bytes_that_are_no_utf8_are_counted_in_text_and_refused_in_jsonl() -> None:
    found, tally = texts(b"ok \xff\xfe \xef\xbf\xbd")
    assert (found, tally.invalid_bytes) == (["ok \ufffd\ufffd \ufffd"], 2)
    assert "not UTF-8" in tally.sentences()[0]
    with pytest.raises(BadInput, match="line 2: not UTF-8 at byte 9"):
        texts(b'{"text":"a"}\n{"text":"\xff"}\n')


def test_broken_and_newer_records_are_refused() -> None:
    with pytest.raises(BadInput, match="x line 2: not JSON"):
        texts(b'{"text":"a"}\n{"text":\n')
    with pytest.raises(BadInput, match="newer gpt2"):
        texts(b'{"schema":"gpt2.document/9","text":"a"}\n')


def test_files_in_order_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"second")
    (tmp_path / "a.zst").write_bytes(zstandard.compress(b'{"text":"first"}\n'))
    found = read_documents([tmp_path / "a.zst", tmp_path / "b.txt"], DocumentTally())
    assert [document.text for document in found] == ["first", "second"]


def test_shards_and_directories_are_not_text(tmp_path: Path, shard: Path) -> None:
    with pytest.raises(BadInput, match="is a token shard, not text"):
        list(read_documents([shard], DocumentTally()))
    with pytest.raises(UsageFault, match=r"is a directory; name its files, such as .*\*\.txt"):
        list(read_documents([tmp_path], DocumentTally()))
