"""Records out and in: the end record, versions, and lines that are no records."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally, RecordWriter, encode_record, parse_line, parse_records
from gpt2cli.records.schemas import SCHEMAS, parse_schema, schema_name

DOCUMENT = {"id": "a" * 64, "text": "Call me Ishmael."}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children), max_leaves=10)


def written(*records: tuple[str, dict], end: bool = True) -> bytes:
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    for kind, fields in records:
        writer.write(kind, fields)
    if end:
        writer.end()
    return stream.getvalue()


def parsed(data: bytes, **options: object) -> tuple[list[dict], ReadTally]:
    tally = ReadTally()
    return list(parse_records(io.BytesIO(data), "f", tally, **options)), tally


TWO = written(("gpt2.document", DOCUMENT), ("gpt2.document", DOCUMENT))


def test_round_trip_and_what_is_on_the_line() -> None:
    line = written(("gpt2.document", DOCUMENT), end=False)
    assert line == b'{"schema":"gpt2.document/1","id":"' + b"a" * 64 + b'","text":"Call me Ishmael."}\n'
    records, tally = parsed(TWO, expect_end=True)
    assert records == [{"schema": "gpt2.document/1", **DOCUMENT}] * 2
    assert (tally.records, tally.skipped, tally.warnings) == (2, {}, [])


@given(st.dictionaries(st.text().filter(lambda key: key != "schema"), JSON_VALUES), st.text())
def test_any_json_survives(extra: dict, text: str) -> None:
    fields = {**extra, "id": "x", "text": text}
    line = encode_record("gpt2.document", fields) if _encodable(fields) else None
    if line is None:
        return
    assert line.count(b"\n") == 1
    assert parse_line(line[:-1], "f") == {"schema": "gpt2.document/1", **fields}


def _encodable(fields: dict) -> bool:
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def test_end_record_counts_and_hashes_lines_with_their_line_feeds() -> None:
    *lines, end = TWO.splitlines(keepends=True)
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    assert json.loads(end) == {"schema": "gpt2.end/1", "count": 2, "sha256": digest}


def test_streams_can_be_concatenated() -> None:
    records, tally = parsed(TWO + TWO + written(), expect_end=True)
    assert len(records) == 4
    assert tally.warnings == []


@pytest.mark.parametrize(("data", "what"), [
    (TWO[: TWO.index(b'{"schema":"gpt2.end')], "no end record"),
    (TWO[TWO.index(b"\n") + 1:], "does not match"),
    (TWO.replace(b"Ishmael", b"Ishmuel", 1), "does not match"),
    (TWO + written(("gpt2.document", DOCUMENT), end=False), "no end record"),
    (TWO.replace(b'"count":2', b'"count":3'), "does not match"),
], ids=["missing", "first line gone", "changed", "missing after the second", "count"])
def test_incomplete_stream_is_one_warning_or_with_strict_an_error(data: bytes, what: str) -> None:
    _, tally = parsed(data, expect_end=True)
    assert len(tally.warnings) == 1 and what in tally.warnings[0]
    with pytest.raises(BadInput, match=what):
        parsed(data, expect_end=True, strict=True)


def test_files_and_foreign_streams_need_no_end() -> None:
    assert parsed(TWO[: TWO.index(b'{"schema":"gpt2.end')])[1].warnings == []
    records, tally = parsed(b'{"text":"theirs"}\n', expect_end=True, foreign=True)
    assert records == [{"text": "theirs"}]
    assert tally.warnings == []


def test_what_is_not_wanted_is_skipped_and_counted() -> None:
    data = (b'{"schema":"gpt2.link/1","url":"u","url_key":"u","karma":3,"subreddit":"s","created_utc":1}\n'
            b'{"schema":"gpt2.dream/7"}\n{"schema":5}\n{"text":"theirs"}\n\n' + TWO)
    records, tally = parsed(data, kinds=("gpt2.document",))
    assert [record["schema"] for record in records] == ["gpt2.document/1"] * 2
    assert tally.skipped == {"gpt2.link": 1, "unknown schema 'gpt2.dream/7'": 1, "unknown schema '5'": 1,
                             "no schema": 1, "blank line": 1}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_newer_version_of_every_kind_is_refused(kind: str) -> None:
    line = json.dumps({"schema": f"{kind}/{SCHEMAS[kind][0] + 1}"}).encode() + b"\n"
    with pytest.raises(BadInput, match=r"line 1.*newer gpt2"):
        parsed(line)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_required_fields_are_demanded_when_writing_and_reading(kind: str) -> None:
    required = SCHEMAS[kind][1]
    complete = dict.fromkeys(required, 0)
    assert parse_schema(json.loads(encode_record(kind, complete))["schema"]) == (kind, SCHEMAS[kind][0])
    for name in required:
        less = {key: value for key, value in complete.items() if key != name}
        with pytest.raises(KeyError, match=name):
            encode_record(kind, less)
        if kind != "gpt2.end":
            with pytest.raises(BadInput, match=f"without {name}"):
                parsed(json.dumps({"schema": schema_name(kind), **less}).encode())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_never_written(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_record("gpt2.verify", {"path": "x", "ok": number})


@pytest.mark.parametrize(("line", "what"), [
    (b'{"a":NaN}', "NaN is no JSON number"),
    (b'{"a":-Infinity}', "-Infinity is no JSON number"),
    (b"[1]", "JSON object was expected, not list"),
    (b"null", "JSON object was expected, not NoneType"),
    (b'{"a":', "not JSON"),
    (b'{"a":1} {"b":2}', "not JSON"),
    (b'{"a":"\xff"}', "not UTF-8 at byte 6"),
    (b'{"a":' + b"[" * 100_000, "nested too deeply"),
    (b'{"a":' + b"9" * 100_000 + b"}", "too many digits"),
    (b"\xef\xbb\xbf{}", "not JSON"),
], ids=["nan", "infinity", "list", "null", "cut", "two", "utf8", "deep", "digits", "bom"])
def test_lines_that_are_no_records_are_named(line: bytes, what: str) -> None:
    with pytest.raises(BadInput, match="f line 3: ") as caught:
        parse_line(line, "f line 3")
    assert what in str(caught.value)


def test_a_float_beyond_range_does_not_become_infinity() -> None:
    """JSON's 1e999 parses to inf in Python, which is how NaN would come in by the back door."""
    with pytest.raises(BadInput):
        parse_line(b'{"a":1e999}', "f line 1")


def test_line_separators_of_unicode_do_not_split_a_record() -> None:
    text = "one\u2028two\u2029three\x85four"
    data = written(("gpt2.document", {"id": "a", "text": text}))
    assert data.count(b"\n") == 2
    records, tally = parsed(data, expect_end=True)
    assert [record["text"] for record in records] == [text]
    assert tally.warnings == []


@pytest.mark.parametrize(("value", "expected"), [
    ("gpt2.step/1", ("gpt2.step", 1)), ("gpt2.step/12", ("gpt2.step", 12)), ("a/b/3", ("a/b", 3)),
    ("gpt2.step", None), ("gpt2.step/", None), ("gpt2.step/x", None), ("gpt2.step/-1", None), (None, None), (3, None),
    ("gpt2.step/1234567", None), ("gpt2.step/\u0661", None),
])
def test_parse_schema(value: object, expected: object) -> None:
    assert parse_schema(value) == expected
