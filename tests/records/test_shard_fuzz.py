"""Whatever the bytes, the parsers of the shard formats raise Gpt2Error or return what the types promise."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import Gpt2Error
from gpt2cli.records import shard_format as form
from gpt2cli.records.shard import ShardFile, ShardHeader, ShardWriter, read_shard
from gpt2cli.records.shard_set import load_shard_set, seal
from gpt2cli.records.verify import Reading
from gpt2cli.records.verify_shards import verify_shard_set
from gpt2cli.reporter import Silent

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, "0" * 64, "uint16", "train", "\ud800", "train-00000.tok.zst"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=5)


def changes(good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw some fields' other values; None of the drawn set removes nothing."""
    return st.dictionaries(st.sampled_from(sorted(good)), JSON, max_size=3)


HEADER = json.loads(form.pack_header(ShardHeader(50257, 50256, "0" * 64))[8:])
FOOTER = {"schema": form.FOOTER_SCHEMA, "tokens": 7, "documents": 2, "sha256": "0" * 64, "input_sha256": None,
          "text_bytes": 3, "header_sha256": "0" * 64, "frames_sha256": "0" * 64}
INDEX = form.pack_index(np.array([3, 4]))


@given(st.binary(max_size=200) | changes(HEADER).map(lambda edit: json.dumps(HEADER | edit).encode()))
@example(b'{"schema":"gpt2.shard/99999999999999999999"}')
@example(json.dumps(HEADER | {"vocabulary": "\ud800"}).encode())
def test_header(payload: bytes) -> None:
    try:
        header = form.parse_header(payload, "x")
    except Gpt2Error:
        return
    assert 0 <= header.eot < header.n_vocab < 1 << 31


@given(changes(FOOTER), st.just(INDEX) | st.binary(max_size=60) | st.just(INDEX[:-1]), st.integers(0, 2**32 - 1))
def test_footer(edit: dict[str, Any], index: bytes, claimed: int) -> None:
    text = json.dumps(FOOTER | edit).encode()
    for size in (len(text), claimed):
        body = struct.pack("<I", size) + text + index
        try:
            footer = form.parse_footer(hashlib.sha256(body).digest() + body, "x")
        except Gpt2Error:
            continue
        lengths = footer.lengths()
        assert (len(lengths), int(lengths.sum())) == (footer.documents, footer.tokens)


@given(st.binary(max_size=60), st.integers(0, 2**32 - 1), st.sampled_from([0, 0x80, 0xFF]))
def test_seek_table(entries: bytes, count: int, descriptor: int) -> None:
    for number in (count, len(entries) // 12):
        payload = entries + struct.pack("<IBI", number, descriptor, form.SEEKABLE)
        try:
            table = form.parse_seek_table(payload, "x")
        except Gpt2Error:
            continue
        assert table.shape == (number, 3) and len(entries) == 12 * number


def a_shard() -> bytes:
    stream = io.BytesIO()
    writer = ShardWriter(stream, ShardHeader(300, 299, "0" * 64))
    for length in (5, 0, 90):
        writer.write_document(np.arange(length), length)
    writer.close(None)
    return stream.getvalue()


SHARD = a_shard()
PARTS = [SHARD[a:b] for a, b in ((0, 8), (8, 60), (60, SHARD.index(form.ZSTD_MAGIC)),
                                 (SHARD.index(form.ZSTD_MAGIC), SHARD.index(b"\x51\x2a\x4d\x18")),
                                 (SHARD.index(b"\x51\x2a\x4d\x18"), SHARD.rindex(b"\x5e\x2a\x4d\x18")),
                                 (SHARD.rindex(b"\x5e\x2a\x4d\x18"), len(SHARD)))]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PARTS) | st.binary(max_size=12) | st.just(SHARD), max_size=9).map(b"".join))
@example(SHARD[-9:])
@example(struct.pack("<II", 0x184D2A5E, 9) + struct.pack("<IBI", 0, 0x80, form.SEEKABLE))
@example(SHARD + SHARD)
def test_readers(data: bytes) -> None:
    """Both readers agree on what is a shard."""
    try:
        streamed: bytes | None = b"".join(tokens.tobytes() for tokens in read_shard(io.BytesIO(data), "x")[1])
    except Gpt2Error:
        streamed = None
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            with ShardFile(file.name) as shard:
                sought: bytes | None = shard.read(0, shard.n_tokens).tobytes()
        except Gpt2Error:
            sought = None
    assert sought == streamed


@pytest.fixture(scope="module")
def index(shard_directory: Path) -> dict[str, Any]:
    """The index of a real set."""
    return dict(json.loads((shard_directory / "index.json").read_text()))


@settings(deadline=None, max_examples=60)
@given(edit=st.data(), sealed=st.booleans())
def test_index(index: dict[str, Any], shard_directory: Path, edit: st.DataObject, sealed: bool) -> None:
    """Fields of any kind, in the index, in its first file and in a split's totals, sealed anew or not."""
    changed = json.loads(json.dumps(index))
    changed |= edit.draw(changes(index))
    for part in (lambda: changed["files"][0], lambda: changed["splits"]["train"]):
        try:
            place = part()
            place |= edit.draw(changes(place))
        except (KeyError, TypeError, IndexError):
            pass
    try:
        changed = seal(changed) if sealed else changed
    except ValueError:  # a lone surrogate or an infinity: what no sealed index can hold
        pass
    with tempfile.TemporaryDirectory() as directory:
        for name in os.listdir(shard_directory):
            os.symlink(shard_directory / name, Path(directory) / name)
        (Path(directory) / "index.json").unlink()
        (Path(directory) / "index.json").write_text(json.dumps(changed))
        try:
            shards = load_shard_set(directory)
            shards.check_structure()
            for split in ("train", "val"):
                with shards.open(split) as stream:
                    stream.read(0, len(stream))
        except Gpt2Error:
            pass
        verify_shard_set(Path(directory), Reading(Silent(), "x"))
