"""Ranked documents on a terminal: the text coloured by rank, a legend, the counts."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from gpt2cli.cli.console import Console
from gpt2cli.cli.rank_table import count_lines
from gpt2cli.cli.stdout import drawing_stream

if TYPE_CHECKING:
    from gpt2cli.detection.rank_tally import RankTally
    from gpt2cli.detection.ranks import DocumentRanks, RankedBy

STYLES = ("black on #d3e8f6", "black on #fbe48f", "black on #f19c5b underline", "black on #c99be0 bold underline")
"""Of each class of ranks: told apart by lightness and lines too, for eyes and terminals that do not tell hues."""


def has_colours() -> bool:
    """Whether standard output is a terminal that may be coloured."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and "NO_COLOR" not in os.environ


class RankTerminal:
    """Draws each document on standard output as it comes."""

    def __init__(self, console: Console) -> None:
        from rich.console import Console as RichConsole

        self._console = console
        self._rich = RichConsole(file=drawing_stream(), highlight=False, markup=False, emoji=False)
        self._token_bytes: list[bytes] = []

    def begin(self, ranked_by: RankedBy) -> None:
        """Remember the tokens, and draw the legend."""
        from rich.text import Text

        from gpt2cli.detection.rank_words import CLASS_NAMES

        self._token_bytes = list(ranked_by.token_bytes)
        legend = Text("rank ")
        for name, style in zip(CLASS_NAMES, STYLES, strict=True):
            legend.append(f" {name} ", style).append(" ")
        self._legend = legend

    def document(self, document: DocumentRanks) -> None:
        """Draw the text and the counts of one document."""
        self._console.close()
        self._print(f"document {document.number + 1}: {document.tally.n_tokens:,} tokens")
        self._print(self._legend)
        self._print(self._coloured(document))
        if len(document.tokens) < document.tally.n_tokens:
            more = document.tally.n_tokens - len(document.tokens)
            self._print(f"... and {more:,} more tokens, which are counted (--max-tokens)")
        for line in count_lines(document.tally, "\u2588"):
            self._print(line)
        self._print("")

    def end(self, total: RankTally, n_documents: int) -> None:
        """Draw the counts of all documents, where there are several, and what they do not say."""
        from gpt2cli.detection.rank_words import CAUTION

        if n_documents > 1:
            self._print(f"all {n_documents:,} documents: {total.n_tokens:,} tokens")
            for line in count_lines(total, "\u2588"):
                self._print(line)
        self._print(CAUTION)

    def _coloured(self, document: DocumentRanks) -> Any:
        from rich.text import Text

        from gpt2cli.detection.characters import character_groups, visible
        from gpt2cli.detection.rank_tally import rank_classes

        classes = rank_classes(document.tokens.ranks)
        text = Text()
        for group in character_groups(document.tokens.ids.tolist(), self._token_bytes):
            text.append(visible(group.text), STYLES[classes[group.first : group.stop].max()])
        return text

    def _print(self, what: Any) -> None:
        self._rich.print(what, soft_wrap=True)
