"""The gpt2.gltr/1 records of ranked documents: the counts, and the tokens with what was expected in their place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gpt2cli.detection.rank_tally import RankTally
from gpt2cli.detection.ranks import DocumentRanks, RankedBy

Write = Callable[[str, dict[str, Any]], None]
"""Takes a record: its kind and its fields."""


class RecordSink:
    """Hands `write` a record for each document, as it comes."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._by = RankedBy("", (), {})

    def begin(self, ranked_by: RankedBy) -> None:
        """Remember the model, which every record names."""
        self._by = ranked_by

    def document(self, document: DocumentRanks) -> None:
        """Write one record."""
        tokens = document.tokens
        top = zip(tokens.top_ids.tolist(), tokens.top_nll.tolist(), strict=True)
        rows = zip(tokens.ids.tolist(), tokens.ranks.tolist(), tokens.nll_nats.tolist(), tokens.entropies.tolist(), top,
                   strict=True)
        listed = [{"id": token, "text": self._text(token), "rank": rank, "nll_nats": nll, "entropy_nats": entropy,
                   "top": self._top(*likeliest)} for token, rank, nll, entropy, likeliest in rows]
        counts = document.tally.as_fields()
        self._write("gpt2.gltr", {"document": document.number, "id": document.id, **counts,
                                  "n_tokens_listed": len(listed), **self._by.fields, "tokens": listed})

    def end(self, total: RankTally, n_documents: int) -> None:
        """Do nothing: each document's record stands for itself."""

    def _top(self, ids: list[int], nlls: list[float]) -> list[dict[str, Any]]:
        return [{"id": token, "text": self._text(token), "p": math.exp(-nll)}
                for token, nll in zip(ids, nlls, strict=True)]

    def _text(self, token: int) -> str:
        return self._by.token_bytes[token].decode("utf-8", "replace")
