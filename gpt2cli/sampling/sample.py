"""The sample command's work: prompts from their source, samples to a stream as text or records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.reporter import Reporter
from gpt2cli.sampling.context import Prompt, read_prompt
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.open_model import ModelChoice, OpenModel, open_model
from gpt2cli.sampling.producer import Producer, Way, tell_speculation
from gpt2cli.sampling.prompts import PromptSource, read_prompts
from gpt2cli.sampling.row import Sample

SEPARATOR = b"\n<|endoftext|>\n"


@dataclass(frozen=True)
class SampleConfig:
    """Everything `gpt2 sample` was asked for, but where its output goes."""

    model: ModelChoice = field(default_factory=ModelChoice)
    prompts: PromptSource = field(default_factory=PromptSource)
    decoding: Decoding = field(default_factory=Decoding)
    way: Way = field(default_factory=Way)
    num_samples: int = 1
    echo: bool = True
    records: bool = False


@dataclass
class SampleSummary:
    """What was generated, by how each sample ended."""

    tokens: int = 0
    finished: dict[str, int] = field(default_factory=dict)


def sample(config: SampleConfig, output: BinaryIO, reporter: Reporter, *, live: bool, end: bool) -> SampleSummary:
    """Generate and write all samples.

    live: a single sample's text is written and flushed as it comes. end: records close with gpt2.end/1.
    Raises UsageFault for settings that make no sense, and what read_prompts and open_model raise.
    """
    config.way.check(config.decoding, config.num_samples)
    texts = read_prompts(config.prompts, reporter)
    if not texts:
        reporter.warn("there are no prompts in the input, so nothing is sampled")
    rows = config.way.rows(len(texts) * config.num_samples)
    opened = open_model(replace(config.model, rows=rows), reporter)
    producer = Producer(opened, config.model, config.decoding, config.way, reporter)
    n_ctx = opened.shape.n_ctx
    prompts = [read_prompt(number, text, opened.encoder, n_ctx, config.decoding.max_tokens)
               for number, text in enumerate(texts)]
    for prompt in prompts:
        tell_dropped(prompt, n_ctx, reporter)
    summary = SampleSummary()
    writer = RecordWriter(output)
    stream = not config.records and len(prompts) * config.num_samples == 1
    sink = _text_sink(output, prompts[0].text if config.echo else b"", live) if stream else None
    report = _progress(summary, len(prompts) * config.num_samples * config.decoding.max_tokens, reporter, sink and live)
    cut_by_context = 0
    for made, result in enumerate(producer.samples(prompts, config.num_samples, sink, report)):
        summary.finished[result.finish_reason] = summary.finished.get(result.finish_reason, 0) + 1
        cut_by_context += result.finish_reason == "length" and len(result.ids) < config.decoding.max_tokens
        if config.records:
            writer.write("gpt2.sample", _record(result, config, opened))
        elif not stream:
            output.write((SEPARATOR if made else b"") + (result.prompt.text if config.echo else b"") + result.text)
    if config.records:
        if end:
            writer.end()
    elif prompts:
        output.write(b"\n")
        if live:
            output.flush()
    if cut_by_context:
        reporter.note(f"{cut_by_context} of {len(prompts) * config.num_samples} samples ended at the context's "
                      f"{n_ctx} tokens, before --max-tokens; --slide goes on beyond it")
    if producer.tally is not None and prompts:
        tell_speculation(producer.tally, reporter)
    return summary


def tell_dropped(prompt: Prompt, n_ctx: int, reporter: Reporter) -> None:
    """Say that the model is not given the whole prompt, where that is so."""
    if prompt.dropped:
        reporter.warn(f"prompt {prompt.number + 1} leaves too little of the context's {n_ctx} tokens: the model is "
                      f"given its last {len(prompt.ids)} tokens, without the {prompt.dropped} before them")


def _text_sink(output: BinaryIO, prompt: bytes, live: bool) -> Callable[[bytes], None]:
    def show(text: bytes) -> None:
        output.write(text)
        if live:
            output.flush()

    show(prompt)
    return show


def _progress(summary: SampleSummary, total: int, reporter: Reporter, silent: object) -> Callable[[int], None]:
    def count(tokens: int) -> None:
        summary.tokens += tokens
        if not silent:
            reporter.progress(summary.tokens, total, "tokens")

    return count


def _record(result: Sample, config: SampleConfig, opened: OpenModel) -> dict[str, Any]:
    return {
        "prompt": result.prompt.text.decode("utf-8"), "text": result.text.decode("utf-8", "replace"),
        "finish_reason": result.finish_reason,
        "prompt_number": result.prompt.number, "sample_number": result.number,
        "n_prompt_tokens": len(result.prompt.ids) + result.prompt.dropped,
        "n_dropped_prompt_tokens": result.prompt.dropped,
        "n_tokens": len(result.ids), "tokens": result.ids, **_measured(result, config),
        **_settings(config), "dtype": opened.dtype,
        "run": opened.source.run, "step": opened.source.step, "model_sha256": opened.sha256,
        "tokenizer_sha256": opened.vocabulary.sha256,
    }


def _measured(result: Sample, config: SampleConfig) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if config.decoding.logprobs is not None:
        fields["token_logprobs_nats"] = [entry.nats for entry in result.logprobs]
        fields["top_logprobs_nats"] = [[list(pair) for pair in entry.top] for entry in result.logprobs]
        fields["end_logprob_nats"] = result.end_logprob
    if config.way.beams is not None:
        fields["beam_score"] = result.score
    return fields


def _settings(config: SampleConfig) -> dict[str, Any]:
    """Return the options that the text depends on; those left at their defaults, beyond the oldest, are left out."""
    decoding, way, plain = config.decoding, config.way, Decoding()
    fields: dict[str, Any] = {name: getattr(decoding, name) for name in ("seed", "temperature", "top_k", "top_p")}
    fields |= {name: getattr(decoding, name) for name in (
        "min_p", "typical_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "min_tokens",
        "ignore_eot", "slide") if getattr(decoding, name) != getattr(plain, name)}
    if way.beams is not None:
        fields |= {"beams": way.beams.width, "length_penalty": way.beams.length_penalty,
                   "early_stopping": way.beams.early_stopping}
    if way.draft is not None:
        fields |= {"draft": way.draft, "draft_tokens": way.draft_tokens}
    if way.prompt_lookup is not None:
        fields["prompt_lookup"] = way.prompt_lookup
    return {**fields, "max_tokens": decoding.max_tokens, "stop": list(decoding.stop)}
