"""Which documents validate: those whose hash is below a share of its range, and never none or all of them.

Until both splits have a document, nothing can be written: documents wait in a spool. That ends after a few hundred,
unless the share is tiny or there are few documents; then it is decided at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.tokens.blocks import DocumentBlock
from gpt2cli.tokens.spool import Spool

LEAST_VAL_TOKENS = 1024
"""Where one document has to serve both splits, val gets at least this many of its tokens, or a half."""


class Division:
    """Divides documents, once. After that `cut` tells whether a document had to be cut to serve both splits."""

    def __init__(self, blocks: Iterator[DocumentBlock], fraction: float, spool: Path) -> None:
        """`fraction`, in [0, 1): share of the documents that validate. `spool`: path of a temporary."""
        self._blocks = blocks
        self._fraction = fraction
        self._limit = np.uint64(int(fraction * 2**64))
        self._spool = Spool(spool)
        self.cut = False

    def __iter__(self) -> Iterator[tuple[DocumentBlock, np.ndarray]]:
        """Yield the blocks in order, each with a bool [documents]: which of them validate.

        Raises BadInput when there is no document, or a single one of a single token.
        """
        decided, found = False, np.zeros(2, dtype=bool)
        for block in self._blocks:
            val = block.hashes < self._limit
            if decided:
                yield block, val
                continue
            self._spool.append(block)
            found |= [val.any(), not val.all()]
            if found.all():
                decided = True
                for waiting in self._spool:
                    yield waiting, waiting.hashes < self._limit
                self._spool.remove()
        if not decided:
            yield from self._by_need()
            self._spool.remove()

    def _by_need(self) -> Iterator[tuple[DocumentBlock, np.ndarray]]:
        if not self._spool.documents:
            raise BadInput("the shards hold no document, so there is nothing to train on")
        least = min(int(block.hashes.min()) for block in self._spool)
        self.cut = all(int(block.hashes.max()) == least for block in self._spool)
        left = self._spool.documents
        for block in self._spool:
            left -= len(block)
            if not self.cut:
                yield block, block.hashes == least
            elif left:
                yield block, np.zeros(len(block), dtype=bool)
            else:
                yield self._cut_last(block)

    def _cut_last(self, block: DocumentBlock) -> tuple[DocumentBlock, np.ndarray]:
        """Return the block with its last document as two, of which the second validates."""
        n_tokens = int(block.lengths[-1]) - 1
        if n_tokens < 2:
            raise BadInput("the only document is a single token, too little for a training and a validation split")
        size = min(max(int(self._fraction * n_tokens), min(LEAST_VAL_TOKENS, n_tokens // 2)), n_tokens - 1)
        place = len(block.tokens) - 1 - size
        tokens = np.concatenate([block.tokens[:place], block.tokens[-1:], block.tokens[place:]])
        lengths = np.concatenate([block.lengths[:-1], [n_tokens - size + 1, size + 1]])
        val = np.zeros(len(lengths), dtype=bool)
        val[-1] = True
        return DocumentBlock(tokens, lengths, np.concatenate([block.hashes, block.hashes[-1:]])), val
