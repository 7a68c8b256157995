"""Other programs' token files to a token shard: read in bounded memory, nothing trusted, everything odd counted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gpt2cli.errors import UsageFault
from gpt2cli.records.shard import ShardWriter
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.eot_documents import ForeignTally, Part
from gpt2cli.tokens.llmc_bin import read_llmc
from gpt2cli.tokens.megatron_indexed import read_megatron
from gpt2cli.tokens.nanogpt_bin import read_nanogpt
from gpt2cli.tokens.parquet_tokens import read_parquet
from gpt2cli.tokens.token_table import TokenTable
from gpt2cli.tokens.tokenize import shard_header
from gpt2cli.tokens.vocabulary import Vocabulary, load_vocabulary

VOCABULARY_NAME = "vocabulary.tiktoken"
"""What an export calls the vocabulary that it leaves beside files that can't carry it."""
_TELLING_TOKENS = 10_000


@dataclass(frozen=True)
class ImportConfig:
    """form: llm.c, nanogpt, megatron or parquet; vocab: a path for load_vocabulary; column: of parquet."""

    form: str
    vocab: str | None = None
    source: str | None = None
    column: str | None = None


@dataclass(frozen=True)
class ImportSummary:
    """What the shard holds; `tokens` counts end-of-text. `tally`: what could not be taken as it was."""

    documents: int
    text_bytes: int
    tokens: int
    tally: ForeignTally = field(default_factory=ForeignTally)


def import_tokens(paths: Sequence[str], stream: BinaryIO, config: ImportConfig, reporter: Reporter) -> ImportSummary:
    """Write the documents of foreign files `paths` (none: stdin) to `stream` as one shard; return what was done.

    The footer's text_bytes and input_sha256 are those of the text that the tokens stand for, so a shard that was
    exported and imported again is the same, byte for byte. Raises what the format's reader raises.
    """
    paths = [os.fspath(path) for path in paths] or ["-"]
    vocabulary = _vocabulary(paths, config.vocab, reporter)
    tally = ForeignTally()
    writer = ShardWriter(stream, shard_header(vocabulary, config.source))
    digest, total = hashlib.sha256(), 0
    table = TokenTable(vocabulary)
    text, size = hashlib.sha256(), 0
    for ids, ends in _documents(paths, config, vocabulary, tally):
        if len(ids):
            data = table.decode(ids)
            text.update(data)
            size += len(data)
            tally.see(ids)
        if not ends:
            writer.write_part(ids)
            continue
        writer.write_document(ids, size)
        digest.update(text.digest())
        total += size
        text, size = hashlib.sha256(), 0
        reporter.progress(writer.tokens, None, "tokens", documents=f"{writer.documents:,}")
    footer = writer.close(digest.hexdigest())
    for line in [*tally.sentences(), *_doubts(paths, config, vocabulary, tally, footer.tokens)]:
        reporter.warn(line)
    return ImportSummary(footer.documents, total, footer.tokens, tally)


def _documents(paths: Sequence[str], config: ImportConfig, vocabulary: Vocabulary, tally: ForeignTally
               ) -> Iterator[Part]:
    if config.column is not None and config.form != "parquet":
        raise UsageFault(f"--column is for parquet; {config.form} has no columns")
    if config.form == "parquet":
        return read_parquet(paths, vocabulary, tally, config.column)
    readers = {"llm.c": read_llmc, "nanogpt": read_nanogpt, "megatron": read_megatron}
    if config.form not in readers:
        raise UsageFault(f"there is no format {config.form!r}; choose {', '.join(readers)} or parquet")
    return readers[config.form](paths, vocabulary, tally)


def _vocabulary(paths: Sequence[str], named: str | None, reporter: Reporter) -> Vocabulary:
    """Return the vocabulary that is named, else the one beside the first file, else $GPT2_VOCAB or GPT-2's own."""
    beside = Path(paths[0]).parent / VOCABULARY_NAME
    if named is None and not os.environ.get("GPT2_VOCAB") and paths[0] != "-" and beside.is_file():
        reporter.note(f"the vocabulary is {beside}")
        return load_vocabulary(beside)
    return load_vocabulary(named)


def _doubts(paths: Sequence[str], config: ImportConfig, vocabulary: Vocabulary, tally: ForeignTally, tokens: int
            ) -> list[str]:
    """Return signs that the files are not what they were taken for, although every id was in range."""
    lines = []
    if not tokens:
        lines.append("there was no document: the shard is empty")
    if tokens >= _TELLING_TOKENS and 0 <= tally.largest < vocabulary.n_vocab // 4:
        lines.append(f"the largest id is {tally.largest:,} where the vocabulary has {vocabulary.n_vocab:,}: it may "
                     "have been tokenized with another one; name it with --vocab")
    if config.form == "nanogpt" and any((Path(path).parent / "meta.pkl").is_file() for path in paths if path != "-"):
        lines.append("meta.pkl was not read, for a pickle can run code; the ids were taken to be those of --vocab")
    return lines
