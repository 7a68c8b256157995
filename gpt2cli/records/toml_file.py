"""TOML files of settings: small, and whatever is wrong with one is a sentence."""

from __future__ import annotations

import os
import tomllib
from typing import Any

from gpt2cli.errors import UsageFault
from gpt2cli.records.named_file import open_named

MAX_BYTES = 64 << 10
"""Largest file. The standard library's reader takes time that grows with the square of a key's parts."""


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the tables of a file. Raises UsageFault when it is not there, too large, or no TOML."""
    try:
        with open_named(path) as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageFault(f"there is no {path}") from None
    except IsADirectoryError:
        raise UsageFault(f"{path} is a directory; name a TOML file") from None
    if len(data) > MAX_BYTES:
        raise UsageFault(f"{path} is larger than {MAX_BYTES:,} bytes, too large for a file of settings")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageFault(f"{path} is not TOML: not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageFault(f"{path} is not TOML: {' '.join(str(error).split())[:200]}") from None
    except RecursionError:
        raise UsageFault(f"{path} is not TOML: nested too deeply") from None
    except ValueError:
        raise UsageFault(f"{path} is not TOML: a number or a date that cannot be") from None
