"""A Bloom filter of a train side's n-grams as a file: all of them are in it, others with a known small probability.

The file: a first line `gpt2-bloom/1`, the header as JSON on the second (BloomHeader; sealed by its own digest), spaces
up to 4,096 bytes, then the bits, the lowest of a byte first. An n-gram's 128 bits (a, b; ngram_hashes) set the bits
mixed(a + i b) mod `bits` for i = 1 to `probes`. With 16 probes a filter is a tenth larger than with the 27 that would
make it smallest, and twice as fast. GPT-2's paper had filters with a false-positive rate of 1e-8.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from gpt2cli.errors import BadInput, Interrupted, UsageFault
from gpt2cli.records.artefact_kind import BLOOM_START
from gpt2cli.records.jsonl import parse_line
from gpt2cli.records.provenance import json_sha256
from gpt2cli.records.schemas import refuse_newer
from gpt2cli.records.streams import open_raw_input
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.word_windows import mixed

HEADER_BYTES = 4096
PROBES = 16
RATE = 1e-8
LARGEST = 1 << 40
"""Most bytes of bits in a file that is read."""
MAX_N = 1000
"""Longest n-gram."""
_LEAST_BITS = 1 << 12
_CHUNK = 1 << 22
_AT_ONCE = 1 << 16
_MOST = 1 << 53
_BIT = np.uint8(1) << np.arange(8, dtype=np.uint8)


@dataclass(frozen=True)
class BloomHeader:
    """What a filter says of itself.

    n: words of an n-gram; bits, probes: its form; capacity, promised_rate: what it was made for; n_grams: those put in
    (again counted again); ones: bits that are set; documents, words: of the train side; unicode: the version of
    Unicode that said what a letter is; bits_sha256: of the bits.
    """

    n: int
    bits: int
    probes: int
    capacity: int
    promised_rate: float
    n_grams: int
    ones: int
    documents: int
    words: int
    unicode: str
    bits_sha256: str

    @property
    def false_positive_rate(self) -> float:
        """The probability that an n-gram which was not put in is found: all its bits are set by others."""
        return float((self.ones / self.bits) ** self.probes)


def bits_for(capacity: int, rate: float, probes: int = PROBES) -> int:
    """Return the bits, a multiple of 8, for `capacity` n-grams at false-positive rate `rate` (0 to 1, both out).

    (1 - exp(-probes capacity / bits))^probes = rate, solved for bits (Bloom 1970).
    """
    bits = -probes * capacity / math.log1p(-(rate ** (1 / probes)))
    return max(_LEAST_BITS, -(-math.ceil(bits) // 8) * 8)


class BloomFilter:
    """Bits uint8 [bits / 8], of which `header` tells."""

    def __init__(self, header: BloomHeader, data: np.ndarray) -> None:
        self.header = header
        self._data = data

    @classmethod
    def empty(cls, n: int, capacity: int, rate: float) -> BloomFilter:
        """Return a filter without an n-gram. Raises UsageFault when it would not fit a file."""
        bits = bits_for(capacity, rate)
        if bits // 8 > LARGEST:
            raise UsageFault(f"a filter for {capacity:,} n-grams would have {bits // 8:,} bytes; build several, each "
                             "of a part of the train side")
        header = BloomHeader(n, bits, PROBES, capacity, rate, 0, 0, 0, 0, unicodedata.unidata_version, "")
        return cls(header, np.zeros(bits // 8, dtype=np.uint8))

    @classmethod
    def open(cls, path: str, reporter: Reporter) -> BloomFilter:
        """Return the filter in a file, mapped, its digest checked. Raises BadInput when it is not whole."""
        if path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
            raise UsageFault(f"--bloom {path}: a filter is read at many places, so it must be an ordinary file")
        with open_raw_input(path) as stream:
            header = check_bloom(stream, path, reporter)
        return cls(header, np.memmap(path, dtype=np.uint8, mode="r", offset=HEADER_BYTES))

    def put(self, hashes: np.ndarray) -> None:
        """Put n-grams in by their hashes, uint64 [k, 2]."""
        for at in range(0, len(hashes), _AT_ONCE):
            part = hashes[at : at + _AT_ONCE]
            for places in self._places(part[~self.holds(part)]):
                where, what = self._split(places)
                while len(where):  # of two n-grams with bits in one byte the later would undo the earlier's
                    self._data[where] |= what
                    lost = (self._data.take(where) & what) == 0
                    where, what = where[lost], what[lost]

    def holds(self, hashes: np.ndarray) -> np.ndarray:
        """Return for n-grams by their hashes, uint64 [k, 2], whether they may be in the filter, bool [k]."""
        left = np.arange(len(hashes))
        for probe in range(1, self.header.probes + 1):
            where, what = self._split(self._place(hashes[left], probe))
            left = left[(self._data.take(where) & what) != 0]
        held = np.zeros(len(hashes), dtype=bool)
        held[left] = True
        return held

    def tally(self, n_grams: int, documents: int, words: int) -> None:
        """Take into the header what was put in, and how full the filter is."""
        ones = sum(int(np.bitwise_count(self._data[at : at + _CHUNK]).sum())
                   for at in range(0, len(self._data), _CHUNK))
        self.header = dataclasses.replace(self.header, n_grams=n_grams, ones=ones, documents=documents, words=words,
                                          bits_sha256=hashlib.sha256(self._data.data).hexdigest())

    def write(self, stream: BinaryIO) -> None:
        """Write the file, after tally()."""
        fields = dataclasses.asdict(self.header)
        text = json.dumps({**fields, "header_sha256": json_sha256(fields)}, separators=(",", ":"))
        stream.write((BLOOM_START + text.encode() + b"\n").ljust(HEADER_BYTES - 1) + b"\n")
        for at in range(0, len(self._data), _CHUNK):
            stream.write(self._data[at : at + _CHUNK].tobytes())

    def _places(self, hashes: np.ndarray) -> Iterator[np.ndarray]:
        for probe in range(1, self.header.probes + 1):
            yield self._place(hashes, probe)

    def _place(self, hashes: np.ndarray, probe: int) -> np.ndarray:
        bits = np.uint64(self.header.bits)
        number = mixed(hashes[:, 0] + np.uint64(probe) * hashes[:, 1])
        # numpy divides by a scalar at a multiplication's speed, and has no such remainder
        place: np.ndarray = number - number // bits * bits
        return place

    @staticmethod
    def _split(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (places >> np.uint64(3)).view(np.int64), _BIT.take((places & np.uint64(7)).view(np.int64))


def check_bloom(stream: BinaryIO, name: str, reporter: Reporter) -> BloomHeader:
    """Return the header of a filter, read to its end; raise BadInput when it is damaged, cut short or of newer form."""
    header = read_header(stream.read(HEADER_BYTES), name)
    digest, left, ones = hashlib.sha256(), header.bits // 8, 0
    while left:
        data = stream.read(min(_CHUNK, left))
        if not data:
            raise BadInput(f"{name} was cut short: {left:,} of its {header.bits // 8 + HEADER_BYTES:,} bytes are "
                           "missing; build the filter again")
        digest.update(data)
        ones += int(np.bitwise_count(np.frombuffer(data, dtype=np.uint8)).sum())
        left -= len(data)
        reporter.progress((header.bits // 8 - left) / 1e6, header.bits / 8e6, "MB of the filter")
        if reporter.stopping():
            raise Interrupted
    if stream.read(1):
        raise BadInput(f"{name} goes on behind its last bit; build the filter again")
    if digest.hexdigest() != header.bits_sha256 or ones != header.ones:
        raise BadInput(f"{name} is damaged: its bits are not those that its header tells of; build the filter again")
    return header


def read_header(start: bytes, name: str) -> BloomHeader:
    """Return what the first HEADER_BYTES of a file say. Raises BadInput for what is no sound header."""
    if not start.startswith(BLOOM_START):
        refuse_newer(start[:64].partition(b"\n")[0].decode("latin-1"), BLOOM_START.decode().strip(), name)
        raise BadInput(f"{name} is no Bloom filter of gpt2 overlap's; --write-bloom makes one")
    damaged = f"{name} is damaged: its header is not what was written; build the filter again"
    lines = start[len(BLOOM_START) :].split(b"\n")
    if len(start) < HEADER_BYTES or len(lines) != 3 or lines[1].strip(b" ") or lines[2]:
        raise BadInput(damaged)
    fields = parse_line(lines[0], f"{name} line 2")
    seal = fields.pop("header_sha256", None)
    try:
        sealed = json_sha256(fields) == seal
    except (UnicodeEncodeError, RecursionError):
        sealed = False
    kinds = {field.name: field.type for field in dataclasses.fields(BloomHeader)}
    if not sealed or fields.keys() != kinds.keys():
        raise BadInput(damaged)
    for field, kind in kinds.items():
        if not _is(fields[field], str(kind)):
            raise BadInput(f"{damaged} ({field})")
    header = BloomHeader(**fields)
    if header.bits % 8 or not 0 < header.bits // 8 <= LARGEST or header.ones > header.bits or not (
            1 <= header.probes <= 64 and 1 <= header.n <= MAX_N and 0 < header.promised_rate < 1):
        raise BadInput(f"{damaged} (a number is out of range)")
    return header


def _is(value: Any, kind: str) -> bool:
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST
    return isinstance(value, float if kind == "float" else str)
