"""llm.c's, nanoGPT's and Megatron's files by struct alone, written and read: what those programs' own code does."""

from __future__ import annotations

import functools
import io
import itertools
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gpt2cli.records.shard import ShardReader, ShardWriter
from gpt2cli.reporter import Silent
from gpt2cli.tokens.export_tokens import ExportConfig, export_tokens
from gpt2cli.tokens.import_tokens import ImportConfig, ImportSummary, import_tokens
from gpt2cli.tokens.tokenize import shard_header
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary, vocabulary_from_merges

EOT = 50256
Documents = Sequence[Sequence[int]]


@functools.cache
def wide_vocabulary() -> Vocabulary:
    """65,961 ids: every byte, every pair of ASCII letters, 63,000 triples; so a token takes 4 bytes."""
    letters = [bytes([byte]) for byte in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    pairs = list(itertools.product(letters, letters))
    triples = itertools.islice(((left + right, third) for left, right in pairs for third in letters), 63_000)
    return vocabulary_from_merges([*pairs, *triples], "wide")


def shard_of(documents: Documents, vocabulary: Vocabulary | None = None, source: str | None = None) -> bytes:
    """Return a shard; its digests of the text are made up, as no text was there."""
    stream = io.BytesIO()
    writer = ShardWriter(stream, shard_header(vocabulary or gpt2_vocabulary(), source))
    for ids in documents:
        writer.write_document(np.array(ids, dtype=np.uint32))
    writer.close("0" * 64)
    return stream.getvalue()


def documents_of(shard: bytes) -> list[list[int]]:
    return [ids.tolist() for ids in ShardReader(io.BytesIO(shard), "x").documents()]


def exported(tmp_path: Path, form: str, documents: Documents, vocabulary: Vocabulary | None = None, **more: object
             ) -> Path:
    """Export a shard of `documents` to a new directory; return it."""
    (tmp_path / "in.tok.zst").write_bytes(shard_of(documents, vocabulary))
    config = ExportConfig(form, **more)  # type: ignore[arg-type]
    export_tokens([str(tmp_path / "in.tok.zst")], str(tmp_path / "out"), config, Silent())
    return tmp_path / "out"


def imported(form: str, *paths: Path, reporter: Silent | None = None, **more: object
             ) -> tuple[list[list[int]], ImportSummary]:
    """Import files; return the documents' ids and the summary."""
    stream = io.BytesIO()
    config = ImportConfig(form, **more)  # type: ignore[arg-type]
    summary = import_tokens([str(path) for path in paths], stream, config, reporter or Silent())
    return documents_of(stream.getvalue()), summary


def llmc_file(tokens: Sequence[int], magic: int = 20240520, version: int = 1, code: str = "H", count: int | None = None
              ) -> bytes:
    head = struct.pack("<3i", magic, version, len(tokens) if count is None else count).ljust(1024, b"\0")
    return head + struct.pack(f"<{len(tokens)}{code}", *tokens)


def read_llmc_file(data: bytes) -> list[int]:
    """Read as llm.c's dataloader does: magic, version, count, and a file of exactly that size."""
    magic, version, count = struct.unpack_from("<3i", data)
    width, code = {(20240520, 1): (2, "H"), (20240801, 7): (4, "I")}[magic, version]
    assert data[12:1024] == bytes(1012)
    assert len(data) == 1024 + width * count
    return list(struct.unpack_from(f"<{count}{code}", data, 1024))


def llmc_documents(tokens: Sequence[int], eot: int = EOT) -> list[list[int]]:
    """Split a stream that has end-of-text before each document."""
    documents: list[list[int]] = []
    for token in tokens:
        if token == eot:
            documents.append([])
        else:
            documents[-1].append(token)
    return documents


MEGATRON_CODES = {"B": 1, "b": 2, "h": 3, "i": 4, "q": 5, "H": 8}


def megatron_files(prefix: Path, documents: Sequence[Documents], code: str = "H") -> Path:
    """Write PREFIX.bin and .idx as Megatron's builder does: a document is a list of sequences."""
    sequences = [sequence for document in documents for sequence in document]
    width = struct.calcsize(code)
    pointers, ends, at = [], [0], 0
    for sequence in sequences:
        pointers.append(at)
        at += len(sequence) * width
    for document in documents:
        ends.append(ends[-1] + len(document))
    index = b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", MEGATRON_CODES[code])
    index += struct.pack("<Q", len(sequences)) + struct.pack("<Q", len(ends))
    index += struct.pack(f"<{len(sequences)}i", *map(len, sequences))
    index += struct.pack(f"<{len(pointers)}q", *pointers) + struct.pack(f"<{len(ends)}q", *ends)
    Path(f"{prefix}.idx").write_bytes(index)
    data = b"".join(struct.pack(f"<{len(sequence)}{code}", *sequence) for sequence in sequences)
    Path(f"{prefix}.bin").write_bytes(data)
    return prefix


def read_megatron_files(prefix: Path) -> list[list[list[int]]]:
    """Return documents of sequences of tokens; every byte of the index is accounted for."""
    index, data = Path(f"{prefix}.idx").read_bytes(), Path(f"{prefix}.bin").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, n, d = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1
    letter = {value: key for key, value in MEGATRON_CODES.items()}[code]
    sizes = struct.unpack_from(f"<{n}i", index, 34)
    pointers = struct.unpack_from(f"<{n}q", index, 34 + 4 * n)
    ends = struct.unpack_from(f"<{d}q", index, 34 + 12 * n)
    assert len(index) == 34 + 12 * n + 8 * d
    places = zip(sizes, pointers, strict=True)
    sequences = [list(struct.unpack_from(f"<{size}{letter}", data, at)) for size, at in places]
    assert ends[0] == 0 and ends[-1] == n
    return [sequences[begin:end] for begin, end in itertools.pairwise(ends)]
