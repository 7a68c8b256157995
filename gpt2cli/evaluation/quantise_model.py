"""`gpt2 quantize`: a model's weights in 8 or 4 bits, sealed, and what that costs and gains on a text."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gpt2cli.errors import BadInput, Interrupted, UsageFault
from gpt2cli.evaluation.perplexity import EvalConfig, evaluate
from gpt2cli.model.quantised import GROUPS, Quantisation, quantise
from gpt2cli.model.quantised_files import QUANTISED, quantised_config
from gpt2cli.model.weights import CONFIG, WEIGHTS, read_config, read_weights, weights_sha256, write_tensors
from gpt2cli.records.atomic import atomic_directory, check_new_directory
from gpt2cli.records.checkpoint import MANIFEST, list_files, resolve_model, write_json, write_manifest
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.feed import CachedFeed
from gpt2cli.sampling.open_model import ModelChoice, OpenModel, open_model
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.huggingface import FILES as TOKENIZER_FILES
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.of_model import vocabulary_of_model

_OWN_FILES = (CONFIG, "generation_config.json", QUANTISED, MANIFEST, *TOKENIZER_FILES)
ROUNDS, STEPS = 5, 16
"""The decoding speed is the median of so many alternating rounds of so many tokens."""


@dataclass(frozen=True)
class QuantiseConfig:
    """Which model, in how many bits, and where to. group: None takes the default; texts: what to evaluate both on."""

    model: ModelChoice
    bits: int
    output: str
    group: int | None = None
    texts: tuple[str, ...] = ()
    force: bool = False


@dataclass(frozen=True)
class Version:
    """One of the two models: its weights file in bytes, and if measured its perplexity and tokens a second.

    dtype: the type it decodes in.
    """

    n_bytes: int
    nll_nats: float | None = None
    dtype: str | None = None
    tokens_per_second: float | None = None

    @property
    def perplexity(self) -> float | None:
        """The perplexity of the text, a token; None where it was not measured or is beyond all numbers."""
        return None if self.nll_nats is None or self.nll_nats > 700.0 else math.exp(self.nll_nats)


@dataclass(frozen=True)
class QuantiseSummary:
    """What was written, and how it compares. n_tokens: of the text that both were evaluated on."""

    directory: Path
    form: Quantisation
    shape: ModelShape
    original: Version
    quantised: Version
    n_tokens: int | None = None


def quantise_model(config: QuantiseConfig, reporter: Reporter) -> QuantiseSummary:
    """Evaluate the model if there is a text, write the quantised one, evaluate that.

    Raises UsageFault when the output exists, the model is quantised already or its shape does not fit the group size;
    BadInput when the model is damaged or the text can't be scored, before anything is written; Interrupted when asked
    to stop: the directory is there only when it is whole.
    """
    for text in config.texts:
        if text == "-" or not os.path.exists(text):
            raise UsageFault("the text is read twice, so it can't be standard input; name a file" if text == "-" else
                             f"there is no {text} to evaluate on")
    output = Path(config.output)
    check_new_directory(output, config.force, _OWN_FILES.__contains__, "a quantised model")
    source = resolve_model(config.model.path, reporter.warn)
    if output.exists() and output.samefile(source.directory):
        raise UsageFault(f"{output} is what is to be quantised; choose another -o")
    shape, eot = read_config(source.directory)
    form = Quantisation(config.bits, _group(config, shape))
    form.check(shape)
    state = read_weights(source.directory / WEIGHTS, shape)
    vocabulary = vocabulary_of_model(source.directory, shape.n_vocab, reporter)
    scored = _score(config, source.directory, reporter) if config.texts else None

    def done(count: int, total: int) -> None:
        if reporter.stopping():
            raise Interrupted("stopped while quantising; nothing was written")
        reporter.progress(count, total, "matrices")

    tensors = quantise(state, shape, form, done)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values() if tensor.is_floating_point()):
        raise BadInput(f"{source.directory} holds weights too large for a scale in bf16")
    with atomic_directory(os.path.realpath(output)) as directory:
        write_tensors(tensors, directory / QUANTISED)
        write_json(directory / CONFIG, quantised_config(source.directory / CONFIG, form))
        write_json(directory / "generation_config.json",
                   {"_from_model_config": True, "bos_token_id": eot, "eos_token_id": eot})
        write_tokenizer_files(vocabulary, directory, shape.n_ctx)
        fields = {"run": source.run, "step": source.step, "tokens": source.tokens, "flops": source.flops,
                  "lr_phase": source.lr_phase,
                  "quantised": {"bits": form.bits, "group_size": form.group,
                                "from_sha256": weights_sha256(source.directory)}}
        write_manifest(directory, "gpt2.checkpoint", fields, list_files(directory))
    original = Version((source.directory / WEIGHTS).stat().st_size)
    quantised = Version((output / QUANTISED).stat().st_size)
    summary = QuantiseSummary(output, form, shape, original, quantised)
    return summary if scored is None else _compared(summary, scored, config, source.directory, reporter)


def _group(config: QuantiseConfig, shape: ModelShape) -> int | None:
    """Return the group size asked for; for 4 bits else 32, the most exact."""
    if config.group is not None or config.bits == 8:
        return config.group
    if shape.n_embd % GROUPS[0]:
        raise UsageFault(f"4 bits need a width divisible by {GROUPS[0]}; the model's is {shape.n_embd}: try --bits 8")
    return GROUPS[0]


def _score(config: QuantiseConfig, path: Path, reporter: Reporter) -> tuple[float, int]:
    """Return the nll in nats a token of the texts, and their tokens."""
    record = evaluate(EvalConfig(replace(config.model, path=str(path), dtype="fp32"), config.texts), reporter)[0]
    return float(record["nll_nats_per_token"]), int(record["n_tokens"])


def _compared(
    summary: QuantiseSummary, scored: tuple[float, int], config: QuantiseConfig, source: Path, reporter: Reporter
) -> QuantiseSummary:
    """Return the summary with both models' perplexity (`scored`: the original's nll and tokens) and speed."""
    opened = [open_model(replace(config.model, path=str(path), dtype="auto"), reporter)
              for path in (source, summary.directory)]
    speeds = _speeds(opened, reporter)
    nlls = scored[0], _score(config, summary.directory, reporter)[0]
    original, quantised = (
        replace(version, nll_nats=nll, dtype=model.dtype, tokens_per_second=speed)
        for version, nll, model, speed in zip((summary.original, summary.quantised), nlls, opened, speeds, strict=True)
    )
    return replace(summary, original=original, quantised=quantised, n_tokens=scored[1])


def _speeds(models: list[OpenModel], reporter: Reporter) -> list[float]:
    """Return tokens a second of one row, in alternating rounds."""
    steps = min(STEPS, models[0].shape.n_ctx // 2)
    seconds: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for taken, opened in zip(seconds, models, strict=True):
            if reporter.stopping():
                raise Interrupted("stopped while measuring; the quantised model is written")
            feed = CachedFeed(opened.model, [(opened.vocabulary.eot,)], steps + 1)
            begin = time.perf_counter()
            for _ in range(steps):
                feed.step(feed.logits_BV.argmax(dim=1).tolist(), [0])
            taken.append(time.perf_counter() - begin)
    return [steps / sorted(taken)[ROUNDS // 2] for taken in seconds]
