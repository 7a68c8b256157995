"""Signature files: what dedup knows of the documents of one input, a fixed-width row each, sorted by precedence.

A file is one line of JSON (gpt2.signatures/1), the rows, and the 128-bit BLAKE2b of all before. Precedence is
`created_utc` (none: after all), then the id, then the record itself: a pure function of the document, so that files
of any division of a corpus merge to one order. See gpt2-records(5).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import parse_line
from gpt2cli.records.named_file import open_named
from gpt2cli.records.schemas import refuse_newer
from gpt2cli.webtext.dedup_profiles import DedupProfile

SCHEMA = "gpt2.signatures/1"
ID_BYTES = 64
"""Bytes of an id that a row holds, all of a sha256 in hexadecimal; of a longer one the beginning and a hash."""
MAX_HEADER = 1 << 16
MAX_VALUES = 1 << 12
MAX_COUNT = 1 << 40
_DIGEST = 16
_HASH_DIGITS = 16
_NO_TIME = b"\xff" * 8


def row_dtype(values: int) -> np.dtype:
    """Return the type of a row: precedence, hash of the text, line in the input, whether it has words, signature."""
    return np.dtype([("order", f"S{8 + ID_BYTES + _DIGEST}"), ("text", "S16"), ("line", "<u8"), ("words", "u1"),
                     ("signature", "<u4", (values,))])


def precedence(created_utc: Any, name: str, line: bytes) -> bytes:
    """Return the bytes by which documents are ordered: created_utc, then id (`name`), then the record's own hash."""
    return _time_key(created_utc) + _id_key(name).ljust(ID_BYTES, b"\0") + hashlib.blake2b(
        line, digest_size=_DIGEST).digest()


def id_of(order: bytes) -> str:
    """Return the id in a row's precedence; a long one's beginning and hash."""
    return order.ljust(8 + ID_BYTES, b"\0")[8 : 8 + ID_BYTES].rstrip(b"\0").decode("utf-8", "replace")


def _time_key(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _NO_TIME
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _NO_TIME
    try:
        number = float(value) + 0.0  # -0.0 is 0
    except OverflowError:
        return _NO_TIME
    if not math.isfinite(number):
        return _NO_TIME
    bits = int.from_bytes(struct.pack(">d", number))
    return (bits ^ (2**64 - 1 if bits >> 63 else 1 << 63)).to_bytes(8)


def _id_key(name: str) -> bytes:
    data = name.encode()
    if len(data) <= ID_BYTES:
        return data
    hashed = hashlib.blake2b(data, digest_size=_HASH_DIGITS // 2).hexdigest()
    return data[: ID_BYTES - _HASH_DIGITS - 1].decode("utf-8", "ignore").encode() + b"~" + hashed.encode()


@dataclass(frozen=True)
class InputFacts:
    """What was read: the documents, the lines of the input, and the 128-bit BLAKE2b of its lines in hexadecimal."""

    documents: int
    lines: int
    input_blake2b: str


def write_signatures(file: BinaryIO, profile: DedupProfile, facts: InputFacts, blocks: Iterable[np.ndarray]) -> None:
    """Write a signature file of rows that come sorted."""
    digest = hashlib.blake2b(digest_size=_DIGEST)
    head = json.dumps({"schema": SCHEMA, **dataclasses.asdict(profile), **dataclasses.asdict(facts)},
                      separators=(",", ":")).encode() + b"\n"
    digest.update(head)
    file.write(head)
    for block in blocks:
        data = np.ascontiguousarray(block).view(np.uint8).data
        digest.update(data)
        file.write(data)
    file.write(digest.digest())


@dataclass(frozen=True)
class SignatureFile:
    """A signature file whose head was read; its rows are checked while they are."""

    path: Path
    profile: DedupProfile
    facts: InputFacts
    digest: str
    """Its last 16 bytes in hexadecimal, which name its content."""

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """Yield the rows, at most `rows` at a time. Raises BadInput when they are not what was written."""
        dtype = row_dtype(self.profile.values)
        digest = hashlib.blake2b(digest_size=_DIGEST)
        with open_named(self.path) as file:
            digest.update(file.readline(MAX_HEADER))
            left = self.facts.documents
            rows = min(rows, 1 + os.fstat(file.fileno()).st_size // dtype.itemsize)  # all asked for is allocated
            while left:
                data = file.read(min(rows, left) * dtype.itemsize)
                digest.update(data)
                left -= len(data) // dtype.itemsize
                if not data or len(data) % dtype.itemsize:
                    raise BadInput(f"{self.path} was cut short; make it again")
                block = np.frombuffer(data, dtype=dtype)
                if int(block["line"].max()) >= self.facts.lines:
                    raise BadInput(f"{self.path} is damaged: it holds a line beyond those of its input")
                yield block
        if digest.hexdigest() != self.digest:
            raise BadInput(f"{self.path} is damaged: its rows don't have the hash it ends with; make it again")


def open_signatures(path: str | os.PathLike[str]) -> SignatureFile:
    """Return a signature file. Raises BadInput for anything else, UsageFault when it is not there."""
    try:
        with open_named(path) as file:
            head = file.readline(MAX_HEADER)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _DIGEST))
            digest = file.read(_DIGEST).hex()
    except FileNotFoundError:
        raise UsageFault(f"there is no {path}") from None
    except IsADirectoryError:
        raise UsageFault(f"{path} is a directory; name the signature files in it") from None
    if not head.startswith(b'{"schema":"gpt2.signatures/') or not head.endswith(b"\n"):
        raise BadInput(f"{path} is no signature file; dedup --stage signatures makes one")
    profile, facts = _head_of(parse_line(head, str(path)), str(path))
    if size != len(head) + facts.documents * row_dtype(profile.values).itemsize + _DIGEST:
        raise BadInput(f"{path} was cut short, or something was added to it; make it again")
    return SignatureFile(Path(path), profile, facts, digest)


def _head_of(head: dict[str, Any], name: str) -> tuple[DedupProfile, InputFacts]:
    refuse_newer(head["schema"], SCHEMA, name)
    if head["schema"] != SCHEMA:
        raise BadInput(f"{name} is no signature file; dedup --stage signatures makes one")
    counts = [_count(head.get(field)) for field in ("ngram", "bands", "rows", "documents", "lines")]
    ngram, bands, rows, documents, lines = counts
    similarity, digest = head.get("similarity"), head.get("input_blake2b")
    if min(counts) < 0 or ngram < 1 or bands * rows > MAX_VALUES or not isinstance(digest, str) \
            or not isinstance(similarity, float):
        raise BadInput(f"{name}: the first line of this signature file makes no sense; make it again")
    return DedupProfile(ngram, bands, rows, similarity), InputFacts(documents, lines, digest)


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < MAX_COUNT else -1
