"""Token shards to a training set: documents split into train and val by their content, and an index written last.

Which split a document is in depends on the seed and on its tokens alone, so equal documents never straddle the
splits, and adding documents moves none. Documents keep their order; end-of-text stays after each.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.atomic import atomic_directory
from gpt2cli.records.provenance import versions
from gpt2cli.records.shard import ShardHeader, ShardReader
from gpt2cli.records.shard_format import ShardFooter
from gpt2cli.records.shard_set import INDEX_NAME, INDEX_SCHEMA, SHARD_NAME, SPLITS, data_identity, seal
from gpt2cli.records.streams import display_name, open_raw_input
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.split_writer import SplitWriter

LEAST_VAL_TOKENS = 1024
"""Where one document has to serve both splits, val gets at least this many of its tokens, or a half."""


@dataclass(frozen=True)
class PackConfig:
    """How to pack: expected share of documents in val, seed of the split, tokens at which a file is closed."""

    val_fraction: float = 0.005
    seed: int = 0
    shard_tokens: int = 100_000_000
    force: bool = False


@dataclass(frozen=True)
class PackSummary:
    """Tokens, documents and files of each split, and the identity of the data."""

    tokens: dict[str, int]
    documents: dict[str, int]
    files: int
    data_sha256: str


@dataclass
class _Range:
    """The smallest and largest hash that went by, and how many documents."""

    least: int = 1 << 64
    most: int = -1
    count: int = 0

    def add(self, value: int) -> None:
        self.least, self.most = min(self.least, value), max(self.most, value)
        self.count += 1


def pack_shards(paths: Sequence[str], directory: str, config: PackConfig, reporter: Reporter) -> PackSummary:
    """Write the documents of the shards `paths` (none: stdin) as the shard set `directory`; return what was done.

    Constant memory, one pass over the input. The directory appears whole or not at all. Raises UsageFault when it
    exists (without config.force) or holds anything but a shard set, BadInput for damaged, empty or mixed shards.
    """
    check_target(Path(directory), config.force)
    if not 0 <= config.val_fraction < 1:
        raise UsageFault(f"a validation fraction of {config.val_fraction} is not in 0 to 1")
    with atomic_directory(Path(directory).resolve()) as place:
        origins = _Origins()
        writer = SplitWriter(place, config.shard_tokens)
        limit = int(config.val_fraction * 2**64)
        seen = _Range()
        for header, ids in _documents(paths or ("-",), origins):
            value = document_hash(ids, config.seed)
            seen.add(value)
            writer.write("val" if value < limit else "train", header, ids)
            reporter.progress(writer.n_tokens, None, "tokens", documents=f"{seen.count:,}")
        writer.finish()
        if not seen.count:
            raise BadInput("the shards hold no document, so there is nothing to train on")
        cut = 0
        if not all(writer.documents.values()):
            writer, cut = _split_again(place, writer, seen, config)
        if cut:
            reporter.note("there is only one document, so its end became the validation split")
        index = _index(writer, origins, config, cut)
        (place / INDEX_NAME).write_bytes(json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n")
    return PackSummary(dict(writer.tokens), dict(writer.documents), len(writer.files), index["data_sha256"])


def check_target(directory: Path, force: bool) -> None:
    """Raise UsageFault unless `directory` may become a shard set: absent, empty, or an old set and `force`."""
    if not directory.resolve().parent.is_dir():
        raise UsageFault(f"the directory of {directory} does not exist; make it first")
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageFault(f"{directory} exists and is no directory; choose another -o")
    names = [entry.name for entry in directory.iterdir()]
    strange = sorted(name for name in names if name != INDEX_NAME and not SHARD_NAME.fullmatch(name))
    if strange:
        raise UsageFault(f"{directory} holds {strange[0]!r}, which is no part of a shard set; choose another -o")
    if names and not force:
        raise UsageFault(f"{directory} exists; give --force to replace it, or another -o")


def document_hash(ids: np.ndarray, seed: int) -> int:
    """Return the 64-bit hash that decides a document's split: keyed BLAKE2b of its ids as uint32."""
    key = seed.to_bytes(8, "little")
    digest = hashlib.blake2b(ids.astype("<u4").tobytes(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little")


@dataclass
class _Origins:
    """Header and footer of every shard that went in, joined ones apart."""

    parts: list[tuple[ShardHeader, ShardFooter]] = field(default_factory=list)


def _documents(paths: Sequence[str], origins: _Origins) -> Iterator[tuple[ShardHeader, np.ndarray]]:
    """Yield each document with the first shard's header; all shards must share its vocabulary."""
    first: ShardHeader | None = None
    for path in paths:
        name = display_name(path)
        with open_raw_input(path) as stream:
            reader = ShardReader(stream, name)
            first = first or reader.header
            if not reader.header.same_tokens(first):
                raise BadInput(f"{name} is in another vocabulary ({reader.header.tokenizer_sha256[:12]}...) than "
                               f"{display_name(paths[0])} ({first.tokenizer_sha256[:12]}...); "
                               "tokenize all with one --vocab")
            for ids in reader.documents():
                yield first, ids
            origins.parts += zip(reader.headers, reader.footers, strict=True)


def _split_again(place: Path, done: SplitWriter, seen: _Range, config: PackConfig) -> tuple[SplitWriter, int]:
    """Split once more what all fell into one split, and return the new writer and how many documents were cut.

    Only small sets come here. val gets the documents of the smallest hash; where all are the same, the last one's end.
    """
    aside = place / "aside"
    aside.mkdir()
    for entry in done.files:
        os.rename(place / entry["name"], aside / entry["name"])
    writer = SplitWriter(place, config.shard_tokens)
    alike = seen.least == seen.most
    files = [str(aside / entry["name"]) for entry in done.files]
    for number, (header, ids) in enumerate(_documents(files, _Origins())):
        if alike and number == seen.count - 1:
            size = _val_size(len(ids), config.val_fraction)
            writer.write("train", header, ids[: len(ids) - size])
            writer.write("val", header, ids[len(ids) - size :])
        else:
            least = not alike and document_hash(ids, config.seed) == seen.least
            writer.write("val" if least else "train", header, ids)
    writer.finish()
    shutil.rmtree(aside)
    return writer, int(alike)


def _val_size(n_tokens: int, fraction: float) -> int:
    if n_tokens < 2:
        raise BadInput("the only document is a single token, too little for a training and a validation split")
    return min(max(int(fraction * n_tokens), min(LEAST_VAL_TOKENS, n_tokens // 2)), n_tokens - 1)


def _index(writer: SplitWriter, origins: _Origins, config: PackConfig, cut: int) -> dict[str, Any]:
    header = origins.parts[0][0]
    digests = {split: writer.digests[split].hexdigest() for split in SPLITS}
    splits = {
        split: {"tokens": writer.tokens[split], "documents": writer.documents[split],
                "text_bytes": writer.text_bytes[split], "sha256": digests[split]}
        for split in SPLITS
    }
    return seal({
        "schema": INDEX_SCHEMA,
        "data_sha256": data_identity(header.tokenizer_sha256, digests),
        "tokenizer_sha256": header.tokenizer_sha256,
        "n_vocab": header.n_vocab,
        "eot": header.eot,
        "dtype": header.dtype,
        "splits": splits,
        "files": sorted(writer.files, key=lambda entry: (SPLITS.index(entry["split"]), entry["name"])),
        "pack": {"method": "concatenate", "seed": config.seed, "val_fraction": config.val_fraction,
                 "shard_tokens": config.shard_tokens, "documents_cut": cut},
        "inputs": [
            {"sha256": footer.sha256, "tokens": footer.tokens, "documents": footer.documents,
             "input_sha256": footer.input_sha256, "source": part.source}
            for part, footer in origins.parts
        ],
        "versions": versions("zstandard"),
    })
