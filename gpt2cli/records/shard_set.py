"""A training set on disk: a directory of token shards with an index.json that was written last.

gpt2-shard(5) describes index.json. What it says is checked against the files' sizes when it is loaded, and against
their frames' checksums as they are read; `gpt2 verify` compares whole digests.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.jsonl import parse_line
from gpt2cli.records.named_file import read_named
from gpt2cli.records.provenance import json_sha256
from gpt2cli.records.schemas import refuse_newer
from gpt2cli.records.shard_file import ShardFile

INDEX_SCHEMA = "gpt2.shards/1"
INDEX_NAME = "index.json"
SPLITS = ("train", "val")
MAX_INDEX = 256 << 20
SHARD_NAME = re.compile(r"(train|val)-[0-9]{5,9}\.tok\.zst")
_OPEN_FILES = 64


@dataclass(frozen=True)
class ShardEntry:
    """One file of a shard set, as index.json lists it."""

    name: str
    split: str
    tokens: int
    documents: int
    text_bytes: int
    bytes: int
    sha256: str
    tokens_sha256: str


@dataclass(frozen=True)
class ShardSet:
    """A loaded index.json."""

    directory: Path
    index: dict[str, Any]
    n_vocab: int
    eot: int
    tokenizer_sha256: str
    data_sha256: str
    entries: tuple[ShardEntry, ...]

    @property
    def vocabulary(self) -> str | None:
        """The vocabulary's canonical text from a shard header; None when it is GPT-2's own."""
        with ShardFile(self.directory / self.files("val")[0].name) as shard:
            return shard.header.vocabulary

    def files(self, split: str) -> list[ShardEntry]:
        """Return the files of "train" or "val" in order."""
        if split not in SPLITS:
            raise UsageFault(f"there is no split {split!r}; choose train or val")
        return [entry for entry in self.entries if entry.split == split]

    def n_tokens(self, split: str) -> int:
        """Return the tokens of a split, end-of-text included."""
        return sum(entry.tokens for entry in self.files(split))

    def n_documents(self, split: str) -> int:
        """Return the documents of a split."""
        return sum(entry.documents for entry in self.files(split))

    def n_text_bytes(self, split: str) -> int:
        """Return the bytes of UTF-8 text that a split's tokens stand for, end-of-text counting none."""
        return sum(entry.text_bytes for entry in self.files(split))

    def lists(self, entry: ShardEntry, shard: ShardFile) -> bool:
        """Whether an open file is the one that `entry` lists: same tokens by digest, same vocabulary."""
        header, footer = shard.header, shard.footer
        return (
            (header.n_vocab, header.eot, header.tokenizer_sha256) == (self.n_vocab, self.eot, self.tokenizer_sha256)
            and (footer.tokens, footer.documents, footer.sha256, footer.text_bytes)
            == (entry.tokens, entry.documents, entry.tokens_sha256, entry.text_bytes)
        )

    def open(self, split: str) -> TokenStream:
        """Return the tokens of a split as one sequence."""
        return TokenStream(self, self.files(split))

    def open_file(self, entry: ShardEntry) -> ShardFile:
        """Open one of the files; BadInput when it is damaged (frames apart) or not the one that the index lists."""
        path = self.directory / entry.name
        # a frame is wanted again only by the read that follows, and 64 files are open at once
        shard = ShardFile(path, cache_frames=1)
        if not self.lists(entry, shard):
            shard.close()
            raise BadInput(f"{path} is not the file that {INDEX_NAME} lists; pack again")
        return shard

    def check_structure(self) -> None:
        """Open every file once: header, footer, seek table and sizes hold, else BadInput. Digests are not compared."""
        for entry in self.entries:
            self.open_file(entry).close()


class TokenStream:
    """The tokens of several shard files as one sequence, read at any place."""

    def __init__(self, shards: ShardSet, files: list[ShardEntry]) -> None:
        self._shards = shards
        self._files = files
        self._starts = np.concatenate([[0], np.cumsum([entry.tokens for entry in files], dtype=np.int64)])
        self._open: OrderedDict[int, ShardFile] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return tokens start to stop (0 <= start <= stop <= len) as uint16 or uint32 [stop - start].

        Raises BadInput naming file and frame where a shard is damaged or is not the one the index lists.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"tokens {start} to {stop} of {len(self)}")
        parts = []
        number = min(int(np.searchsorted(self._starts, start, side="right")) - 1, len(self._files) - 1)
        while True:
            base, end = int(self._starts[number]), int(self._starts[number + 1])
            parts.append(self._file(number).read(start - base, min(stop, end) - base))
            start = min(stop, end)
            if start == stop:
                return np.concatenate(parts) if len(parts) > 1 else parts[0]
            number += 1

    def close(self) -> None:
        """Close the files."""
        for shard in self._open.values():
            shard.close()
        self._open.clear()

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _file(self, number: int) -> ShardFile:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = self._shards.open_file(self._files[number])
        self._open[number] = shard
        while len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return shard


