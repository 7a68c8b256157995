"""Token shards and shard sets to the files that other trainers read, a directory at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.atomic import atomic_directory, check_new_directory
from gpt2cli.records.shard import ShardHeader, ShardReader
from gpt2cli.records.shard_info import is_shard_set
from gpt2cli.records.shard_set import INDEX_NAME, SPLITS, load_shard_set
from gpt2cli.records.streams import display_name, open_raw_input
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.import_tokens import VOCABULARY_NAME
from gpt2cli.tokens.llmc_bin import write_llmc
from gpt2cli.tokens.megatron_indexed import write_megatron
from gpt2cli.tokens.nanogpt_bin import write_nanogpt
from gpt2cli.tokens.parquet_tokens import write_parquet

NAMES = {
    "llm.c": re.compile(r"[\w-]+_[0-9]{6,}\.bin"),
    "nanogpt": re.compile(r"[\w-]+\.bin"),
    "megatron": re.compile(r"[\w-]+\.(bin|idx)"),
    "parquet": re.compile(r"[\w-]+-[0-9]{5,}-of-[0-9]{5,}\.parquet"),
}
"""Format -> the names of its files; --force replaces a directory that holds no others."""
SPLITTING = ("llm.c", "parquet")
"""Formats whose data sets may have several files."""
SHARD_TOKENS = 100_000_000


@dataclass(frozen=True)
class ExportConfig:
    """form: a key of NAMES; name: what to call the files of shards that are no set; shard_tokens: see SPLITTING."""

    form: str
    name: str = "train"
    shard_tokens: int | None = None
    force: bool = False


@dataclass(frozen=True)
class ExportSummary:
    """The files written, in order, and what they hold; `tokens` counts end-of-text."""

    files: list[str]
    documents: int
    tokens: int


def export_tokens(paths: Sequence[str], directory: str, config: ExportConfig, reporter: Reporter) -> ExportSummary:
    """Write the shards `paths` (none: stdin), or the one shard set, as files of another format in `directory`.

    Memory is bounded by a frame, for Megatron and parquet also by the document index and the longest document. The
    directory appears whole or not at all; beside files in a vocabulary that is not GPT-2's it has that vocabulary.
    Raises UsageFault when it exists (without config.force) or holds other things, BadInput for damaged or mixed shards.
    """
    if config.form not in NAMES:
        raise UsageFault(f"there is no format {config.form!r}; choose {', '.join(NAMES)}")
    if not re.fullmatch(r"[\w-]+", config.name):
        raise UsageFault(f"{config.name!r} can't be part of a file's name; use letters, digits, - and _")
    if config.shard_tokens is not None and config.form not in SPLITTING:
        raise UsageFault(f"--shard-tokens is for {' and '.join(SPLITTING)}; {config.form} has one file a split")
    target = Path(directory)
    check_new_directory(target, config.force, lambda name: name == VOCABULARY_NAME
                        or NAMES[config.form].fullmatch(name) is not None, "such an export")
    with atomic_directory(target.resolve()) as place:
        counted = _Counted(reporter)
        files: list[str] = []
        for split, sources in _splits(paths, config.name):
            frames = counted.frames(sources)
            header = counted.start(frames)
            files += _writer(config)(place, split, header, counted.rest(frames))
        if counted.header is not None and counted.header.vocabulary is not None:
            (place / VOCABULARY_NAME).write_bytes(counted.header.vocabulary.encode())
            files.append(VOCABULARY_NAME)
    return ExportSummary(files, counted.documents, counted.tokens)


Writer = Callable[[Path, str, ShardHeader, Iterable[np.ndarray]], list[str]]


def _writer(config: ExportConfig) -> Writer:
    most = config.shard_tokens or SHARD_TOKENS
    if config.form == "llm.c":
        return lambda place, split, header, frames: write_llmc(place, split, header, frames, most)
    if config.form == "parquet":
        return lambda place, split, header, frames: write_parquet(place, split, header, frames, most)
    return write_nanogpt if config.form == "nanogpt" else write_megatron


def _splits(paths: Sequence[str], name: str) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """Yield (split, its shards in order, each with the sha256 that its tokens must have)."""
    sets = [path for path in paths if is_shard_set(path)]
    if not sets:
        yield name, [(path, None) for path in paths or ("-",)]
        return
    if len(paths) > 1:
        raise UsageFault("one shard set at a time, or shard files; export each set to a directory of its own")
    shards = load_shard_set(sets[0])
    shards.check_structure()
    for split in SPLITS:
        yield split, [(str(shards.directory / entry.name), entry.tokens_sha256) for entry in shards.files(split)]


class _Counted:
    """The frames of shards in one vocabulary, counted as they go by."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.header: ShardHeader | None = None
        self.documents = 0
        self.tokens = 0
        self._first: list[np.ndarray] = []

    def start(self, frames: Iterator[np.ndarray]) -> ShardHeader:
        """Read the first frame, and with it the header, which is returned."""
        self._first = [tokens for tokens in (next(frames, None),) if tokens is not None]
        if self.header is None:
            raise UsageFault("there is no shard to export")
        return self.header

    def rest(self, frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the frame that start() read, then the others."""
        yield from self._first
        yield from frames

    def frames(self, sources: list[tuple[str, str | None]]) -> Iterator[np.ndarray]:
        """Yield the tokens of all sources; raise BadInput for damage and where vocabularies differ."""
        for path, expected in sources:
            name = display_name(path)
            with open_raw_input(path) as stream:
                reader = ShardReader(stream, name)
                self.header = self.header or reader.header
                if not reader.header.same_tokens(self.header):
                    raise BadInput(f"{name} is in another vocabulary ({reader.header.tokenizer_sha256[:12]}...) than "
                                   f"the shard before it ({self.header.tokenizer_sha256[:12]}...)")
                for tokens in reader.frames():
                    self.tokens += len(tokens)
                    self.documents += int(np.count_nonzero(tokens == reader.header.eot))
                    self._reporter.progress(self.tokens, None, "tokens", documents=f"{self.documents:,}")
                    yield tokens
                if expected is not None and [footer.sha256 for footer in reader.footers] != [expected]:
                    raise BadInput(f"{name} is not the file that {INDEX_NAME} lists; pack again")
