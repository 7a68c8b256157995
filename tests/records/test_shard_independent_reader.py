"""A reader written from gpt2-shard(5) alone, with struct and zstandard: the page says enough, and says the truth."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import zstandard

from gpt2cli.records.shard import ShardHeader, ShardWriter


class Shard:
    """One shard (not joined), front to back; every statement of the page is asserted."""

    def __init__(self, data: bytes) -> None:
        frames = []
        at = 0
        while at < len(data):
            size = self._frame_size(data, at)
            frames.append(data[at : at + size])
            at += size
        header, *body, footer, table = frames
        assert struct.unpack_from("<I", header)[0] == 0x184D2A50
        self.header = json.loads(header[8:])
        assert self.header["schema"] == "gpt2.shard/1"
        code, width = {"uint16": ("H", 2), "uint32": ("I", 4)}[self.header["dtype"]]
        assert width == (2 if self.header["n_vocab"] <= 65_536 else 4)
        raw = [zstandard.ZstdDecompressor().decompress(frame) for frame in body]
        for frame, content in zip(body, raw, strict=True):
            found = zstandard.get_frame_parameters(frame)
            assert found.has_checksum and found.dict_id == 0 and found.content_size == len(content)
        assert all(len(content) == 131_072 * width for content in raw[:-1])
        content = b"".join(raw)
        self.tokens = list(struct.unpack(f"<{len(content) // width}{code}", content))
        self._check_footer(footer, header, content)
        self._check_table(table, frames[:-1], [0, *map(len, raw), 0])

    @staticmethod
    def _frame_size(data: bytes, at: int) -> int:
        magic, size = struct.unpack_from("<II", data, at)
        if 0x184D2A50 <= magic <= 0x184D2A5F:
            return 8 + size
        assert magic == 0xFD2FB528
        decoder = zstandard.ZstdDecompressor().decompressobj()
        decoder.decompress(data[at:])
        return len(data) - at - len(decoder.unused_data)

    def _check_footer(self, frame: bytes, header: bytes, content: bytes) -> None:
        assert struct.unpack_from("<I", frame)[0] == 0x184D2A51
        payload = frame[8:]
        assert hashlib.sha256(payload[32:]).digest() == payload[:32]
        (n,) = struct.unpack_from("<I", payload, 32)
        self.footer = footer = json.loads(payload[36 : 36 + n])
        assert footer["schema"] == "gpt2.shard-footer/1"
        assert footer["tokens"] == len(self.tokens)
        assert footer["sha256"] == hashlib.sha256(content).hexdigest()
        self.frames_sha256 = footer["frames_sha256"]
        assert footer["header_sha256"] == hashlib.sha256(header).hexdigest()
        index = payload[36 + n :]
        lengths = zstandard.ZstdDecompressor().decompress(index) if index else b""
        self.lengths = [length for (length,) in struct.iter_unpack("<I", lengths)]
        ends = [at + 1 for at, token in enumerate(self.tokens) if token == self.header["eot"]]
        assert len(ends) == footer["documents"]
        total = 0
        for length, end in zip(self.lengths, ends, strict=True):
            total += length
            assert total == end

    def _check_table(self, frame: bytes, before: list[bytes], raw_sizes: list[int]) -> None:
        assert struct.unpack_from("<I", frame)[0] == 0x184D2A5E
        count, descriptor, magic = struct.unpack("<IBI", frame[-9:])
        assert (count, descriptor, magic) == (len(before), 0x80, 0x8F92EAB1)
        entries = list(struct.iter_unpack("<III", frame[8:-9]))
        checksums = [0x51D8E999, *(struct.unpack("<I", data[-4:])[0] for data in before[1:-1]), 0x51D8E999]
        assert entries == list(zip(map(len, before), raw_sizes, checksums, strict=True))
        assert hashlib.sha256(frame[8:-9][12:-12]).hexdigest() == self.frames_sha256

    def vocabulary(self) -> list[bytes]:
        """Return the bytes of every id."""
        text = self.header["vocabulary"]
        assert hashlib.sha256(text.encode()).hexdigest() == self.header["tokenizer_sha256"]
        *lines, last = text.split("\n")[:-1]
        assert last == f"<|endoftext|> {self.header['eot']}"
        assert [line.split(" ")[1] for line in lines] == [str(number) for number in range(self.header["n_vocab"] - 1)]
        return [base64.b64decode(line.split(" ")[0]) for line in lines]

    def texts(self) -> list[bytes]:
        """Return each document's bytes."""
        table, texts, at = self.vocabulary(), [], 0
        for length in self.lengths:
            texts.append(b"".join(table[token] for token in self.tokens[at : at + length - 1]))
            at += length
        return texts


