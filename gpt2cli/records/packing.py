"""What index.json says of the way a shard set was packed, and whether the documents lie so.

A set that was packed best-fit consists of rows of `context` tokens: row i of a split is its tokens i context to
(i + 1) context, one more token follows the last row, and a document that fits a row is never cut by a row's end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.records.shard_file import ShardFile
from gpt2cli.records.shard_set import INDEX_NAME, SPLITS, ShardSet

CONCATENATE, BEST_FIT = "concatenate", "best-fit"


def packed_context(index: dict[str, Any]) -> int | None:
    """Return the context for whose length a set's rows were packed; None when it has no rows.

    Raises BadInput when the index doesn't say it in the form that gpt2-shard(5) describes.
    """
    packed = index.get("pack")
    method = packed.get("method") if isinstance(packed, dict) else None
    context = packed.get("context") if isinstance(packed, dict) else None
    if method == CONCATENATE and context is None:
        return None
    if method == BEST_FIT and isinstance(context, int) and not isinstance(context, bool) and context > 0:
        return context
    raise BadInput(f"{INDEX_NAME} says that the set was packed by {str(method)[:40]!r} for a context of "
                   f"{str(context)[:40]}, which this gpt2 doesn't know; pack again")


def row_problems(shards: ShardSet) -> list[str]:
    """Return what is wrong with the rows of a set whose files are sound, as sentences; nothing without rows."""
    try:
        context = packed_context(shards.index)
    except BadInput as error:
        return [f"{shards.directory}: {error}"]
    return [] if context is None else [text for split in SPLITS for text in _split_problems(shards, split, context)]


def _split_problems(shards: ShardSet, split: str, context: int) -> list[str]:
    place = empty = 0
    for entry in shards.files(split):
        with ShardFile(shards.directory / entry.name) as shard:
            lengths = shard.footer.lengths().astype(np.int64)
        starts = place + np.cumsum(lengths) - lengths
        cut = np.flatnonzero((lengths <= context) & (starts % context + lengths > context))
        if len(cut):
            return [f"{shards.directory / entry.name}: document {cut[0]} is cut by the end of a row of {context} "
                    "tokens though it would fit one; pack again"]
        place += entry.tokens
        empty += int(np.count_nonzero(lengths == 1))
    padding = shards.index["splits"][split].get("padding_tokens")
    if place % context != 1 % context or not isinstance(padding, int) or not 1 <= padding <= empty:
        return [f"{shards.directory}: {split} has {place} tokens, {empty} of them empty documents, where {INDEX_NAME} "
                f"says rows of {context} tokens, one more, and padding of {str(padding)[:40]}; pack again"]
    return []
