"""A long line is accepted, refused and understood as a short one is, in memory that does not grow with it."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import parse_line
from gpt2cli.tokens.long_record import begins_object, read_long_record
from gpt2cli.tokens.unicode_loss import replace_surrogates

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))
RECORDS = st.dictionaries(st.sampled_from(["text", "schema", "id", "url", "te\u0078t ", ""]) | st.text(), JSON)


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def check(line: bytes, size: int) -> None:
    """Compare with parse_line: both refuse, or both find the same keys, schema and text."""
    try:
        expected = parse_line(line.decode("utf-8", "replace").encode(), "x line 1")
    except BadInput:
        with pytest.raises(BadInput, match=r"^x line 1"):
            read_long_record(chunks(line, size), "x line 1", "x", 0)
        return
    record = read_long_record(chunks(line, size), "x line 1", "x", 0)
    assert list(record.fields) == list(expected)
    assert record.fields.get("schema") == expected.get("schema") or isinstance(expected["schema"], (list, dict))
    if isinstance(expected.get("text"), str):
        assert record.fields["text"] == ""
        text, lone = replace_surrogates(expected["text"])
        assert b"".join(record.blocks()).decode() == text
        assert record.size == len(text.encode())
        assert record.loss.surrogates == lone
    else:
        assert record.spool is None
        assert isinstance(record.fields.get("text"), type(expected.get("text"))) or isinstance(expected["text"], dict)


@settings(max_examples=250, deadline=None)
@given(RECORDS, st.booleans(), st.integers(1, 30), st.sampled_from([None, 1]))
@example({"text": "\ud83d\ude42 \ud800"}, True, 3, None)
def test_any_record(record: dict[str, object], ascii_only: bool, size: int, indent: int | None) -> None:
    line = json.dumps(record, ensure_ascii=ascii_only, indent=indent).replace("\n", "\r")
    check(line.encode("utf-8", "replace"), size)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet='{}[]":,\\u09afntrue -+.eE\t\x01é\ud83d', max_size=40) | st.sampled_from([
    '{"text":"\\ud83d\\ude42"}', '{"text":"a","text":"b"}', '{"text":"a","text":null}', '{"text":null,"text":"b"}',
    "{}", '{"a":NaN}', '{"a":1e999}', '{"a":' + "9" * 401 + "}", '{"a":01}', '{"a":-}', '{"a" 1}', '{"a":1,}', "{,}",
    '{"a":[1,]}', '{"a":[}', '{"a":]}', '{"a":{"text":"inner"}}', '{"a":"\\x"}', '{"a":"\x01"}', '{"a":tru}',
    '{"a":1}x', '{"a":"\\u12"}', '{"text":"' + "\\n" * 50 + '"}', '{"text":["a"]}', '{"text":{"a":1}}',
    '{"a":"b"', "{", '{"a":"b']),
    st.binary(max_size=3), st.integers(1, 30))
def test_any_line(line: str, noise: bytes, size: int) -> None:
    data = line.encode("utf-8", "surrogatepass")
    if data.startswith(b"{"):
        check(data + noise.replace(b"\n", b""), size)


def test_bytes_that_are_no_utf8_are_placed() -> None:
    for size in (1, 2, 5, 100):
        record = read_long_record(chunks(b'{"text":"ab\xe6\x9d\xff\xe6\x9d\xb1"}', size), "x line 7", "x", 1000)
        assert b"".join(record.blocks()).decode() == "ab\ufffd\ufffd東"
        assert (record.loss.invalid_bytes, record.loss.first_invalid) == (2, "x, byte 1011")


def test_depth_is_bounded() -> None:
    line = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(BadInput, match="nested too deeply"):
        read_long_record(chunks(line, 1 << 16), "x line 1", "x", 0)


@pytest.mark.parametrize(("data", "may"), [(b'{"text":"aaa', True), (b'{"te', True), (b"{", True),
                                           (b'{"a":[1,{"b":', True),
                                           (b"{ not JSON }", False), (b"{\n  x", False), (b'{"a":1}', True)])
def test_the_start_of_a_line_tells(data: bytes, may: bool) -> None:
    assert begins_object(data) == may


def test_memory_does_not_grow_with_the_line() -> None:
    """Megabytes in other fields, of the kinds that take most room when they are parsed, and 8 MB of text."""
    def line() -> Iterator[bytes]:
        yield b'{"html":"'
        for _ in range(20):
            yield b"\\n<p>\\ud83d\\ude42" * 5_000
        yield b'","list":[{}'
        for _ in range(8):
            yield b",{},[]" * 10_000
        yield b'],"text":"'
        for _ in range(40):
            yield "é🙂".encode() * 33_000
        yield b'"}'

    tracemalloc.start()
    record = read_long_record(line(), "x line 1", "x", 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert record.size == 40 * 33_000 * 6
    assert peak < 6_000_000
    record.close()
