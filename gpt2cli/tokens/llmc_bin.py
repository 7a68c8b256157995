"""llm.c's .bin files: 256 int32 of header, then the tokens, end-of-text BEFORE each document.

Header: a magic number, a version, the number of tokens (below 2^31), zeros. 20240520, 1 holds uint16 tokens (GPT-2);
20240801, 7 holds uint32 (Llama 3). Source: write_datafile in llm.c's dev/data, read back by its llmc/dataloader.h.
A data set is many files whose tokens follow one another, so a document may begin in one file and end in the next.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.shard import ShardHeader
from gpt2cli.records.streams import display_name, open_raw_input
from gpt2cli.tokens.eot_documents import ForeignTally, Part, documents_after_eot
from gpt2cli.tokens.id_stream import check_end, read_ids
from gpt2cli.tokens.vocabulary import Vocabulary

MAGIC_OF_WIDTH = {2: (20240520, 1), 4: (20240801, 7)}
"""Bytes of a token -> magic, version."""
HEADER_BYTES = 1024
MOST_TOKENS = (1 << 31) - 1


def read_llmc(paths: Sequence[str], vocabulary: Vocabulary, tally: ForeignTally) -> Iterator[Part]:
    """Yield the documents of .bin files that follow one another.

    Raises BadInput for a wrong magic, version or size, and for an id outside the vocabulary.
    """
    return documents_after_eot(_ids(paths, vocabulary.n_vocab), vocabulary.eot, tally)


def _ids(paths: Sequence[str], n_vocab: int) -> Iterator[np.ndarray]:
    for path in paths:
        name = display_name(path)
        with open_raw_input(path) as stream:
            width, count = _parse_header(stream.read(HEADER_BYTES), name)
            yield from read_ids(stream, f"<u{width}", n_vocab, name, count=count, offset=HEADER_BYTES)
            check_end(stream, name, HEADER_BYTES + count * width)


def _parse_header(data: bytes, name: str) -> tuple[int, int]:
    """Return bytes of a token and number of tokens."""
    if len(data) < HEADER_BYTES:
        raise BadInput(f"{name} is no .bin of llm.c: it has {len(data)} bytes, the header alone has {HEADER_BYTES}")
    magic, version, count = struct.unpack_from("<3i", data)
    for width, known in MAGIC_OF_WIDTH.items():
        if (magic, version) == known:
            if count < 0:
                raise BadInput(f"{name}: its header counts {count} tokens; it is damaged")
            return width, count
    raise BadInput(f"{name} is no .bin of llm.c: it begins with {magic}, {version} where 20240520, 1 (2-byte tokens) "
                   "or 20240801, 7 (4-byte tokens) was expected")


def write_llmc(directory: Path, split: str, header: ShardHeader, frames: Iterable[np.ndarray], shard_tokens: int,
               most: int = MOST_TOKENS) -> list[str]:
    """Write a stream of tokens, end-of-text after each document, as SPLIT_000000.bin and so on; return the names.

    A file is closed before the first document that begins once it holds `shard_tokens` tokens, and inside a document
    only where it would pass `most`, the format's limit. Raises OSError.
    """
    files = _Files(directory, split, header.width, min(shard_tokens, most), most)
    held = header.eot
    for tokens in frames:
        # one step to the right: the end-of-text that closes the last document comes before the first instead
        turned = np.empty_like(tokens)
        turned[0], turned[1:] = held, tokens[:-1]
        held = int(tokens[-1])
        files.write(turned, np.flatnonzero(turned == header.eot))
    return files.close()


class _Files:
    """The numbered files of one split, each begun when the one before is full."""

    def __init__(self, directory: Path, split: str, width: int, enough: int, most: int) -> None:
        self._directory, self._split, self._width = directory, split, width
        self._enough, self._most = enough, most
        self._file: BinaryIO | None = None
        self._count = 0
        self._names: list[str] = []

    def write(self, tokens: np.ndarray, begins: np.ndarray) -> None:
        """Append tokens; `begins` are the places among them where a document begins."""
        done = 0
        while done < len(tokens):
            stop = min(len(tokens), done + self._most - self._count)
            if self._count >= self._enough:
                later = begins[np.searchsorted(begins, done) :]
                stop = min(stop, int(later[0]) if len(later) else stop)
            else:
                stop = min(stop, done + self._enough - self._count)
            if stop == done:
                self._finish()
                continue
            self._open().write(tokens[done:stop].tobytes())
            self._count += stop - done
            done = stop

    def close(self) -> list[str]:
        """Close the last file; a split without tokens is one file without tokens."""
        self._open()
        self._finish()
        return self._names

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._names.append(f"{self._split}_{len(self._names):06d}.bin")
            self._file = open(self._directory / self._names[-1], "wb")  # noqa: SIM115
            self._file.write(bytes(HEADER_BYTES))
        return self._file

    def _finish(self) -> None:
        file = self._open()
        file.seek(0)
        file.write(struct.pack("<3i", *MAGIC_OF_WIDTH[self._width], self._count))
        file.close()
        self._file, self._count = None, 0
