from __future__ import annotations

from gpt2cli.reporter import Silent
from gpt2cli.webtext.dedup import text_digest, unique_documents
from gpt2cli.webtext.tally import StepTally


def test_white_space_and_unicode_form_do_not_matter() -> None:
    assert text_digest("a  b\n\tc\u00a0d ") == text_digest("a b c d")
    assert text_digest("caf\u00e9") == text_digest("cafe\u0301")
    assert text_digest("a b") != text_digest("ab")
    assert text_digest("A") != text_digest("a")


def test_the_first_wins_and_order_is_kept() -> None:
    texts = ["one", "two", " one", "three", "two\n", "one"]
    tally = StepTally("dedup")
    documents = [{"id": str(number), "url": f"u{number}", "text": text} for number, text in enumerate(texts)]
    assert [document["id"] for document in unique_documents(documents, tally, Silent())] == ["0", "1", "3"]
    assert (tally.read, tally.kept, tally.dropped) == (6, 3, {"duplicate text": 3})
