"""The files that inputs stand for: a directory is its text files, all the way down, in order of name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import ReadTally

SUFFIXES = (".txt", ".text", ".md", ".rst", ".jsonl", ".ndjson")
"""Of a directory's files these are read, and these with .zst behind; a file that is named is read whatever its name."""
_FOREIGN = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "zip", b"PAR1": "Parquet",
            b"%PDF-": "PDF"}


def input_files(paths: Sequence[str | os.PathLike[str]], tally: ReadTally) -> Iterator[str]:
    """Yield `paths` (none: `-`) with directories replaced by the files in them.

    Entries go by the bytes of their names; hidden ones are left out, as are links to directories. Files of another
    suffix are counted in `tally`. Raises BadInput for a directory without a text file.
    """
    for path in map(str, paths or ("-",)):
        if path != "-" and os.path.isdir(path):
            found = False
            for file in _walk(path, tally):
                found = True
                yield file
            if not found:
                raise BadInput(f"there is no text file in {path}; those that end in {' '.join(SUFFIXES)} are read, "
                               "also with .zst")
        else:
            yield path


def foreign_format(start: bytes) -> str | None:
    """Return the name of a compressed or binary format that a file which starts so is in; None for all we read."""
    return next((name for magic, name in _FOREIGN.items() if start.startswith(magic)), None)


def _walk(directory: str, tally: ReadTally) -> Iterator[str]:
    """Yield the text files below `directory`; a stack of listings, because depth is the input's to choose."""
    stack = [_entries(directory)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
        elif entry.is_dir(follow_symlinks=False):
            stack.append(_entries(entry.path))
        elif Path(entry.name.removesuffix(".zst")).suffix.lower() in SUFFIXES and _is_file(entry):
            yield entry.path
        else:
            tally.skip("files of other kinds in directories")


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(directory) as found:
        visible = [entry for entry in found if not entry.name.startswith(".")]
    return iter(sorted(visible, key=lambda entry: os.fsencode(entry.name)))


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except FileNotFoundError:  # a link to nowhere is read, so that it is an error and not a silent loss
        return True
