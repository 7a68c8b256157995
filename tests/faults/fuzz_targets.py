"""Every parser of foreign bytes in one table: what reads, and the sound file of fuzz_seeds.py that a fuzzer edits.

A new parser is one line. hypothesis takes the table in test_parsers.py, atheris or a loop of mutations in fuzz.py.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
from faults.fuzz_web import (
    PAGE_BYTES,
    address,
    archive,
    dump,
    link_lines,
    message,
    page,
    post,
    received,
    robots_txt,
    signatures,
    state,
    url,
    use,
)
from foreign_models import SHAPE
from tiny_models import lively_model

from gpt2cli.cli.main import COMMANDS, CommandTable
from gpt2cli.detection import detector_file
from gpt2cli.detection import texts as detection_texts
from gpt2cli.errors import Gpt2Error
from gpt2cli.evaluation import merge, overlap_records, paired_records, task_data, task_file, task_templates
from gpt2cli.interchange import (
    huggingface_directory,
    import_model,
    llmc_checkpoint,
    nanogpt_checkpoint,
    openai_checkpoint,
)
from gpt2cli.model import weights
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.overlap import bloom
from gpt2cli.quality import documents as quality_documents
from gpt2cli.records import (
    artefact_kind,
    checkpoint,
    jsonl,
    run_directory,
    safetensors_layout,
    shard,
    shard_format,
    shard_info,
    shard_set,
    streams,
    verify,
    verify_shards,
)
from gpt2cli.reporter import Silent
from gpt2cli.sampling import prompts
from gpt2cli.scaling import curves, observations, saved, study
from gpt2cli.tokens import check_vocabulary, documents, import_tokens, long_record, vocabulary
from gpt2cli.tokens.document_batch import DocumentTally, LongDocument, documents_of
from gpt2cli.tokens.unicode_loss import UnicodeLoss
from gpt2cli.training import checkpointing
from gpt2cli.training.optimizer import AdamW
from gpt2cli.webtext import (
    document_lines,
    finished_tasks,
    hosts,
    rule_set,
    warc_reader,
)

LONGEST_SENTENCE = 1_000
"""Characters of an error: what a file says must not flood a screen."""
_NAME = "the file"


@dataclass(frozen=True)
class Parser:
    """read: called with the path of `seed`, edited, its neighbours sound; anything but a Gpt2Error is a bug."""

    seed: str
    read: Callable[[Path], object]


def of_bytes(read: Callable[[bytes], object]) -> Callable[[Path], object]:
    """Return a reader of a path for one of bytes."""
    return lambda path: read(path.read_bytes())


def verdict(path: Path, problems: list[str]) -> None:
    """Fail as the command would for what verify finds."""
    if problems:
        raise Gpt2Error(problems[0])


def unpacked(path: Path) -> None:
    """Read a file that may be zstd, by lines."""
    with streams.open_input(path) as stream:
        use(streams.read_lines(stream, _NAME))


def one_shard(path: Path) -> None:
    """Read a shard both ways."""
    with open(path, "rb") as stream:
        use(shard.read_shard(stream, _NAME)[1])
    with shard.ShardFile(path) as opened:
        opened.read(0, opened.n_tokens)
    shard_info.shard_info(str(path))


def shard_payloads(data: bytes) -> None:
    """Take any bytes for what rides in a shard's skippable frames."""
    for parse in (shard_format.parse_header, shard_format.parse_footer, shard_format.parse_seek_table):
        with contextlib.suppress(Gpt2Error):
            parse(data, _NAME)


def index(path: Path) -> None:
    """Read a shard set, and its val tokens."""
    found = shard_set.load_shard_set(path.parent)
    found.check_structure()
    with found.open("val") as stream:
        stream.read(0, len(stream))


def texts(path: Path) -> None:
    """Read documents as bpe-tokenize, eval-text and detect do."""
    tally = DocumentTally()
    for work in documents.read_batches([path], tally):
        use(work.blocks if isinstance(work, LongDocument) else documents_of(work, tally))
    quality_documents.read_texts(quality_documents.TextSource((str(path),)), DocumentTally())
    use(detection_texts.read_texts([str(path)], detection_texts.Reading(), Silent()))


def long_line(data: bytes) -> None:
    """Read a long line in chunks of three sizes."""
    long_record.begins_object(data)
    for size in (1, 7, 1 << 18):
        chunks = (data[at : at + size] for at in range(0, min(len(data), 4096 * size), size))
        with contextlib.suppress(Gpt2Error):
            record = long_record.read_long_record(chunks, "line 1", _NAME, 0)
            if record.spool is not None:
                use(record.blocks())


def model(path: Path) -> None:
    """Load a model's directory."""
    weights.load_model(path.parent)


def resumed(path: Path) -> None:
    """Fill a model and its optimizer from a checkpoint."""
    checkpointing.read_checkpoint(path.parents[1], *fresh())


