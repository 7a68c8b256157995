"""Texts above a MiB are encoded as they are read: the same ids, counts and digest as held whole, in bounded parts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from gpt2cli.evaluation.protocols import settle
from gpt2cli.evaluation.texts import Texts, encode_special
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.vocabulary import gpt2_vocabulary

LINE = "The na\u00efve r\u00e9sum\u00e9 costs 12\u20ac;\r\n\ttwo  spaces, \U0001f600 and <|endoftext|> inside.\n"
TEXT = "\ufeff" + LINE * 24_000


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(gpt2_vocabulary())


@pytest.mark.parametrize("form", ["txt", "jsonl"])
@pytest.mark.parametrize("protocol", ["sliding", "harness"])
def test_a_long_text_is_the_same_text(tmp_path: Path, encoder: Encoder, form: str, protocol: str) -> None:
    path = tmp_path / f"d.{form}"
    path.write_bytes(TEXT.encode() if form == "txt" else json.dumps({"text": TEXT}).encode() + b"\n")
    settled = settle(protocol, 1024)
    (document,) = _read(Texts([str(path)], "auto", None, encoder, settled))
    chunks, counter = document
    expected = encode_special(encoder, TEXT) if settled.special else encoder.encode(TEXT)
    assert np.array_equal(np.concatenate(chunks), expected)
    assert (counter.units.n_bytes, counter.units.n_characters) == (len(TEXT.encode()), len(TEXT))
    assert counter.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    if protocol == "sliding":
        assert counter.units.n_words == len(TEXT.split())
        assert max(map(len, chunks)) < len(expected) / 5


def test_bytes_that_are_no_text_are_counted_in_a_long_one(tmp_path: Path, encoder: Encoder) -> None:
    path = tmp_path / "d.txt"
    path.write_bytes(b"caf\xe9 " * 300_000)
    texts = Texts([str(path)], "auto", None, encoder, settle("sliding", 1024))
    ((_, counter),) = _read(texts)
    assert counter.units.n_bytes == len("caf\ufffd ".encode()) * 300_000
    assert any("300,000 byte sequences that are not UTF-8" in line for line in texts.sentences())


def _read(texts: Texts) -> list[tuple]:
    return [(list(document.ids), document.counter) for document in texts.documents()]
