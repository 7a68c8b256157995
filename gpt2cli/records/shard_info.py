"""What a token shard or a set of them says of itself, as a gpt2.shard-info/1 record: facts, no verdict.

Of a file only header, footer and seek table are read, so it takes no longer for a large one; a stream is read (and
checked) to its end. `gpt2 verify` is what compares digests.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from gpt2cli.records.shard import ShardFile, ShardFooter, ShardHeader, ShardReader
from gpt2cli.records.shard_set import INDEX_NAME, SPLITS, ShardSet, load_shard_set
from gpt2cli.records.streams import display_name, open_raw_input


def shard_info(path: str) -> dict[str, Any]:
    """Return the record's fields for a shard file, a shard set's directory or index.json, or `-` for stdin.

    Raises what ShardFile, ShardReader and load_shard_set raise.
    """
    if is_shard_set(path):
        return _set_info(path, load_shard_set(path))
    if path != "-" and os.path.isfile(path):
        with ShardFile(path) as shard:
            return _fields(path, shard.header, shard.footers, os.stat(path).st_size, len(shard.frames))
    with open_raw_input(path) as raw:
        counted = _CountedStream(raw)
        reader = ShardReader(cast(BinaryIO, counted), display_name(path))
        frames = sum(1 for _ in reader.frames())
        return _fields(path, reader.header, reader.footers, counted.count, frames)


def _fields(path: str, header: ShardHeader, footers: Sequence[ShardFooter], size: int, frames: int) -> dict[str, Any]:
    text = [footer.text_bytes for footer in footers]
    known = [count for count in text if count is not None]
    one = footers[0] if len(footers) == 1 else None
    return {
        "path": _printable(path), "kind": "shard",
        **_counts(header, sum(footer.tokens for footer in footers), [footer.lengths() for footer in footers],
                  sum(known) if len(known) == len(text) else None, size),
        "frames": frames, "joined": len(footers),
        **_vocabulary(header),
        "source": header.source,
        "sha256": one.sha256 if one else None, "input_sha256": one.input_sha256 if one else None,
    }


def _set_info(path: str, shards: ShardSet) -> dict[str, Any]:
    lengths: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    sizes, frames, header = dict.fromkeys(SPLITS, 0), 0, None
    for entry in shards.entries:
        with shards.open_file(entry) as shard:
            lengths[entry.split].append(shard.footer.lengths())
            header = header or shard.header
            frames += len(shard.frames)
        sizes[entry.split] += entry.bytes
    assert header is not None  # a set has files in both splits, or it could not have been loaded
    splits = {
        split: {**_counts(header, shards.n_tokens(split), lengths[split], shards.n_text_bytes(split), sizes[split]),
                "files": len(shards.files(split))}
        for split in SPLITS
    }
    tokens, text = (sum(count(split) for split in SPLITS) for count in (shards.n_tokens, shards.n_text_bytes))
    return {
        "path": _printable(path), "kind": "shard set",
        **_counts(header, tokens, [part for split in SPLITS for part in lengths[split]], text, sum(sizes.values())),
        "frames": frames, "files": len(shards.entries),
        **_vocabulary(header),
        "data_sha256": shards.data_sha256, "splits": splits, "pack": shards.index.get("pack"),
    }


def _counts(header: ShardHeader, tokens: int, lengths: Sequence[np.ndarray], text_bytes: int | None, size: int
            ) -> dict[str, Any]:
    sizes = np.concatenate(lengths) if lengths else np.empty(0, dtype="<u4")
    return {
        "tokens": tokens, "documents": len(sizes), "text_bytes": text_bytes, "bytes": size,
        "bytes_per_token": round(text_bytes / tokens, 4) if text_bytes is not None and tokens else None,
        "compression_ratio": round(tokens * header.width / size, 4),
        "shortest_document": int(sizes.min()) if len(sizes) else None,
        "median_document": float(np.median(sizes)) if len(sizes) else None,
        "longest_document": int(sizes.max()) if len(sizes) else None,
    }


def _vocabulary(header: ShardHeader) -> dict[str, Any]:
    return {"dtype": header.dtype, "n_vocab": header.n_vocab, "eot": header.eot,
            "tokenizer_sha256": header.tokenizer_sha256, "carries_vocabulary": header.vocabulary is not None}


def _printable(path: str) -> str:
    """A file's name need not be UTF-8, a record is."""
    return os.fsencode(path).decode("utf-8", "replace")


class _CountedStream:
    """A stream that counts the bytes read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        return data


def is_shard_set(path: str | os.PathLike[str]) -> bool:
    """Whether `path` names a directory, or the index.json in one, rather than a shard file or stdin."""
    return str(path) != "-" and (os.path.isdir(path) or Path(path).name == INDEX_NAME)