@functools.cache
def fresh() -> tuple[GPT2, AdamW]:
    """A model of the seeds' shape and its optimizer."""
    settings = SimpleNamespace(beta1=0.9, beta2=0.95, moments="fp32", weights="fp32", seed=0, weight_decay=0.1)
    network = lively_model(SHAPE)
    return network, AdamW(network, cast(Any, settings))


def imported_tokens(form: str, path: Path) -> None:
    """Turn another program's tokens into a shard."""
    import_tokens.import_tokens([str(path)], io.BytesIO(), import_tokens.ImportConfig(form), Silent())


def task(path: Path) -> None:
    """Read a task with its items, and fill its templates with the first."""
    found = task_file.load_task(str(path), UnicodeLoss())
    for split in found.files:
        task_data.read_split(found, split, UnicodeLoss())


def config_file(path: Path) -> None:
    """Read --config."""
    group = CommandTable("gpt2")
    for name in ("sample", "train"):
        found = group.get_command(click.Context(group), name)
        assert found is not None and name in COMMANDS
        with contextlib.suppress(click.UsageError):
            found.make_context(name, ["--config", str(path), *(["shards"] if name == "train" else [])])


def law(path: Path) -> None:
    """Fit, without resampling."""
    study.run_study(study.FitConfig((str(path),), resamples=0), Silent())


