"""Best-fit-decreasing: documents to rows of a context's length, cutting only those that are longer than a row.

Cutting as little as possible is what makes it worth while (Ding et al. 2024, arXiv:2404.10830). Two things differ from
the textbook. A row begins with the longest document left and is filled before the next is begun: with the document, or
the pair of them, that fills it exactly, else with the longest that fits. And a long document may begin where a row has
space left: its parts stay one after the other, so its last token before a row's end is followed by the right one, and
the space need not be padded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Arrangement:
    """Chains of document numbers. The documents of a chain, laid end to end from a row's start, take whole rows.

    `full`: but for less than a row of padding at the end of some. `open`: single rows that no document could complete.
    """

    full: list[list[int]]
    open: list[list[int]]


def arrange(lengths: np.ndarray, context: int, longest_chain: int) -> Arrangement:
    """Arrange documents of `lengths` tokens (int [d], end-of-text counted) in rows of `context` tokens.

    A document of at most `context` tokens lies within one row. A chain that has reached `longest_chain` tokens takes
    no further long document. Deterministic.
    """
    shelf = _Shelf(lengths, context)
    long = np.flatnonzero(lengths > context).tolist()[::-1]
    full: list[list[int]] = []
    unfinished: list[list[int]] = []
    while shelf.mask or long:
        chain = [shelf.take_longest() if shelf.mask else long.pop()]
        size = int(lengths[chain[0]])
        size += shelf.fill(chain, -size % context)
        while size % context and long and size < longest_chain:
            chain.append(long.pop())
            size += int(lengths[chain[-1]])
            size += shelf.fill(chain, -size % context)
        (unfinished if size % context and size < context else full).append(chain)
    return Arrangement(full, unfinished)


class _Shelf:
    """The documents of at most a row, by length. Bit n of `mask`: there is one of n tokens; `_mirror`: bit context - n.

    A length that fits is then a few operations on two long integers, however many lengths there are.
    """

    def __init__(self, lengths: np.ndarray, context: int) -> None:
        self._context = context
        order = np.argsort(lengths, kind="stable")
        short = order[: int(np.searchsorted(lengths[order], context, side="right"))]
        self._numbers = short.tolist()
        counts = np.bincount(lengths[short], minlength=context + 1)
        self._next = (np.cumsum(counts) - counts).tolist()
        self._left = counts.tolist()
        self.mask = self._mirror = 0
        for length in np.flatnonzero(counts).tolist():
            self.mask |= 1 << length
            self._mirror |= 1 << context - length

    def take_longest(self) -> int:
        """Remove the longest document, of which there must be one, and return its number."""
        return self._take(self.mask.bit_length() - 1)

    def fill(self, chain: list[int], gap: int) -> int:
        """Append documents to `chain` that fit into `gap` tokens together; return the tokens that they take."""
        taken = 0
        while taken < gap and (length := self._best(gap - taken)):
            chain.append(self._take(length))
            taken += length
        return taken

    def _best(self, gap: int) -> int:
        """Return the length that fills `gap`, or the longer of a pair that does, or the longest that fits, or 0."""
        if self.mask >> gap & 1:
            return gap
        pairs = self.mask & self._mirror >> self._context - gap
        if not gap % 2 and self._left[gap // 2] == 1:
            pairs &= ~(1 << gap // 2)
        return max(0, (pairs or self.mask & (1 << gap) - 1).bit_length() - 1)

    def _take(self, length: int) -> int:
        number = self._numbers[self._next[length]]
        self._next[length] += 1
        self._left[length] -= 1
        if not self._left[length]:
            self.mask ^= 1 << length
            self._mirror ^= 1 << self._context - length
        return int(number)
