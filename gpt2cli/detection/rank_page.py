"""Ranked documents as one HTML page that needs nothing else: style, script and data are in it, all text is escaped.

The page may load nothing and run nothing but its own script, whose digest its Content-Security-Policy names. The
script only ever writes text, never markup. Without it, colours, underlines and histograms are all there.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gpt2cli.detection.characters import Group, acts, character_groups, token_label, visible
from gpt2cli.detection.rank_charts import column_chart, share_bar
from gpt2cli.detection.rank_tally import FRACTIONS, RankTally, rank_classes
from gpt2cli.detection.rank_words import CAUTION, CLASS_NAMES, comparison
from gpt2cli.detection.ranks import DocumentRanks, KeptTokens, RankedBy

MAX_DOCUMENTS = 500
"""Most documents whose text is on a page; the counts are of all."""
_FILES = Path(__file__).parent / "page"
_CLASSES = "abcd"
_DRAWN = "The marks: what the model's own draws (temperature 1, any token) would give in the same places."


class PageSink:
    """Keeps what the page will show, max_tokens of text at most, and writes it to `stream` at the end."""

    def __init__(self, stream: BinaryIO, max_tokens: int) -> None:
        self._stream = stream
        self._room = max_tokens
        self._by = RankedBy("", (), {})
        self._documents: list[DocumentRanks] = []

    def begin(self, ranked_by: RankedBy) -> None:
        """Remember the model."""
        self._by = ranked_by

    def document(self, document: DocumentRanks) -> None:
        """Keep as much of a document as there is room for."""
        if self._room and len(self._documents) < MAX_DOCUMENTS:
            tokens = document.tokens.first(self._room)
            self._room -= len(tokens)
            self._documents.append(DocumentRanks(document.number, document.id, document.tally, tokens))

    def end(self, total: RankTally, n_documents: int) -> None:
        """Write the page."""
        for part in _page(self._by, self._documents, total, n_documents):
            self._stream.write(part.encode())


def _page(by: RankedBy, documents: list[DocumentRanks], total: RankTally, n_documents: int) -> Iterator[str]:
    style, script = ((_FILES / name).read_text(encoding="utf-8") for name in ("gltr.css", "gltr.js"))
    policy = (f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; base-uri 'none'; "
              "form-action 'none'")
    name = escape(visible(by.name))
    yield ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
           f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
           '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
           '<meta name="referrer" content="no-referrer">\n<meta name="generator" content="gpt2 detect show">\n'
           f"<title>Token ranks under {name}</title>\n<style>{style}</style>\n</head>\n<body>\n")
    yield _header(by, name, total, n_documents)
    if n_documents > 1:
        yield f"<h2>All {n_documents:,} documents</h2>\n{_counts(total)}{_charts(total)}"
    yield '<div class="beside">\n<main>\n'
    data = _Data(by)
    for document in documents:
        yield _document(document, data, alone=n_documents == 1)
    if n_documents > len(documents):
        yield (f'<p class="cut">{n_documents - len(documents):,} more documents are in the counts above, and their '
               "text is not shown: the page is full (--max-tokens).</p>\n")
    yield ('</main>\n<aside id="token" aria-live="polite" aria-label="The token"><p class="quiet">Point at the text, '
           "tap it, or move through it with the arrow keys: here is each token's rank, its probability, and what the "
           "model thought likelier.</p></aside>\n</div>\n")
    yield f"<footer><h2>What this does not say</h2><p>{escape(CAUTION)}</p></footer>\n"
    yield f'<script type="application/json" id="data">{data.as_json()}</script>\n'
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _header(by: RankedBy, name: str, total: RankTally, n_documents: int) -> str:
    documents = "one document" if n_documents == 1 else f"{n_documents:,} documents"
    facts = by.fields
    return (f"<header><h1>How expected was each token?</h1>\n<p>{total.n_tokens:,} tokens of {documents}, ranked by "
            f"<strong>{name}</strong>: how many of its {facts['n_vocab']:,} tokens the model thought likelier than "
            'the one that stands there.</p>\n'
            f'<p class="quiet">{facts["n_params"]:,} parameters, context {facts["protocol"]["context"]:,}, weights '
            f'sha256 {facts["model_sha256"][:16]}. <span class="screen">In the text: <kbd>&larr;</kbd> '
            "<kbd>&rarr;</kbd> move, with <kbd>Shift</kbd> to the next token beyond rank 1,000.</span></p></header>\n")


def _counts(tally: RankTally) -> str:
    fields = tally.as_fields()
    shares = zip(fields["ranks"]["shares"], fields["ranks"]["expected_shares"], strict=True)
    rows = [f'<tr><th scope="row"><span class="key {kind}">{label}</span></th><td class="bar">'
            f"{share_bar(share, expected, f'f{kind}')}</td><td>{count:,}</td><td>{_percent(share)}</td>"
            f"<td>{_percent(expected)}</td></tr>\n"
            for kind, label, count, (share, expected) in zip(_CLASSES, CLASS_NAMES, tally.classes.tolist(), shares,
                                                             strict=True)]
    return (f'<table class="ranks"><caption>Where the text\'s tokens stood in the model\'s order. {_DRAWN}</caption>'
            '<thead><tr><th scope="col"></th><th scope="col" class="bar"></th><th scope="col">tokens</th>'
            '<th scope="col">share</th><th scope="col">own draws</th></tr></thead>\n'
            f'<tbody>{"".join(rows)}</tbody></table>\n<p>{escape(comparison(tally))}</p>\n')


def _charts(tally: RankTally) -> str:
    fields = tally.as_fields()
    of_max, entropies = fields["p_of_max"], fields["entropy_nats"]
    return ('<div class="charts">'
            + column_chart(of_max["shares"], of_max["expected_shares"], _edges(FRACTIONS, FRACTIONS),
                           "Probability over that of the likeliest token")
            + column_chart(entropies["shares"], None, _edges(len(entropies["shares"]), 1),
                           "Entropy of the predictions, nats: low, the model was sure") + "</div>\n")


def _edges(count: int, per_unit: int) -> list[str]:
    return [f"{place / per_unit:g}" for place in range(count + 1)]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _document(document: DocumentRanks, data: _Data, *, alone: bool) -> str:
    number, shown, all_of_it = document.number + 1, len(document.tokens), document.tally.n_tokens
    title = "The text" if alone else f"Document {number:,}"
    cut = (f'<p class="cut">The first {shown:,} of {all_of_it:,} tokens are shown; the counts are of all '
           "(--max-tokens).</p>\n" if shown < all_of_it else "")
    groups = list(character_groups(document.tokens.ids.tolist(), data.by.token_bytes))
    data.add(document.tokens, groups)
    classes = rank_classes(document.tokens.ranks)
    spans = [f'<span class="{_CLASSES[classes[group.first:group.stop].max()]}">{_markup(group.text)}</span>'
             for group in groups]
    return (f"<section><h2>{title}</h2>\n{_counts(document.tally)}{cut}"
            f'<div class="text" dir="auto" tabindex="0" role="group" aria-label="Text of document {number:,}; arrow '
            f'keys go from token to token">{"".join(spans)}</div>\n'
            f'{_charts(document.tally)}<p class="quiet">sha256 {document.id}</p></section>\n')


def _markup(text: str) -> str:
    if text.isprintable():
        return escape(text)
    return "".join(_one(character) for character in text)


def _one(character: str) -> str:
    if character == "\n":
        return '<i class="n"></i>\n'
    return f"<i>{visible(character)}</i>" if character != "\t" and acts(character) else escape(character)


class _Data:
    """What the script shows of each token, in columns; tokens' labels once each."""

    def __init__(self, by: RankedBy) -> None:
        self.by = by
        self._places: dict[int, int] = {}
        self._documents: list[dict[str, Any]] = []

    def add(self, tokens: KeptTokens, groups: list[Group]) -> None:
        """Take in a document."""
        p = np.exp(-tokens.top_nll.astype(np.float64))
        top = [[number for token, share in zip(ids, shares, strict=True)
                for number in (self._place(token), float(f"{share:.3g}"))]
               for ids, shares in zip(tokens.top_ids.tolist(), p.tolist(), strict=True)]
        self._documents.append({
            "starts": [group.first for group in groups], "word": [self._place(token) for token in tokens.ids.tolist()],
            "rank": tokens.ranks.tolist(), "nll": [round(nll, 4) for nll in tokens.nll_nats.tolist()],
            "entropy": [round(entropy, 3) for entropy in tokens.entropies.tolist()], "top": top})

    def as_json(self) -> str:
        """Return it as JSON that no HTML parser sees an end in."""
        words = [token_label(self.by.token_bytes[token]) for token in self._places]
        text = json.dumps({"words": words, "size": self.by.fields["n_vocab"], "documents": self._documents},
                          separators=(",", ":"))
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")

    def _place(self, token: int) -> int:
        return self._places.setdefault(token, len(self._places))