def data_identity(tokenizer_sha256: str, split_sha256: dict[str, str]) -> str:
    """Return data_sha256: the canonical JSON's digest of the tokenizer and each split's token sha256.

    It depends on the tokens and their order alone, not on how they were cut into files or compressed.
    """
    return json_sha256({"tokenizer_sha256": tokenizer_sha256, **split_sha256})


def seal(index: dict[str, Any]) -> dict[str, Any]:
    """Return an index with its index_sha256: the digest of the canonical JSON of all the rest."""
    rest = {name: value for name, value in index.items() if name != "index_sha256"}
    return {**rest, "index_sha256": json_sha256(rest)}


def load_shard_set(path: str | os.PathLike[str]) -> ShardSet:
    """Return the shard set in directory `path` (or whose index.json `path` is).

    Raises what read_shard_set does, and BadInput when a file is missing or has another size than the index says.
    """
    shards = read_shard_set(path)
    for entry in shards.entries:
        if problem := file_problem(shards, entry):
            raise BadInput(problem)
    return shards


def file_problem(shards: ShardSet, entry: ShardEntry) -> str | None:
    """Return as a sentence what the file system shows to be wrong with a file, None when it is there in full size."""
    path = shards.directory / entry.name
    if not path.is_file():
        return f"{path} is missing, though {INDEX_NAME} lists it; pack again"
    size = path.stat().st_size
    if size != entry.bytes:
        return (f"{path} has {size} bytes where {INDEX_NAME} says {entry.bytes}: it was cut short or replaced; "
                "pack again")
    return None


def read_shard_set(path: str | os.PathLike[str]) -> ShardSet:
    """Return what a shard set's index says, without looking at its files.

    Raises UsageFault when there is none, BadInput when the index is damaged, newer, or names a file outside its
    directory.
    """
    directory = Path(path)
    if directory.name == INDEX_NAME:
        directory = directory.parent
    file = directory / INDEX_NAME
    if not file.is_file():
        raise UsageFault(f"{directory} holds no {INDEX_NAME}: it is no shard set, or its packing was not finished; "
                         "`gpt2 pack -o DIR` makes one")
    if file.stat().st_size > MAX_INDEX:
        raise BadInput(f"{file} is larger than any index")
    index = parse_line(read_named(file), str(file))
    return _shard_set(directory, index, str(file))


def _shard_set(directory: Path, index: dict[str, Any], name: str) -> ShardSet:
    schema = index.get("schema")
    refuse_newer(schema, INDEX_SCHEMA, name)
    if schema != INDEX_SCHEMA:
        raise BadInput(f"{name} is no index of a gpt2 shard set")
    try:
        sealed = seal(index) == index
    except (UnicodeEncodeError, RecursionError):
        sealed = False
    if not sealed:
        raise BadInput(f"{name} is damaged or was changed by hand: it is not what its index_sha256 says; pack again")
    try:
        entries = tuple(
            ShardEntry(str(item["name"]), str(item["split"]), _whole(item["tokens"]), _whole(item["documents"]),
                       _whole(item["text_bytes"]), _whole(item["bytes"]), str(item["sha256"]),
                       str(item["tokens_sha256"]))
            for item in index["files"]
        )
        splits = {split: str(index["splits"][split]["sha256"]) for split in SPLITS}
        shards = ShardSet(directory, index, _whole(index["n_vocab"]), _whole(index["eot"]),
                          str(index["tokenizer_sha256"]), str(index["data_sha256"]), entries)
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{name} is damaged: a field is missing or has the wrong form; pack again") from None
    _check(shards, splits, name)
    return shards


def _check(shards: ShardSet, splits: dict[str, str], name: str) -> None:
    for entry in shards.entries:
        match = SHARD_NAME.fullmatch(entry.name)
        if not match or match[1] != entry.split:
            raise BadInput(f"{name} lists {entry.name!r}, which is no file name of a shard set")
    if len({entry.name for entry in shards.entries}) != len(shards.entries):
        raise BadInput(f"{name} lists a file twice")
    for split in SPLITS:
        totals = shards.index["splits"][split]
        found = (shards.n_tokens(split), shards.n_documents(split), shards.n_text_bytes(split))
        if found != (totals.get("tokens"), totals.get("documents"), totals.get("text_bytes")) or not found[1]:
            raise BadInput(f"{name}: the files of {split} do not add up to its totals; pack again")
    if data_identity(shards.tokenizer_sha256, splits) != shards.data_sha256:
        raise BadInput(f"{name}: data_sha256 does not match the splits; pack again")


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(value)
    return value
