"""The eval-ppl command's work: a model, some text, one gpt2.eval/1 record."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.measures import Totals
from gpt2cli.evaluation.scoring import score_documents
from gpt2cli.evaluation.sliding import Protocol, sliding_protocol
from gpt2cli.evaluation.texts import Texts
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.open_model import ModelChoice, OpenModel, open_model

BATCH_TOKENS = 8192
"""Positions computed together unless a batch is given."""


@dataclass(frozen=True)
class EvalConfig:
    """Everything `gpt2 eval-ppl` was asked for, but where its record goes. None: the model decides."""

    model: ModelChoice = field(default_factory=ModelChoice)
    paths: tuple[str, ...] = ()
    form: str = "auto"
    split: str | None = None
    context: int | None = None
    stride: int | None = None
    batch: int | None = None


def evaluate(config: EvalConfig, reporter: Reporter) -> dict[str, Any]:
    """Return the fields of one gpt2.eval/1 record for all inputs together; see gpt2-records(5).

    Raises BadInput when there is no token to score, when an input is damaged or in another vocabulary than the model's,
    and what open_model raises.
    """
    opened = open_model(config.model, reporter)
    protocol = sliding_protocol(opened.shape.n_ctx, config.context, config.stride)
    totals = Totals()
    texts = Texts(config.paths, config.form, config.split, opened.encoder, totals)
    batch = config.batch or max(1, BATCH_TOKENS // protocol.context)
    _score(opened, texts, totals, protocol, batch, reporter)
    for line in texts.sentences():
        reporter.warn(line)
    if not totals.n_tokens:
        raise BadInput("there is no text to score: every input is empty")
    return _record(opened, texts, totals, protocol)


def _score(opened: OpenModel, texts: Texts, totals: Totals, protocol: Protocol, batch: int, reporter: Reporter) -> None:
    nll: array[float] = array("d")
    tokens: array[int] = array("q")

    def documents() -> Iterator[np.ndarray]:
        for ids in texts.ids():
            tokens.append(len(ids))
            nll.append(0.0)
            yield ids

    bos, expected = opened.vocabulary.eot, texts.n_tokens
    for number, piece in score_documents(opened.model, documents(), bos, protocol, batch, reporter, expected):
        nll[number] += piece
    for count, total in zip(tokens, nll, strict=True):
        if count:
            totals.tokens.append(count)
            totals.nll.append(total)


def _record(opened: OpenModel, texts: Texts, totals: Totals, protocol: Protocol) -> dict[str, Any]:
    source, split = opened.source, texts.split
    record = {
        "run": source.run or source.directory.resolve().name, "step": source.step, "tokens": source.tokens,
        "flops": source.flops,
        "split": split.name if split else None, **totals.as_fields(), "protocol": protocol.as_fields(),
        "dtype": opened.dtype, "model_sha256": opened.sha256, "tokenizer_sha256": opened.vocabulary.sha256,
        "text_sha256": texts.sha256,
    }
    if split is not None and split.name == "val":
        record["val_sha256"] = split.sha256
    return record
