"""Streaming text: whole characters, exact stops, every byte in the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.sampling.text import TextStream, open_character

PIECES = st.lists(st.binary(max_size=4), max_size=30)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    return [*pieces, data[start:]]


@given(st.text(max_size=60), st.lists(st.integers(1, 3), max_size=60))
def test_what_is_shown_is_whole_characters_and_nothing_is_lost(text: str, sizes: list[int]) -> None:
    stream, shown = TextStream(), b""
    for piece in cut(text.encode(), sizes):
        part = stream.feed(piece)
        part.decode("utf-8")  # raises when a character is broken
        shown += part
    assert shown + stream.close() == text.encode()


@given(PIECES)
def test_bytes_that_are_no_text_come_out_as_they_are(pieces: list[bytes]) -> None:
    stream = TextStream()
    shown = b"".join(stream.feed(piece) for piece in pieces)
    assert shown + stream.close() == b"".join(pieces)


@given(st.text(alphabet="abä", max_size=40), st.lists(st.text(alphabet="abä", min_size=1, max_size=4), max_size=3),
       st.lists(st.integers(1, 3), max_size=60))
def test_text_is_cut_before_the_stop_that_is_complete_first(text: str, stops: list[str], sizes: list[int]) -> None:
    data = text.encode()
    stream, shown = TextStream(tuple(stops)), b""
    for piece in cut(data, sizes):
        before = len(data) if not stream.stopped else -1
        shown += stream.feed(piece)
        if stream.stopped:
            assert before > 0
            break
    shown += stream.close()
    assert not any(stop.encode() in shown for stop in stops)
    if stream.stopped:
        assert any(data.startswith(shown + stop.encode()) for stop in stops)
    else:
        assert shown == data


@pytest.mark.parametrize("stops", [("\n\n",), ("\n\nQ", "\n\n")])
def test_a_stop_across_token_borders_is_cut_exactly(stops: tuple[str, ...]) -> None:
    stream = TextStream(stops)
    assert stream.feed(b"A: yes.\n") == b"A: yes."
    assert stream.feed(b"\nQ: more") == b""
    assert stream.stopped
    assert stream.feed(b"ignored") == b"" and stream.close() == b""


def test_a_false_start_of_a_stop_is_shown_once_it_is_clear() -> None:
    stream = TextStream(("END",))
    assert [stream.feed(piece) for piece in (b"an E", b"N", b"X EN")] == [b"an ", b"", b"ENX "]
    assert stream.close() == b"EN"
    assert not stream.stopped


@pytest.mark.parametrize(("data", "size"), [
    (b"", 0), (b"a", 0), (b"a\xc3", 1), ("ä".encode(), 0), (b"\xe2\x82", 2), (b"\xe2", 1), (b"\xf0\x9f\x98", 3),
    ("\U0001f600".encode(), 0), (b"\x80", 0), (b"\xc3\xa4\x80", 0), (b"\xff", 0), (b"\xc0", 0), (b"\xf5\x80", 0),
    (b"\xe0\x80", 0), (b"\xed\xa0", 0), (b"\xf4\x90", 0), (b"\xf0\x80\x80", 0),
])
def test_open_character(data: bytes, size: int) -> None:
    assert open_character(data) == size
