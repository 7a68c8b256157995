"""Token shards to a training set: documents divided into train and val by their content, and an index written last.

Which split a document is in depends on the seed and on its tokens alone, so equal documents never straddle the
splits, and adding documents moves none. End-of-text stays after each. Documents keep their order, unless they are
shuffled, or laid in rows by best-fit.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.atomic import atomic_directory, check_new_directory
from gpt2cli.records.packing import BEST_FIT, CONCATENATE
from gpt2cli.records.provenance import versions
from gpt2cli.records.shard_set import INDEX_NAME, INDEX_SCHEMA, SHARD_NAME, SPLITS, data_identity, seal
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.blocks import DocumentBlock, ShardInputs
from gpt2cli.tokens.division import Division
from gpt2cli.tokens.document_lengths import LengthHistogram
from gpt2cli.tokens.row_packer import RowPacker
from gpt2cli.tokens.shuffle import shuffled
from gpt2cli.tokens.split_writer import SplitWriter


@dataclass(frozen=True)
class PackConfig:
    """How to pack: expected share of documents in val, seed of the split, tokens at which a file is closed.

    method: "concatenate", or "best-fit" in rows of `context` tokens. shuffle: order the documents by seed and content.
    jobs: threads that work, which changes no byte.
    """

    val_fraction: float = 0.005
    seed: int = 0
    shard_tokens: int = 100_000_000
    method: str = CONCATENATE
    context: int | None = None
    shuffle: bool = False
    jobs: int = 1
    force: bool = False


@dataclass(frozen=True)
class PackSummary:
    """What was packed: by split tokens, documents, UTF-8 bytes, padding (both counted in none of them) and lengths."""

    tokens: dict[str, int]
    documents: dict[str, int]
    text_bytes: dict[str, int]
    padding: dict[str, int]
    lengths: dict[str, LengthHistogram]
    documents_cut: int
    files: int
    data_sha256: str


def pack_shards(paths: Sequence[str], directory: str, config: PackConfig, reporter: Reporter) -> PackSummary:
    """Write the documents of the shards `paths` (none: stdin) as the shard set `directory`; return what was done.

    Constant memory. The directory appears whole or not at all; temporaries are within it while it has another name.
    Raises UsageFault when it exists (without config.force) or holds anything but a shard set, BadInput for damaged,
    empty or mixed shards, OSError from the file system.
    """
    _check_config(config)
    _check_inputs(paths)
    check_new_directory(Path(directory), config.force, _is_of_a_set, "a shard set")
    with atomic_directory(Path(directory).resolve()) as place, _threads(config.jobs) as pool:
        packing = _Packing(ShardInputs(paths or ("-",), config.seed), place, config, pool)
        index = packing.run(reporter)
        (place / INDEX_NAME).write_bytes(json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n")
    return packing.summary(index["data_sha256"])


class _Packing:
    """One run of pack: the way of the documents from the inputs to the files of `place`."""

    def __init__(self, inputs: ShardInputs, place: Path, config: PackConfig, pool: Executor | None) -> None:
        self._inputs, self._place, self._config, self._pool = inputs, place, config, pool
        self._lengths = {split: LengthHistogram() for split in SPLITS}
        self._padding = dict.fromkeys(SPLITS, 0)
        self._cut = 0

    def run(self, reporter: Reporter) -> dict[str, Any]:
        """Write all files but the index, and return that."""
        config = self._config
        blocks = self._inputs.blocks()
        first = next(blocks, None)
        if first is None or self._inputs.header is None:
            raise BadInput("the shards hold no document, so there is nothing to train on")
        self._writer = SplitWriter(self._place, self._inputs.header, config.shard_tokens, self._pool)
        blocks = self._watched(first, blocks, reporter)
        if config.shuffle:
            blocks = shuffled(blocks, self._place / "shuffle")
        division = Division(blocks, config.val_fraction, self._place / "undecided")
        if config.context is None:
            self._concatenate(division)
        else:
            self._lay_rows(division, config.context)
        self._writer.finish()
        if division.cut:
            self._cut += 1
            reporter.note("there is only one document, so its end became the validation split")
        return self._index()

    def summary(self, data_sha256: str) -> PackSummary:
        """Return what was done."""
        tokens = {split: self._lengths[split].tokens for split in SPLITS}
        documents = {split: self._lengths[split].documents for split in SPLITS}
        return PackSummary(tokens, documents, dict(self._writer.text_bytes), dict(self._padding), self._lengths,
                           self._cut, len(self._writer.files), data_sha256)

    def _watched(self, first: DocumentBlock, blocks: Iterator[DocumentBlock], reporter: Reporter
                 ) -> Iterator[DocumentBlock]:
        tokens = documents = 0
        for source in ([first], blocks):
            for block in source:
                tokens += len(block.tokens)
                documents += len(block)
                reporter.progress(tokens, None, "tokens read", documents=f"{documents:,}",
                                  written=f"{self._writer.n_tokens:,}")
                yield block

    def _parts(self, division: Division) -> Iterator[tuple[str, DocumentBlock]]:
        """Yield the documents of each split as they come."""
        for block, val in division:
            for split, chosen in (("train", ~val), ("val", val)):
                if chosen.any():
                    part = block if chosen.all() else block.take(np.flatnonzero(chosen))
                    self._lengths[split].add(part.lengths)
                    yield split, part

    def _concatenate(self, division: Division) -> None:
        for split, part in self._parts(division):
            self._writer.write(split, part.tokens, part.lengths)

    def _lay_rows(self, division: Division, context: int) -> None:
        packers = {split: RowPacker(self._writer, split, context) for split in SPLITS}
        for split, part in self._parts(division):
            packers[split].write(part)
            self._cut += int(np.count_nonzero(part.lengths > context))
        for split in SPLITS:
            packers[split].finish()
            self._padding[split] = packers[split].padding

    def _index(self) -> dict[str, Any]:
        writer, header, config = self._writer, self._inputs.header, self._config
        assert header is not None
        digests = {split: writer.digests[split].hexdigest() for split in SPLITS}
        splits = {
            split: {"tokens": writer.tokens[split], "documents": writer.documents[split],
                    "text_bytes": writer.text_bytes[split], "sha256": digests[split],
                    "padding_tokens": self._padding[split], "lengths": self._lengths[split].record()}
            for split in SPLITS
        }
        inputs = self._inputs.parts
        return seal({
            "schema": INDEX_SCHEMA,
            "data_sha256": data_identity(header.tokenizer_sha256, digests),
            "tokenizer_sha256": header.tokenizer_sha256,
            "n_vocab": header.n_vocab,
            "eot": header.eot,
            "dtype": header.dtype,
            "splits": splits,
            "files": sorted(writer.files, key=lambda entry: (SPLITS.index(entry["split"]), entry["name"])),
            "pack": {"method": config.method, "context": config.context, "shuffle": config.shuffle,
                     "seed": config.seed, "val_fraction": config.val_fraction, "shard_tokens": config.shard_tokens,
                     "documents_cut": self._cut},
            "inputs": sorted(inputs, key=lambda part: json.dumps(part)) if config.shuffle else inputs,
            "versions": versions("zstandard"),
        })


@contextlib.contextmanager
def _threads(jobs: int) -> Iterator[Executor | None]:
    """Yield threads beside this one, or None when there are none; at the end what they have not begun is dropped."""
    pool = ThreadPoolExecutor(jobs - 1, "pack") if jobs > 1 else None
    try:
        yield pool
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def _check_config(config: PackConfig) -> None:
    if not 0 <= config.val_fraction < 1:
        raise UsageFault(f"a validation fraction of {config.val_fraction} is not in 0 to 1")
    if config.method not in (CONCATENATE, BEST_FIT):
        raise UsageFault(f"there is no way to pack called {config.method!r}; choose {CONCATENATE} or {BEST_FIT}")
    if config.method == BEST_FIT and config.context is None:
        raise UsageFault("--pack best-fit makes rows of one length: give the --context that training will have")
    if config.method == CONCATENATE and config.context is not None:
        raise UsageFault("--context goes with --pack best-fit; concatenated documents serve every context")


def _check_inputs(paths: Sequence[str]) -> None:
    for path in paths:
        if (Path(path) / INDEX_NAME).is_file():
            raise UsageFault(f"{path} is a shard set, packed already; to pack it anew give its files, {path}/*.tok.zst")
        if Path(path).is_dir():
            raise UsageFault(f"{path} is a directory; give the token shards in it, such as {path}/*.tok.zst")


def _is_of_a_set(name: str) -> bool:
    return name == INDEX_NAME or SHARD_NAME.fullmatch(name) is not None
