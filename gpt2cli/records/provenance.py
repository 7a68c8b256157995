"""Where an artefact came from: content hashes and versions. No clock, no host name, no path."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from typing import Any

import gpt2cli
from gpt2cli.records.named_file import open_named


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the hex sha256 of a file's bytes."""
    with open_named(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(value: Any) -> str:
    """Return the hex sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of gpt2cli and of the named installed packages."""
    found = {"gpt2cli": gpt2cli.__version__}
    for package in packages:
        found[package] = importlib.metadata.version(package)
    return found
