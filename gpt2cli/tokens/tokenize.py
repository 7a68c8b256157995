"""Documents to one token shard, front to back, in constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from gpt2cli.records.shard import ShardHeader, ShardWriter
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.documents import DocumentTally, read_documents
from gpt2cli.tokens.encode import Encoder, replace_surrogates
from gpt2cli.tokens.vocabulary import Vocabulary, load_vocabulary


@dataclass(frozen=True)
class TokenizeConfig:
    """vocab: a path for load_vocabulary; form: as in read_documents; source: a free name kept in the shard."""

    vocab: str | None = None
    form: str = "auto"
    source: str | None = None


@dataclass(frozen=True)
class TokenizeSummary:
    """What went in and came out; `text_bytes` is UTF-8, `tokens` counts end-of-text."""

    documents: int
    text_bytes: int
    tokens: int
    sha256: str


def shard_header(vocabulary: Vocabulary, source: str | None = None) -> ShardHeader:
    """Return the header of a shard in `vocabulary`, which travels along unless it is GPT-2's own."""
    text = None if vocabulary.is_gpt2 else vocabulary.canonical()
    return ShardHeader(vocabulary.n_vocab, vocabulary.eot, vocabulary.sha256, text, source)


def tokenize_documents(paths: Sequence[str], stream: BinaryIO, config: TokenizeConfig, reporter: Reporter
                       ) -> TokenizeSummary:
    """Write the documents of `paths` (none: stdin) to `stream` as one shard; return what was done.

    The shard's input_sha256 is over every document in order: the length of its UTF-8 as 8 bytes, little-endian, then
    the bytes. So it tells the same of the same documents, whatever file, compression or pipe they came in.
    Raises what load_vocabulary and read_documents raise.
    """
    encoder = Encoder(load_vocabulary(config.vocab))
    writer = ShardWriter(stream, shard_header(encoder.vocabulary, config.source))
    tally, digest = DocumentTally(), hashlib.sha256()
    total, lone = 0, 0
    for document in read_documents(paths, tally, config.form):
        text = document.text
        try:
            data = text.encode()
        except UnicodeEncodeError:
            text, count = replace_surrogates(text)
            lone += count
            data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
        writer.write_document(encoder.encode(text), len(data))
        total += len(data)
        reporter.progress(total / 1e6, None, "MB of text", documents=f"{tally.documents:,}")
    footer = writer.close(digest.hexdigest())
    for line in tally.sentences():
        reporter.warn(line)
    if lone:
        reporter.warn(f"replaced {lone:,} lone surrogates by U+FFFD: they are no text and have no UTF-8")
    if not footer.documents:
        reporter.warn("there was no document with text: the shard is empty")
    return TokenizeSummary(footer.documents, total, footer.tokens, footer.sha256)
