"""GLTR: rank, probability and entropy of every token of a text under a model, document by document.

Numbers are those of `gpt2 eval-ppl --per-token`: the same scorer with the same sliding windows, end-of-text before
each document. Of a long document only the first tokens are kept to be shown; all are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gpt2cli.detection.rank_tally import FRACTIONS, RANK_BOUNDS, RankTally
from gpt2cli.errors import BadInput
from gpt2cli.evaluation.perplexity import BATCH_TOKENS
from gpt2cli.evaluation.predictions import Wanted
from gpt2cli.evaluation.protocols import settle
from gpt2cli.evaluation.scoring import Scorer, WindowScores
from gpt2cli.evaluation.texts import EvaluatedText, Texts
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.open_model import ModelChoice, OpenModel, find_model, load_found


@dataclass(frozen=True)
class RankConfig:
    """What `gpt2 detect show` was asked for, but where it goes. None: the model decides.

    top: likeliest tokens to name at each position. max_tokens: most tokens kept of a document.
    """

    model: ModelChoice = field(default_factory=ModelChoice)
    paths: tuple[str, ...] = ()
    form: str = "auto"
    split: str | None = None
    context: int | None = None
    stride: int | None = None
    batch: int | None = None
    top: int = 5
    max_tokens: int = 20_000


@dataclass(frozen=True)
class RankedBy:
    """The model that ranks: `name` for people, the bytes of each of its tokens, and the fields of its records."""

    name: str
    token_bytes: Sequence[bytes]
    fields: dict[str, Any]


@dataclass(frozen=True)
class KeptTokens:
    """The first tokens of a document, a row each: ids, ranks [n]; nll, entropies [n] in nats; top ids, top nll [n, K].

    top_ids are the likeliest tokens at the position, the likeliest first.
    """

    ids: np.ndarray
    ranks: np.ndarray
    nll_nats: np.ndarray
    entropies: np.ndarray
    top_ids: np.ndarray
    top_nll: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> KeptTokens:
        """Return the first `count` rows."""
        return KeptTokens(*(column[:count] for column in vars(self).values()))


@dataclass(frozen=True)
class DocumentRanks:
    """One document: its place among those with text, counted from 0, the sha256 of its UTF-8, and its tokens."""

    number: int
    id: str
    tally: RankTally
    tokens: KeptTokens


class Sink(Protocol):
    """Takes the documents as they are known: records, a page, a terminal."""

    def begin(self, ranked_by: RankedBy) -> None:
        """Take the model; comes first, once."""

    def document(self, document: DocumentRanks) -> None:
        """Take the next document."""

    def end(self, total: RankTally, n_documents: int) -> None:
        """Take the sums over all documents; comes last, once."""


def rank_texts(config: RankConfig, sinks: Sequence[Sink], reporter: Reporter) -> RankTally:
    """Rank every token of the inputs and give the documents to each sink; return the sums over all of them.

    Raises BadInput where there is no text, and what open_model and Texts.documents raise.
    """
    found = find_model(config.model, reporter)
    protocol = settle("sliding", found.shape.n_ctx, config.context, config.stride)
    opened = load_found(found, reporter)
    texts = Texts(config.paths, config.form, config.split, opened.encoder, protocol)
    wanted = Wanted(min(config.top, opened.shape.n_vocab), RANK_BOUNDS, FRACTIONS)
    budget = (config.batch or 1) * protocol.context if config.batch else max(BATCH_TOKENS, protocol.context)
    scorer = Scorer(opened.model, opened.vocabulary.eot, protocol, budget, wanted=wanted)
    documents = _Documents(opened.shape.n_vocab, config.max_tokens)
    ranked_by = RankedBy(_name(opened), opened.vocabulary.token_bytes(), _facts(opened, protocol.as_fields()))
    for sink in sinks:
        sink.begin(ranked_by)
    total, n_documents = RankTally(opened.shape.n_vocab), 0
    scores = scorer.score(documents.waiting(texts.documents()), reporter, texts.n_tokens)
    for document in documents.complete(scores):
        n_documents += 1
        total.include(document.tally)
        for sink in sinks:
            sink.document(document)
    for line in texts.sentences():
        reporter.warn(line)
    if not total.n_tokens:
        raise BadInput("there is no text to show: every input is empty")
    for sink in sinks:
        sink.end(total, n_documents)
    return total


def _name(opened: OpenModel) -> str:
    source = opened.source
    name = source.run or source.directory.resolve().name
    return name if source.step is None else f"{name}, step {source.step:,}"


def _facts(opened: OpenModel, protocol: dict[str, Any]) -> dict[str, Any]:
    source = opened.source
    return {"run": source.run or source.directory.resolve().name, "step": source.step,
            "n_params": opened.shape.n_params, "n_vocab": opened.shape.n_vocab, "protocol": protocol,
            "dtype": opened.dtype, "model_sha256": opened.sha256, "tokenizer_sha256": opened.vocabulary.sha256}


class _Documents:
    """Gathers the scores of windows into documents."""

    def __init__(self, n_vocab: int, max_tokens: int) -> None:
        self._n_vocab = n_vocab
        self._max_tokens = max_tokens
        self._pending: deque[EvaluatedText] = deque()

    def waiting(self, texts: Iterable[EvaluatedText]) -> Iterator[Iterable[np.ndarray]]:
        """Yield the ids of `texts`, which are remembered until their scores are complete."""
        for text in texts:
            self._pending.append(text)
            yield text.ids

    def complete(self, scores: Iterable[WindowScores]) -> Iterator[DocumentRanks]:
        """Yield each document once all its windows, which come by document, are in."""
        number, tally, kept = 0, RankTally(self._n_vocab), list[KeptTokens]()
        for window in scores:
            if window.document > number:
                yield self._document(number, tally, kept)
                number, tally, kept = window.document, RankTally(self._n_vocab), []
            room = self._max_tokens - tally.n_tokens
            tally.add(window)
            if room > 0:
                kept.append(_kept(window).first(room))
        if tally.n_tokens:
            yield self._document(number, tally, kept)

    def _document(self, number: int, tally: RankTally, kept: list[KeptTokens]) -> DocumentRanks:
        columns = zip(*(vars(part).values() for part in kept), strict=True)
        tokens = KeptTokens(*(np.concatenate(column) for column in columns))
        return DocumentRanks(number, self._pending.popleft().counter.sha256, tally, tokens)


def _kept(window: WindowScores) -> KeptTokens:
    assert window.ranks is not None and window.entropies is not None and window.predictions is not None
    return KeptTokens(window.ids, window.ranks, window.nll_nats, window.entropies,
                      window.predictions.top_id_NK.numpy(), window.predictions.top_nll_NK.numpy())

