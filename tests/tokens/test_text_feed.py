"""Text for the trainer: cut where no word is, whole, in little memory, and ended before a count overflows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import regex

from gpt2cli.reporter import Silent
from gpt2cli.tokens import text_feed
from gpt2cli.tokens.text_feed import TextFeed, cut_text
from gpt2cli.tokens.train_merges import MergeConfig, train_vocabulary

PATTERN = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")


def test_pieces_have_the_words_of_the_whole(plays: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_feed, "PIECE", 50)
    text = (plays / "macbeth.txt").read_text(encoding="utf-8") + "\r\n\u3000  'll 東京 x"
    pieces = list(cut_text(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 50 < len(pieces)
    assert [word for piece in pieces for word in PATTERN.findall(piece)] == PATTERN.findall(text)


def test_text_without_a_space_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_feed, "PIECE", 10)
    assert list(cut_text("a" * 25)) == ["a" * 10, "a" * 10, "a" * 5]


def test_long_documents_come_whole_and_in_pieces(tmp_path: Path) -> None:
    text = "naïve 東京\n" * 300_000 + "é" * 200_000
    (tmp_path / "long.jsonl").write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    (tmp_path / "long.txt").write_text(text, encoding="utf-8")
    for path in tmp_path.iterdir():
        feed = TextFeed([str(path)], "auto")
        pieces = list(feed)
        assert feed.error is None
        assert "".join(pieces) == text
        assert max(map(len, pieces)) <= text_feed.PIECE
        assert (feed.text_bytes, feed.ended, feed.tally.documents) == (len(text.encode()), True, 1)


def test_ends_before_a_pair_is_too_frequent_to_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are exact where it matters: 300 texts of 10 "ab" pass a limit of 3,000 and not one of 2,999."""
    monkeypatch.setattr(text_feed, "_COUNTED_AT_ONCE", 100)
    (tmp_path / "d.jsonl").write_text(('{"text":"' + "ab " * 10 + '"}\n') * 300)
    for limit, full in ((3_100, False), (2_000, True)):
        monkeypatch.setattr(text_feed, "PAIR_LIMIT", limit)
        reporter = Silent()
        summary = train_vocabulary([str(tmp_path / "d.jsonl")], MergeConfig(258), reporter)
        assert (summary.text_bytes == 9_000) is not full
        assert any("read only the first" in line for line in reporter.warnings) is full
        if full:
            assert 2_000 - 200 < summary.text_bytes / 3 <= 2_000