_MAPPING = observations.parse_mapping("n=params,d=tokens,loss=loss,run=name")
PARSERS: dict[str, Parser] = {
    "JSONL records": Parser("docs.jsonl", lambda path: use(jsonl.read_records(path, jsonl.ReadTally(), foreign=True))),
    "JSONL of zstd": Parser("docs.jsonl.zst", lambda path: use(
        jsonl.read_records(path, jsonl.ReadTally(), strict=True))),
    "end records": Parser("stream.jsonl", of_bytes(lambda data: use(jsonl.parse_records(
        io.BytesIO(data), _NAME, jsonl.ReadTally(), foreign=True, strict=True, expect_end=True)))),
    "verify records": Parser("docs.jsonl", lambda path: verdict(path, verify.verify_records(
        io.BufferedReader(io.FileIO(path)), _NAME).problems)),
    "zstd": Parser("docs.jsonl.zst", unpacked),
    "documents": Parser("docs.jsonl", texts),
    "long line": Parser("long.jsonl", of_bytes(long_line)),
    "document lines": Parser("docs.jsonl", of_bytes(lambda data: use(
        document_lines.document_of(line, "line") for line in data.split(b"\n")))),
    "prompts": Parser("prompts.jsonl", lambda path: prompts.read_prompts(
        prompts.PromptSource(file=str(path)), Silent())),
    "shard": Parser("x.tok.zst", one_shard),
    "shard header, footer, seek table": Parser("x.tok.zst", of_bytes(lambda data: shard_payloads(data[8:]))),
    "index.json": Parser("shards/index.json", index),
    "verify a shard set": Parser("shards/index.json", lambda path: verdict(path, verify_shards.verify_shard_set(
        path.parent, verify.Reading(Silent(), _NAME)).problems)),
    "tokens of llm.c": Parser("tokens.bin", functools.partial(imported_tokens, "llm.c")),
    "tokens of nanoGPT": Parser("plain.bin", functools.partial(imported_tokens, "nanogpt")),
    "tokens of Megatron": Parser("m.idx", functools.partial(imported_tokens, "megatron")),
    "vocabulary": Parser("x.tiktoken", lambda path: vocabulary.recover_merges(vocabulary.load_vocabulary(path))),
    "tokenizer.json": Parser("tables/tokenizer.json", vocabulary.load_vocabulary),
    "vocab.bpe": Parser("tables/vocab.bpe", vocabulary.load_vocabulary),
    "encoder.json": Parser("tables/encoder.json", lambda path: verdict(
        path, check_vocabulary.verify_vocabulary(path).problems)),
    "tokenizer directory": Parser("model/tokenizer_config.json", lambda path: vocabulary.load_vocabulary(path.parent)),
    "config.json": Parser("model/config.json", lambda path: weights.read_config(path.parent)),
    "safetensors layout": Parser("model/model.safetensors", of_bytes(
        lambda data: safetensors_layout.check_safetensors(io.BytesIO(data), _NAME, len(data)))),
    "weights": Parser("model/model.safetensors", model),
    "quantised config": Parser("quantised/config.json", model),
    "quantised weights": Parser("quantised/quantised.safetensors", model),
    "optimizer state": Parser("resume/training/optimizer.safetensors", resumed),
    "position": Parser("resume/training/state.json", resumed),
    "manifest": Parser("sealed/manifest.json", lambda path: verdict(path, checkpoint.verify_checkpoint(path.parent))),
    "run.json": Parser("run/run.json", lambda path: run_directory.read_run(path.parent)),
    "log of a run": Parser("metrics.jsonl", lambda path: run_directory.length_up_to_step(path, 100)),
    "kind of artefact": Parser("x.bloom", of_bytes(lambda data: artefact_kind.kind_of_start(data[:4096], _NAME))),
    "OpenAI's table": Parser("openai/model.ckpt.index", lambda path: openai_checkpoint.read_openai(path.parent)),
    "OpenAI's hparams": Parser("openai/hparams.json", lambda path: openai_checkpoint.read_openai(path.parent)),
    "OpenAI's encoder": Parser("openai/encoder.json", lambda path: openai_checkpoint.read_openai(path.parent)),
    "llm.c's model": Parser("llmc.bin", llmc_checkpoint.read_llmc),
    "nanoGPT's model": Parser("nano/ckpt.pt", lambda path: nanogpt_checkpoint.read_nanogpt(path, True)),
    "Hugging Face's model": Parser("model/config.json", lambda path: huggingface_directory.read_huggingface(
        path.parent, False)),
    "kind of model": Parser("llmc.bin", import_model.detect_kind),
    "robots.txt": Parser("robots.txt", of_bytes(robots_txt)),
    "URL": Parser("url.txt", of_bytes(url)),
    "address": Parser("address.txt", of_bytes(address)),
    "HTML": Parser("page.html", of_bytes(functools.partial(page, "resiliparse"))),
    "HTML by trafilatura": Parser("page.html", of_bytes(functools.partial(page, "trafilatura"))),
    "HTML by both": Parser("page.html", of_bytes(functools.partial(page, "merged"))),
    "HTTP body": Parser("posts.gz", of_bytes(received)),
    "HTTP message": Parser("message.http", of_bytes(message)),
    "WARC": Parser("crawl.warc", archive),
    "WARC of gzip": Parser("crawl.warc.gz", archive),
    "WARC of zstd": Parser("crawl.warc.zst", archive),
    "WARC at a place": Parser("crawl.warc", lambda path: warc_reader.record_at(
        path, 0, path.stat().st_size, PAGE_BYTES)),
    "page records": Parser("pages.jsonl", archive),
    "dump of gzip": Parser("posts.gz", dump),
    "dump of xz": Parser("posts.xz", dump),
    "dump of bzip2": Parser("posts.bz2", dump),
    "posts": Parser("posts.jsonl", of_bytes(post)),
    "links": Parser("links.jsonl", link_lines),
    "host list": Parser("names.txt", lambda path: hosts.read_names(path, "r/")),
    "crawl state": Parser("state.sqlite3", state),
    "filter thresholds": Parser("rules.toml", lambda path: rule_set.rule_set(["gopher", "c4"], thresholds=path)),
    "signatures": Parser("x.signatures", signatures),
    "finished task": Parser("task.done.json", finished_tasks._read),
    "task": Parser("task.yaml", task),
    "task that generates": Parser("generate.yaml", task),
    "task data": Parser("items.jsonl", of_bytes(lambda data: task_data.parse_docs(
        io.BytesIO(data), _NAME, UnicodeLoss()))),
    "task of records": Parser("questions.jsonl", lambda path: task_file.load_task(str(path), UnicodeLoss())),
    "template": Parser("template.txt", of_bytes(lambda data: task_templates.Templates().render(
        data.decode("utf-8", "replace"), {"q": "What?", "c": ["a", "b"], "d": {"text": ["x"]}}, "line 1"))),
    "overlap": Parser("overlap.jsonl", lambda path: overlap_records.read_overlap(str(path), Silent())),
    "scores": Parser("scores.jsonl", lambda path: paired_records.read_evaluation(str(path), Silent())),
    "evaluations to merge": Parser("evaluation.jsonl", lambda path: merge.merge_records([str(path)], 10, Silent())),
    "metrics": Parser("metrics.jsonl", lambda path: observations.read_observations([str(path)], "total", Silent())),
    "metrics to draw": Parser("metrics.jsonl", lambda path: curves.read_drawable([str(path)], Silent())),
    "metrics to fit": Parser("metrics.jsonl", law),
    "foreign metrics": Parser("table.csv", lambda path: observations.read_mapped(
        [str(path)], _MAPPING, "total", Silent())),
    "fit": Parser("fit.jsonl", lambda path: saved.read_fit(str(path))),
    "detector": Parser("detector", lambda path: detector_file.read_detector(str(path))),
    "Bloom filter": Parser("x.bloom", lambda path: bloom.BloomFilter.open(str(path), Silent())),
    "config file": Parser("settings.toml", config_file),
}


def judge(parser: Parser, path: Path, data: bytes) -> None:
    """Let a parser read `data` at `path`; raise what escapes but for a Gpt2Error that a screen holds."""
    path.write_bytes(data)
    try:
        parser.read(path)
    except Gpt2Error as error:
        words = str(error)
        assert 0 < len(words) < LONGEST_SENTENCE, f"{len(words)} characters: {words[:400]!r}"
