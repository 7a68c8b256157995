"""The layout of a safetensors file, without its numbers: header length in 8 bytes, a JSON header, then the tensors.

https://huggingface.co/docs/safetensors: offsets count from the end of the header, and tensors fill the rest exactly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

from gpt2cli.errors import BadInput
from gpt2cli.records.jsonl import parse_line
from gpt2cli.records.named_file import open_named

MAX_HEADER = 100_000_000
"""The largest header that the format allows, in bytes."""
MAX_WEIGHTS_HEADER = 16 << 20
"""The largest header of weights that is read, in bytes: GPT-2's are thousands of times smaller."""
MAX_DIMENSIONS = 64
"""Most dimensions of a tensor, which is what numpy has: the product of a million large ones would take minutes."""
_CHUNK = 1 << 20
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
         "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64}


def check_safetensors(stream: BinaryIO, name: str, size: int | None) -> int:
    """Return the number of tensors; raise BadInput unless their places fit their shapes and fill the file exactly.

    size: of the whole file in bytes; None has it counted by reading on.
    """
    length = int.from_bytes(stream.read(8), "little")
    text = stream.read(length) if length <= MAX_HEADER else b""
    if not text or len(text) < length:
        raise BadInput(f"{name} was cut short or is no safetensors file: its header claims {length:,} bytes")
    header = parse_line(text, f"{name}: its header")
    if size is None:
        size = 8 + length + sum(map(len, iter(lambda: stream.read(_CHUNK), b"")))
    spans = sorted(_span(header[tensor], tensor, name) for tensor in header if tensor != "__metadata__")
    end = 0
    for start, stop, tensor in spans:
        if start != end:
            raise BadInput(f"{name}: tensor {tensor[:80]!r} begins at byte {start} of the data, not at {end}")
        end = stop
    if 8 + length + end != size:
        raise BadInput(f"{name} has {size:,} bytes, its header says {8 + length + end:,}: it was cut short or changed")
    return len(spans)


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a file that is not trusted, tensor name -> entry: a table of tables, no larger than
    MAX_WEIGHTS_HEADER. Raises BadInput for anything else.
    """
    with open_named(path) as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
        if not 2 <= length <= min(MAX_WEIGHTS_HEADER, size - 8):
            raise BadInput(f"{path} is no sound safetensors file: its header claims {length} of {size} bytes")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise BadInput(f"{path} is no sound safetensors file: its header is not JSON") from None
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise BadInput(f"{path} is no sound safetensors file: its header is no table of tensors")
    header.pop("__metadata__", None)
    return header


def _span(entry: Any, tensor: str, name: str) -> tuple[int, int, str]:
    try:
        start, stop = map(_whole, entry["data_offsets"])
        bits = _BITS[entry["dtype"]]
        if len(entry["shape"]) > MAX_DIMENSIONS:
            raise ValueError("shape")
        for dimension in entry["shape"]:
            bits *= _whole(dimension)
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{name}: its header is damaged at tensor {tensor[:80]!r}") from None
    if bits != 8 * (stop - start):
        raise BadInput(f"{name}: tensor {tensor[:80]!r} has {stop - start} bytes, not what its shape and type ask for")
    return start, stop, tensor


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(value)
    return value
