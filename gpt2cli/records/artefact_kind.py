"""What a path or a stream holds, told by its content: an artefact of ours, or somebody else's file by its name."""

from __future__ import annotations

import re
from pathlib import Path

from gpt2cli.records.checkpoint import MANIFEST
from gpt2cli.records.run_directory import CHECKPOINTS, RUN
from gpt2cli.records.shard_format import HEADER_MAGIC
from gpt2cli.records.shard_set import INDEX_NAME
from gpt2cli.records.streams import SKIPPABLE_MAGICS, ZSTD_MAGIC

SHARD, SHARD_SET, RECORDS, CHECKPOINT, MODEL, WEIGHTS, VOCABULARY, RUN_DIRECTORY, DETECTOR = (
    "shard", "shard set", "records", "checkpoint", "model", "weights", "vocabulary", "run", "detector")
BLOOM = "Bloom filter"
BLOOM_START = b"gpt2-bloom/1\n"
"""The first line of a Bloom filter of n-grams."""
MISSING, UNREADABLE, EMPTY, UNKNOWN = "missing", "unreadable", "empty", "unknown"
DETECTOR_START = b'{"__metadata__":{"gpt2.detector":'
"""What a detector, which is a safetensors file, has after its first 8 bytes."""
PEEK = 1 << 16
"""How many first bytes kind_of_start wants to see, if there are as many."""

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x1f\x8b", "compressed by gzip, which is not read; pipe it through `zcat`"),
    (0, b"BZh", "compressed by bzip2, which is not read; pipe it through `bzcat`"),
    (0, b"\xfd7zXZ\0", "compressed by xz, which is not read; pipe it through `xzcat`"),
    (0, b"PK\x03\x04", "a zip archive (a PyTorch checkpoint is one, and its pickles are never opened)"),
    (0, b"\x80\x02", "a Python pickle, which can run code when it is read and is never opened"),
    (0, b"\x80\x03", "a Python pickle, which can run code when it is read and is never opened"),
    (0, b"\x80\x04", "a Python pickle, which can run code when it is read and is never opened"),
    (0, b"\x80\x05", "a Python pickle, which can run code when it is read and is never opened"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF\r\n", "an HDF5 file"),
    (0, b"PAR1", "a parquet file"),
    (0, b"MMIDIDX\0", "the .idx of a Megatron data set"),
    (0, (20240520).to_bytes(4, "little"), "an llm.c token file"),
    (0, (20240326).to_bytes(4, "little"), "a model of llm.c's; `gpt2 import` makes a checkpoint of it"),
    (0, b"GGUF", "a GGUF model"),
    (0, b"WARC/", "a WARC file"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\x7fELF", "a program"),
    (257, b"ustar", "a tar archive"),
)
_FOREIGN_MODELS: tuple[tuple[str, str], ...] = (
    ("*.ckpt.index", "a TensorFlow checkpoint; `gpt2 import` checks its sums and makes a checkpoint of it"),
    ("*.onnx", "an ONNX model"),
    ("model.bin", "a CTranslate2 model"),
    ("pytorch_model*.bin", "a pickled model, which can run code when it is read and is never opened"),
    ("*.pt", "a pickled model, which can run code when it is read and is never opened"),
)
ID_TABLES = ("encoder.json", "vocab.json")
"""Files that give each token's id and no merges: OpenAI's and Hugging Face's names for them."""
_VOCABULARY_NAMES = frozenset({"vocab.bpe", "merges.txt", "tokenizer.json", *ID_TABLES})
_VOCABULARY_SUFFIXES = (".vocab", ".tiktoken")
_TOKEN_LINE = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)? [0-9]{1,9}\r?\n")


def kind_of_directory(path: Path) -> str:
    """Return what a directory is by the files it holds; without any of ours, a VOCABULARY (tokenizer files)."""
    if (path / INDEX_NAME).is_file():
        return SHARD_SET
    if (path / CHECKPOINTS).is_dir() or (path / RUN).is_file():
        return RUN_DIRECTORY
    if (path / MANIFEST).is_file():
        return CHECKPOINT
    return MODEL if any(path.glob("*.safetensors")) else VOCABULARY


def foreign_model(path: Path) -> str | None:
    """Return what other program's model a directory of kind VOCABULARY holds, to follow "it holds"; None for none."""
    return next((words for pattern, words in _FOREIGN_MODELS if any(path.glob(pattern))), None)


def kind_of_start(start: bytes, name: str) -> str:
    """Return what a file or stream holds by its first PEEK bytes; `name` decides between kinds of text only."""
    if not start:
        return EMPTY
    if start[:4] == HEADER_MAGIC.to_bytes(4, "little"):
        return SHARD
    if start.startswith(BLOOM_START):
        return BLOOM
    if start[8:].startswith(DETECTOR_START):
        return DETECTOR
    plain = name.removesuffix(".zst")
    if plain.rpartition("/")[2] in _VOCABULARY_NAMES or plain.endswith(_VOCABULARY_SUFFIXES):
        return VOCABULARY
    if start.startswith(b"#version") or _TOKEN_LINE.match(start) or _is_tokenizer_json(start):
        return VOCABULARY
    if start[:4] == ZSTD_MAGIC or start[:4] in SKIPPABLE_MAGICS or re.match(rb"\s*\{\s*[\"}]", start):
        return RECORDS if start[:1] != b"{" or b"\n" not in start[: start.find(b'"') + 1] else UNKNOWN
    return WEIGHTS if _is_safetensors(start) else UNKNOWN


def describe_foreign(start: bytes) -> str:
    """Return what a file of kind UNKNOWN seems to be, to follow the words "it is", by its first PEEK bytes."""
    for offset, magic, words in _SIGNATURES:
        if start[offset : offset + len(magic)] == magic:
            return words
    if start[:1] == b"{":
        return "one JSON object over several lines, no JSONL; name the directory that it belongs to"
    if b"\0" in start:
        return "binary data of no kind that is known here"
    try:
        start[: start.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError:
        return "binary data of no kind that is known here"
    return "plain text, in which nothing says what it should be; `gpt2 bpe-tokenize` reads it as it is"


def _is_tokenizer_json(start: bytes) -> bool:
    return start[:1] == b"{" and b'"added_tokens"' in start and b'"version"' in start


def _is_safetensors(start: bytes) -> bool:
    return len(start) > 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30
