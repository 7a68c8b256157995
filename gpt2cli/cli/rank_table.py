"""Ranked documents as plain text: a token a line, then the counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from gpt2cli.detection.rank_tally import RankTally
    from gpt2cli.detection.ranks import DocumentRanks, RankedBy

_BAR = 30


class RankTable:
    """Writes a table of each document to `stream` as it comes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._token_bytes: list[bytes] = []

    def begin(self, ranked_by: RankedBy) -> None:
        """Remember the tokens."""
        self._token_bytes = list(ranked_by.token_bytes)

    def document(self, document: DocumentRanks) -> None:
        """Write the tokens and the counts of one document."""
        tokens = document.tokens
        self._line(f"document {document.number + 1}: {document.tally.n_tokens:,} tokens")
        self._line(f"{'rank':>7} {'p':>8} {'nats':>7} {'entropy':>7}  token; the model's likeliest")
        rows = zip(tokens.ids.tolist(), tokens.ranks.tolist(), tokens.nll_nats.tolist(), tokens.entropies.tolist(),
                   tokens.top_ids.tolist(), tokens.top_nll.tolist(), strict=True)
        characters = self._characters(tokens.ids.tolist())
        for place, (token, rank, nll, entropy, top_ids, top_nll) in enumerate(rows):
            likeliest = "  ".join(f"{self._label(other)} {math.exp(-cost):.2g}"
                                  for other, cost in zip(top_ids, top_nll, strict=True))
            self._line(f"{rank:>7} {math.exp(-nll):>8.2g} {nll:>7.2f} {entropy:>7.2f}  "
                       f"{self._label(token) + characters.get(place, ''):<16} {likeliest}")
        if len(tokens) < document.tally.n_tokens:
            more = document.tally.n_tokens - len(tokens)
            self._line(f"... and {more:,} more tokens, which are counted (--max-tokens)")
        self._counts(document.tally)

    def end(self, total: RankTally, n_documents: int) -> None:
        """Write the counts of all documents, where there are several, and what they do not say."""
        from gpt2cli.detection.rank_words import CAUTION

        if n_documents > 1:
            self._line(f"all {n_documents:,} documents: {total.n_tokens:,} tokens")
            self._counts(total)
        self._line(CAUTION)

    def _counts(self, tally: RankTally) -> None:
        for line in count_lines(tally):
            self._line(line)
        self._line("")

    def _characters(self, ids: list[int]) -> dict[int, str]:
        """Return, by the place of its last token, what several tokens make together."""
        from gpt2cli.detection.characters import character_groups, visible

        return {group.stop - 1: f" = {visible(group.text)}" for group in character_groups(ids, self._token_bytes)
                if group.stop - group.first > 1}

    def _label(self, token: int) -> str:
        from gpt2cli.detection.characters import token_label

        return token_label(self._token_bytes[token])

    def _line(self, text: str) -> None:
        self._stream.write(f"{text}\n".encode())


def count_lines(tally: RankTally, bar: str = "#") -> list[str]:
    """Return the histograms of a tally as lines, and the comparison with the model's own draws."""
    from gpt2cli.detection.rank_words import CLASS_NAMES, comparison

    fields = tally.as_fields()
    ranks, of_max, entropies = fields["ranks"], fields["p_of_max"], fields["entropy_nats"]
    lines = [f"{'rank':<12}{'tokens':>9}{'share':>8}{'own draws':>11}"]
    rows = zip(CLASS_NAMES, ranks["counts"], ranks["shares"], ranks["expected_shares"], strict=True)
    lines += [_row(name, count, share, f"{100 * expected:>9.1f} %", bar) for name, count, share, expected in rows]
    lines.append("p / p_max")
    tenths = zip(of_max["counts"], of_max["shares"], of_max["expected_shares"], strict=True)
    lines += [_row(f"{place / 10:.1f} to {(place + 1) / 10:.1f}", count, share, f"{100 * expected:>9.1f} %", bar)
              for place, (count, share, expected) in enumerate(tenths)]
    lines.append("entropy, nats")
    pairs = enumerate(zip(entropies["counts"], entropies["shares"], strict=True))
    lines += [_row(f"{place} to {place + 1}", count, share, " " * 11, bar) for place, (count, share) in pairs]
    return [*lines, comparison(tally)]


def _row(name: str, count: int, share: float, expected: str, bar: str) -> str:
    return f"{name:<12}{count:>9,}{100 * share:>6.1f} %{expected}  {bar * round(_BAR * share)}".rstrip()
