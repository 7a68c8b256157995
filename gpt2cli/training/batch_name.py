"""Which shard files and windows a batch was read from, for whoever has to look at it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpt2cli.records.shard_set import ShardSet

_NAMED = 8


def batch_files(shards: ShardSet, n_ctx: int, windows: np.ndarray) -> list[dict[str, Any]]:
    """Return {"file": name, "windows": [...]} for each training shard that `windows` (int64) begin in.

    Window w holds tokens w n_ctx to (w + 1) n_ctx of the training split, its files one after the other.
    """
    files = shards.files("train")
    ends = np.cumsum([entry.tokens for entry in files], dtype=np.int64)
    found: dict[str, list[int]] = {}
    for window in sorted(int(w) for w in windows):
        found.setdefault(files[int(np.searchsorted(ends, window * n_ctx, side="right"))].name, []).append(window)
    return [{"file": name, "windows": of_file} for name, of_file in found.items()]


def batch_name(files: list[dict[str, Any]]) -> str:
    """Return what batch_files() found as words, the first windows of each file by number."""
    return "; ".join(f"{_numbers(entry['windows'])} of {entry['file']}" for entry in files)


def _numbers(windows: list[int]) -> str:
    more = len(windows) - _NAMED
    named = ", ".join(map(str, windows[:_NAMED]))
    return f"window{'s' if len(windows) > 1 else ''} {named}" + (f" and {more} more" if more > 0 else "")
