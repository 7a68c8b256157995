"""Files whose names are no UTF-8, for libraries that take no other names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gpt2cli.records.named_file import open_named


@contextlib.contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yield a path that is UTF-8 and leads to the file to be read: `path` itself, or else one of its descriptor.

    Raises OSError.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with open_named(path) as file:
            yield Path(f"/dev/fd/{file.fileno()}")
    else:
        yield path