class SeekingReader:
    """Random access as the page tells it: the tail, the table, the footer, then single frames; nothing else is read."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115
        size = self._file.seek(0, 2)
        count, descriptor, magic = struct.unpack("<IBI", self._at(size - 9, 9))
        assert (descriptor, magic) == (0x80, 0x8F92EAB1)
        table = self._at(size - 9 - 12 * count - 8, 12 * count + 17)
        assert struct.unpack_from("<II", table) == (0x184D2A5E, len(table) - 8)
        entries = list(struct.iter_unpack("<III", table[8:-9]))
        assert sum(compressed for compressed, _, _ in entries) + len(table) == size
        header = self._at(0, entries[0][0])
        self.header = json.loads(header[8:])
        footer = self._at(size - len(table) - entries[-1][0], entries[-1][0])[8:]
        assert hashlib.sha256(footer[32:]).digest() == footer[:32]
        self.footer = json.loads(footer[36 : 36 + struct.unpack_from("<I", footer, 32)[0]])
        assert self.footer["header_sha256"] == hashlib.sha256(header).hexdigest()
        assert self.footer["frames_sha256"] == hashlib.sha256(table[8 + 12 : -9 - 12]).hexdigest()
        self._width = {"uint16": 2, "uint32": 4}[self.header["dtype"]]
        self._frames = []
        offset = entries[0][0]
        for compressed, _, checksum in entries[1:-1]:
            self._frames.append((offset, compressed, checksum))
            offset += compressed

    def _at(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(size)
        assert len(data) == size
        return data

    def token(self, number: int) -> int:
        """Return one token, from the one frame that holds it: all but the last hold 131,072."""
        offset, size, checksum = self._frames[number // 131_072]
        frame = self._at(offset, size)
        assert struct.unpack("<I", frame[-4:])[0] == checksum
        start = number % 131_072 * self._width
        return int.from_bytes(zstandard.decompress(frame)[start : start + self._width], "little")


def test_random_access_by_the_seek_table(tmp_path: Path) -> None:
    draw = random.Random(1)
    for n_vocab in (50_257, 70_000):
        path = tmp_path / f"{n_vocab}.tok.zst"
        ids = [draw.randrange(n_vocab - 1) for _ in range(300_000)]
        with open(path, "wb") as stream:
            writer = ShardWriter(stream, ShardHeader(n_vocab, n_vocab - 1, "0" * 64))
            writer.write_document(np.array(ids))
            writer.close(None)
        reader = SeekingReader(path)
        for number in (0, 131_071, 131_072, 299_999, *(draw.randrange(300_000) for _ in range(20))):
            assert reader.token(number) == ids[number]
        assert reader.token(300_000) == n_vocab - 1


def source_texts(documents: Path) -> list[bytes]:
    lines = zstandard.ZstdDecompressor().decompress(documents.read_bytes(), max_output_size=1 << 26).splitlines()
    return [json.loads(line)["text"].encode() for line in lines]


def test_a_shard(shard: Path, documents: Path) -> None:
    found, texts = Shard(shard.read_bytes()), source_texts(documents)
    assert found.texts() == texts
    assert found.footer["text_bytes"] == sum(map(len, texts))
    digest = hashlib.sha256(b"".join(hashlib.sha256(text).digest() for text in texts))
    assert found.footer["input_sha256"] == digest.hexdigest()


def test_a_shard_set(shard_directory: Path, shard: Path, documents: Path) -> None:
    index = json.loads((shard_directory / "index.json").read_bytes())
    assert index["schema"] == "gpt2.shards/1"
    rest = json.dumps({name: index[name] for name in index if name != "index_sha256"}, sort_keys=True,
                      ensure_ascii=False, separators=(",", ":"))
    assert index["index_sha256"] == hashlib.sha256(rest.encode()).hexdigest()
    texts, totals = [], {}
    for entry in index["files"]:
        data = (shard_directory / entry["name"]).read_bytes()
        assert entry["tokens_sha256"] == Shard(data).footer["sha256"]
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        found = Shard(data)
        for name in ("tokenizer_sha256", "n_vocab", "eot", "dtype"):
            assert found.header[name] == index[name]
        for name in ("tokens", "documents", "text_bytes"):
            assert found.footer[name] == entry[name]
        total = totals.setdefault(entry["split"], {"tokens": [], "texts": [], "lengths": []})
        total["tokens"] += found.tokens
        total["lengths"] += found.lengths
        total["texts"] += found.texts()
    code = {"uint16": "H", "uint32": "I"}[index["dtype"]]
    digests = {"tokenizer_sha256": index["tokenizer_sha256"]}
    for split in ("train", "val"):
        tokens = totals[split]["tokens"]
        digests[split] = hashlib.sha256(struct.pack(f"<{len(tokens)}{code}", *tokens)).hexdigest()
        assert index["splits"][split] == {
            "tokens": len(tokens), "documents": len(totals[split]["texts"]),
            "text_bytes": sum(map(len, totals[split]["texts"])), "sha256": digests[split],
            "padding_tokens": 0,
            "lengths": dict(Counter(str(2 ** (length.bit_length() - 1)) for length in totals[split]["lengths"])),
        }
        texts += totals[split]["texts"]
    canonical = json.dumps(digests, sort_keys=True, separators=(",", ":")).encode()
    assert index["data_sha256"] == hashlib.sha256(canonical).hexdigest()
    assert sorted(texts) == sorted(source_texts(documents))
    whole = Shard(shard.read_bytes())
    assert index["inputs"] == [{name: whole.footer[name] for name in ("sha256", "tokens", "documents", "input_sha256")}
                               | {"source": None}]
    _check_split(whole, index, totals)


def _check_split(whole: Shard, index: dict, totals: dict) -> None:
    """The split is the page's hash of seed and ids, and documents keep their order."""
    limit = int(index["pack"]["val_fraction"] * 2**64)
    key = index["pack"]["seed"].to_bytes(8, "little")
    expected: dict[str, list[bytes]] = {"train": [], "val": []}
    at = 0
    for length, text in zip(whole.lengths, whole.texts(), strict=True):
        ids = struct.pack(f"<{length - 1}I", *whole.tokens[at : at + length - 1])
        at += length
        digest = hashlib.blake2b(ids, digest_size=8, key=key).digest()
        expected["val" if int.from_bytes(digest, "little") < limit else "train"].append(text)
    assert {split: totals[split]["texts"] for split in expected} == expected
