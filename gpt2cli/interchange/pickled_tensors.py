"""The one place that reads a pickle: PyTorch's own files, on an explicit flag, by torch's restricted unpickler alone.

`torch.load(weights_only=True)` makes tensors, containers and numbers and calls nothing else. What it would allocate is
bounded before: a file in the zip form must be stored uncompressed, its entries no larger together than itself.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.named_file import open_named

ZIP_START = b"PK\x03\x04"
_PICKLE_STARTS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_MOST_ENTRIES = 200_000
_MOST_PICKLE_BYTES = 16 << 20


def is_pickle(start: bytes) -> bool:
    """Whether a file that begins so is one of PyTorch's, in the zip form or that of before torch 1.6."""
    return start.startswith((ZIP_START, *_PICKLE_STARTS))


def read_pickle(path: Path, allowed: bool) -> Any:
    """Return the object in one of PyTorch's files; UsageFault unless `allowed`, BadInput for damage and danger."""
    if not allowed:
        raise UsageFault(f"{path} is a pickle; --allow-pickle reads it by torch's restricted loader, which makes "
                         "tensors and calls nothing else")
    with open_named(path) as file:
        start = file.read(4)
    if not is_pickle(start):
        raise BadInput(f"{path} is no file of PyTorch's: it begins with {start.hex(' ') or 'nothing'}")
    if start == ZIP_START:
        _check_zip(path)
    try:
        with warnings.catch_warnings():  # of old pickles, which are told by our own sentence where they matter
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # its errors are of every kind, and each means the same to a person
        reason = ascii(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)[1:-1]
        raise BadInput(f"{path} holds more than tensors, or is damaged; torch says: {_brief(reason)}") from None


def _check_zip(path: Path) -> None:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, OverflowError) as error:
        raise BadInput(f"{path} was cut short or is damaged: {ascii(str(error))[1:-1]}") from None
    if len(entries) > _MOST_ENTRIES:
        raise BadInput(f"{path} has {len(entries):,} entries, more than any model")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise BadInput(f"{path} is compressed, which PyTorch never does; it may be a bomb")
        if entry.filename.endswith("data.pkl") and entry.file_size > _MOST_PICKLE_BYTES:
            raise BadInput(f"{path}: its pickle has {entry.file_size:,} bytes, more than any model's")
    if sum(entry.file_size for entry in entries) > size:
        raise BadInput(f"{path}: its entries claim more bytes than the file has; it may be a bomb")


def _brief(reason: str) -> str:
    reason = reason.split(". ")[0].removesuffix(".")
    return reason if len(reason) < 200 else reason[:197] + "..."
