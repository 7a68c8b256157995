"""The eval-ppl command's work: a model and text in, a gpt2.eval/1 record out; also one a document and one a token."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.bootstrap import percentile_intervals
from gpt2cli.evaluation.clean_documents import CleanDocuments
from gpt2cli.evaluation.exclusion import ExclusionChoice, open_exclusion, refuse_stdin_twice
from gpt2cli.evaluation.measures import DocumentSums, ratios
from gpt2cli.evaluation.paper import PARTS, compare, doubts, prepare
from gpt2cli.evaluation.preparation import Preparation
from gpt2cli.evaluation.protocols import Protocol, settle
from gpt2cli.evaluation.scoring import Scorer, WindowScores
from gpt2cli.evaluation.texts import EvaluatedText, Texts, count_units
from gpt2cli.evaluation.units import Units, empty_text_units
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.open_model import ModelChoice, OpenModel, find_model, load_found
from gpt2cli.tokens.encode import Encoder

BATCH_TOKENS = 2048
"""Positions computed together unless a batch is given."""
Write = Callable[[str, dict[str, Any]], None]
"""Takes a record: its kind and its fields."""


@dataclass(frozen=True)
class EvalConfig:
    """Everything `gpt2 eval-ppl` was asked for, but where its records go. None: the model or the protocol decides.

    split: of a shard set train or val, of paper-enwik8 and paper-text8 test or all. count_from: a file whose words,
    bytes and characters are counted instead of the evaluated text's. per_document, per_token: whether records of those
    are written too. bootstrap: resamples, 0 for none. exclude: what is left out of a second, clean score.
    """

    model: ModelChoice = field(default_factory=ModelChoice)
    paths: tuple[str, ...] = ()
    form: str = "auto"
    split: str | None = None
    protocol: str = "sliding"
    context: int | None = None
    stride: int | None = None
    bos: bool | None = None
    batch: int | None = None
    count_from: str | None = None
    per_document: bool = False
    per_token: bool = False
    bootstrap: int = 0
    detokenizer: str | None = None
    exclude: ExclusionChoice | None = None


def evaluate(config: EvalConfig, reporter: Reporter, write: Write = lambda kind, fields: None) -> list[dict[str, Any]]:
    """Return the fields of one gpt2.eval/1 record for all inputs together, and with an exclusion a second; see
    gpt2-records(5).

    `write` gets the records of tokens and documents as they are known. Raises BadInput when there is no token to
    score, when an input is damaged or in another vocabulary than the model's, when the overlap to exclude was measured
    on other text or leaves none, and what open_model raises.
    """
    found = find_model(config.model, reporter)
    protocol = settle(config.protocol, found.shape.n_ctx, config.context, config.stride, config.bos)
    protocol, preparation = prepare(protocol, config.detokenizer, config.split)
    clean = _clean_documents(config, preparation, reporter)
    opened = load_found(found, reporter)
    elsewhere, elsewhere_sha256 = None, None
    if config.count_from is not None:
        elsewhere, elsewhere_sha256 = count_units(config.count_from, "auto", protocol.word)
        protocol = replace(protocol, units="of another text")
    split = config.split if config.split not in PARTS else None
    texts = Texts(config.paths, config.form, split, opened.encoder, protocol, preparation)
    scored = _Documents(opened.encoder, protocol, config, write, clean)
    budget = (config.batch or 1) * protocol.context if config.batch else max(BATCH_TOKENS, protocol.context)
    scorer = Scorer(opened.model, opened.vocabulary.eot, protocol, budget, details=config.per_token)
    scored.take(scorer.score(scored.waiting(texts.documents()), reporter, texts.n_tokens))
    for line in [*texts.sentences(), *(preparation.sentences() if preparation else ())]:
        reporter.warn(line)
    sums = scored.sums.total(texts.n_empty, elsewhere, empty_text_units(protocol.word))
    if not sums.n_tokens:
        raise BadInput("there is no text to score: every input is empty" if not len(scored.sums.nll) else
                       "there is no token to score: without end-of-text before it, a document's first token is not")
    record = {**_origin(opened, texts), **sums.as_fields(), "protocol": protocol.as_fields(), "dtype": opened.dtype,
              "model_sha256": opened.sha256, "tokenizer_sha256": opened.vocabulary.sha256,
              "text_sha256": scored.sha256}
    if preparation is not None:
        record |= preparation.texts.as_fields()
    if elsewhere is not None:
        record["units_sha256"] = elsewhere_sha256
    if config.bootstrap:
        record["bootstrap"] = percentile_intervals(scored.sums, config.bootstrap, own_units=elsewhere is None)
    if texts.split is not None and texts.split.name == "val":
        record["val_sha256"] = texts.split.sha256
    record |= compare(protocol.name, record)
    for line in doubts(protocol.name, record):
        reporter.warn(line)
    if clean is None:
        return [record]
    return [record, clean.record(record, sums, empty_text_units(protocol.word), config.bootstrap)]


def _clean_documents(config: EvalConfig, preparation: Preparation | None, reporter: Reporter) -> CleanDocuments | None:
    if config.exclude is None:
        return None
    if config.count_from is not None:
        raise UsageFault("--count-from counts the units of all documents, so those of the clean ones are not known; "
                         "leave it out with --exclude-overlap")
    refuse_stdin_twice(config.exclude, config.paths or ("-",))
    exclusion = open_exclusion(config.exclude, reporter)
    return CleanDocuments(exclusion, None if preparation is None else preparation.treatment)


def _origin(opened: OpenModel, texts: Texts) -> dict[str, Any]:
    source, split = opened.source, texts.split
    return {"run": source.run or source.directory.resolve().name, "step": source.step, "tokens": source.tokens,
            "flops": source.flops, "n_params": opened.shape.n_params, "lr_phase": source.lr_phase,
            "split": split.name if split else None}


class _Documents:
    """Gathers the scores of windows into documents, and writes their records."""

    def __init__(self, encoder: Encoder, protocol: Protocol, config: EvalConfig, write: Write,
                 clean: CleanDocuments | None) -> None:
        self._encoder = encoder
        self._protocol = protocol
        self._config = config
        self._write = write
        self._clean = clean
        self._pending: deque[EvaluatedText] = deque()
        self._digest = hashlib.sha256()
        self._nll, self._tokens = 0.0, 0
        self.sums = DocumentSums()

    @property
    def sha256(self) -> str:
        """The digest over every document's sha256 digest (of its UTF-8, 32 bytes each).

        This is what `gpt2 bpe-tokenize` calls input_sha256.
        """
        return self._digest.hexdigest()

    def waiting(self, texts: Iterable[EvaluatedText]) -> Iterator[Iterable[np.ndarray]]:
        """Yield the ids of `texts`, which are remembered until their scores are complete."""
        for text in texts:
            self._pending.append(text)
            yield text.ids

    def take(self, scores: Iterable[WindowScores]) -> None:
        """Take in all scores, which come by document."""
        for window in scores:
            while len(self.sums.nll) < window.document:
                self._finish()
            if self._config.per_token:
                self._write_tokens(window)
            self._nll += window.nll
            self._tokens += window.window.counted
        while self._pending:
            self._finish()

    def _finish(self) -> None:
        number, counter = len(self.sums.nll), self._pending.popleft().counter
        self._digest.update(bytes.fromhex(counter.sha256))
        overlap = self._clean.add(self._nll, self._tokens, counter) if self._clean is not None else {}
        if self._config.per_document:
            fields = document_fields(number, counter.sha256, self._nll, self._tokens, counter.units)
            self._write("gpt2.eval-document", {**fields, **overlap})
        self.sums.add(self._nll, self._tokens, counter.units)
        self._nll, self._tokens = 0.0, 0

    def _write_tokens(self, window: WindowScores) -> None:
        assert window.ranks is not None and window.entropies is not None
        first = window.first - self._protocol.has_bos
        share = window.window.counted / window.window.scored
        rows = zip(window.ids.tolist(), window.nll_nats.tolist(), window.ranks.tolist(), window.entropies.tolist(),
                   strict=True)
        for place, (token, nll, rank, entropy) in enumerate(rows, first):
            text = self._encoder.decode([token]).decode("utf-8", "replace")
            fields = {"document": window.document, "position": place, "id": token, "nll_nats": nll, "rank": rank,
                      "entropy_nats": entropy, "text": text}
            self._write("gpt2.eval-token", fields if share == 1 else {**fields, "weight": share})


def document_fields(number: int, sha256: str, nll_nats: float, n_tokens: int, units: Units) -> dict[str, Any]:
    """Return the fields of a gpt2.eval-document/1 record; `number` counts from 0, sha256 is that of the UTF-8."""
    mean = nll_nats / n_tokens if n_tokens else None
    return {"document": number, "id": sha256, "nll_nats_per_token": mean, **ratios(nll_nats, n_tokens, units),
            "nll_nats": nll_nats, "n_tokens": n_tokens, **asdict(units)}
