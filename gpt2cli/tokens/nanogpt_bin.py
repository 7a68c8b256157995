"""nanoGPT's train.bin and val.bin: uint16 tokens and nothing else, end-of-text after each document or nowhere.

There is no header, so the vocabulary is what --vocab says. nanoGPT keeps a character vocabulary in meta.pkl beside the
file: a pickle, which is not read.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.shard import ShardHeader
from gpt2cli.records.shard_format import HEADER_MAGIC, HEADER_SCHEMA, SMALL_VOCABULARY
from gpt2cli.records.streams import display_name, open_raw_input
from gpt2cli.tokens.eot_documents import ForeignTally, Part, documents_before_eot
from gpt2cli.tokens.id_stream import read_ids
from gpt2cli.tokens.llmc_bin import MAGIC_OF_WIDTH
from gpt2cli.tokens.vocabulary import Vocabulary


def read_nanogpt(paths: Sequence[str], vocabulary: Vocabulary, tally: ForeignTally) -> Iterator[Part]:
    """Yield the documents of .bin files; each file's last document ends with the file.

    Raises BadInput for an odd size, an id outside the vocabulary, or a file of another kind.
    """
    _check_width(vocabulary.n_vocab)
    for path in paths:
        name = display_name(path)
        with open_raw_input(path) as raw:
            stream = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, raw))
            _refuse_other_kinds(stream.peek(64)[:64], name)
            ids = read_ids(stream, "<u2", vocabulary.n_vocab, name)
            yield from documents_before_eot(ids, vocabulary.eot, tally)


def write_nanogpt(directory: Path, split: str, header: ShardHeader, frames: Iterable[np.ndarray]) -> list[str]:
    """Write a stream of tokens as SPLIT.bin; return its name. Raises UsageFault for a vocabulary above 65,536."""
    _check_width(header.n_vocab)
    with open(directory / f"{split}.bin", "wb") as file:
        for tokens in frames:
            file.write(tokens.tobytes())
    return [f"{split}.bin"]


def _check_width(n_vocab: int) -> None:
    if n_vocab > SMALL_VOCABULARY:
        raise UsageFault(f"nanoGPT's files hold 2-byte tokens, and the vocabulary has {n_vocab:,} ids")


def _refuse_other_kinds(start: bytes, name: str) -> None:
    """A file without a header could be anything; these two are the likeliest mistakes, and their bytes pass for ids."""
    if start[:4] == HEADER_MAGIC.to_bytes(4, "little") and HEADER_SCHEMA.encode() in start:
        raise BadInput(f"{name} is a token shard already")
    if any(start[:8] == struct.pack("<2i", *known) for known in MAGIC_OF_WIDTH.values()):
        raise BadInput(f"{name} has the header of an llm.c file; read it with --from llm.c")
