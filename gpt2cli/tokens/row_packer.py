"""Best-fit packing as a stream: windows of documents, arranged in rows, go to a split's files.

Rows start at multiples of the context in the tokens of a split, so they are the windows that training reads
(tokens.order): a document that fits a row is never cut by one. Padding is end-of-text after end-of-text.
"""

from __future__ import annotations

import numpy as np

from gpt2cli.tokens.best_fit import arrange
from gpt2cli.tokens.blocks import DocumentBlock, join_blocks
from gpt2cli.tokens.split_writer import SplitWriter

WINDOW_TOKENS = 1 << 24
"""Tokens among which rows are composed. More would pad less, and hold more in memory."""
_CHAIN_TOKENS = 1 << 22
_BATCH_TOKENS = 1 << 17


class RowPacker:
    """Packs one split. `padding` counts the tokens that are none of any document's."""

    def __init__(self, writer: SplitWriter, split: str, context: int, window_tokens: int = WINDOW_TOKENS) -> None:
        self._writer = writer
        self._split = split
        self._context = context
        self._window = window_tokens
        self._waiting: list[DocumentBlock] = []
        self._size = 0
        self.padding = 0

    def write(self, block: DocumentBlock) -> None:
        """Take documents; they are written when a window is full, or at the end."""
        self._waiting.append(block)
        self._size += len(block.tokens)
        if self._size >= self._window:
            self._write_window(last=False)

    def finish(self) -> None:
        """Write what is left, and the one token that the last row's last target needs."""
        if self._size:
            self._write_window(last=True)
        self._write([self._pad(1)], [1], [1])

    def _write_window(self, last: bool) -> None:
        """Write the rows of the waiting documents; those of incomplete rows wait for more, if it isn't the last time.

        The order of the rows is that of their first documents' hashes, so that it has nothing to do with lengths.
        """
        block = join_blocks(self._waiting)
        found = arrange(block.lengths, self._context, _CHAIN_TOKENS)
        rows, left = found.full, np.array([number for chain in found.open for number in chain], dtype=np.int64)
        if last or 2 * int(block.lengths[left].sum()) > self._window:
            rows, left = rows + found.open, left[:0]
        self._waiting = [block.take(left)] if len(left) else []
        self._size = sum(len(part.tokens) for part in self._waiting)
        firsts = block.hashes[np.array([chain[0] for chain in rows], dtype=np.int64)]
        pieces: list[np.ndarray] = []
        lengths: list[int] = []
        ends: list[int] = []
        size = 0
        for row in np.argsort(firsts, kind="stable").tolist():
            numbers = np.array(rows[row])
            pieces += block.pieces(numbers)
            taken = block.lengths[numbers].tolist()
            gap = -sum(taken) % self._context
            if gap:
                pieces.append(self._pad(gap))
            lengths += taken + [1] * gap
            size += sum(taken) + gap
            ends.append(size)
            if size >= _BATCH_TOKENS:
                self._write(pieces, lengths, ends)
                pieces, lengths, ends, size = [], [], [], 0
        if size:
            self._write(pieces, lengths, ends)

    def _pad(self, count: int) -> np.ndarray:
        self.padding += count
        return self._writer.end_of_text(count)

    def _write(self, pieces: list[np.ndarray], lengths: list[int], ends: list[int]) -> None:
        self._writer.write(self._split, np.concatenate(pieces), np.array(lengths), np.array(ends))
