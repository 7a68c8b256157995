"""A sound file for every parser, small and made in this process, for fuzzers to begin from."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import zstandard
from foreign_files import llmc_file, megatron_files
from foreign_models import SHAPE, nanogpt_checkpoint, own_state
from overlap_files import overlap_records, save
from tiny_models import lively_model, save_model, small_vocabulary

from gpt2cli.detection.calibration import Platt
from gpt2cli.detection.detector import Detector
from gpt2cli.detection.detector_file import encode_detector
from gpt2cli.detection.tfidf import TfidfModel
from gpt2cli.evaluation.quantise_model import QuantiseConfig, quantise_model
from gpt2cli.interchange.llmc_checkpoint import write_llmc
from gpt2cli.interchange.openai_checkpoint import write_openai
from gpt2cli.overlap.bloom import BloomFilter
from gpt2cli.records.atomic import write_atomic
from gpt2cli.records.checkpoint import list_files, write_json, write_manifest
from gpt2cli.records.jsonl import RecordWriter, encode_record
from gpt2cli.records.run_directory import write_run
from gpt2cli.records.shard import ShardWriter
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice
from gpt2cli.scaling.study import FitConfig, run_study
from gpt2cli.tokens.export_vocabulary import vocabulary_file
from gpt2cli.tokens.pack import PackConfig, pack_shards
from gpt2cli.tokens.tokenize import shard_header
from gpt2cli.training.position import Position
from gpt2cli.webtext.crawl_state import CrawlState, Job, Settlement
from gpt2cli.webtext.dedup_profiles import DEDUP_PROFILES
from gpt2cli.webtext.finished_tasks import Finished, Output
from gpt2cli.webtext.signature_file import InputFacts, write_signatures
from gpt2cli.webtext.warc import Response, compressor, response_record, warcinfo_record

URL = "http://www.example.com/a%20page?utm_source=x&b=1#!top"
PAGE = (b'<html><head><meta charset="windows-1252"><title>Sea</title></head><body><nav>Home</nav><article><h1>The sea'
        b"</h1>" + b"<p>The sea was calm that morning, and the fishermen caf\xe9 by caf\xe9 went out to it in "
        b"their small boats, one behind the other.</p>" * 6 + b"<table><tr><td>1</td></tr></table></article></html>")
ROBOTS = b"""# a comment\r\nUser-agent: *\nDisallow: /private/\nAllow: /private/open$\nCrawl-delay: 2.5\n
User-agent: gpt2cli\nUser-agent: other\nDisallow: /*.pdf\nSitemap: http://x/s.xml\n"""
TASK = """task: colours
dataset_path: json
dataset_kwargs: {data_files: items.jsonl}
test_split: train
output_type: multiple_choice
doc_to_text: "The {{thing|upper}} is{% if thing %}:{% endif %}"
doc_to_target: "{{answer}}"
doc_to_choice: &choices [red, blue]
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {seen: *choices}
"""
GENERATE = """task: words
dataset_path: json
dataset_kwargs: {data_files: items.jsonl}
test_split: train
output_type: generate_until
doc_to_text: "{{thing}}"
doc_to_target: "{{answer}}"
num_fewshot: 1
repeats: 2
fewshot_config: {sampler: first_n}
generation_kwargs: {until: ["\\n", x], max_gen_toks: 9, do_sample: true, temperature: 0.5}
metric_list: [{metric: exact_match, ignore_case: true, regexes_to_ignore: ["[,.]"]}]
filter_list: [{name: f, filter: [{function: regex, regex_pattern: "(a|b)+"}, {function: take_first}]}]
"""
TEMPLATE = "{% for x in c %}{{ loop.index }}{{ x|upper }}, {% endfor %}{{ q.strip('?') ~ '!' * 2 }} {{ d.text[0] }}"
RULES = "[min-tokens]\nminimum = 64\n[gopher-word-length]\nminimum = 3.0\nmaximum = 10\n"
SETTINGS = '[sample]\ntemperature = 0.8\nstop = ["x"]\n[train]\nlr = 6e-4\n'


def make_seeds(place: Path) -> Path:
    """Fill the new directory `place` with a sound file of every form, and return it."""
    place.mkdir(parents=True)
    (place / "tables").mkdir()
    _texts(place)
    _vocabularies(place)
    _shards(place)
    _models(place)
    _records(place)
    _crawl(place)
    return place


def _records_of(path: Path, kind: str, *records: dict[str, Any]) -> None:
    with open(path, "ab") as file:
        for record in records:
            file.write(encode_record(kind, record))


def _texts(place: Path) -> None:
    texts = ["The sea was calm.", "Caf\u00e9 \U0001f30a and\u2028more\n", "", "The sea was calm. " * 30]
    _records_of(place / "docs.jsonl", "gpt2.document", *(
        {"id": hashlib.sha256(text.encode()).hexdigest(), "url": URL, "text": text, "karma": 3, "subreddit": "books",
         "created_utc": 1_500_000_000, "language": "en"} for text in texts))
    (place / "docs.jsonl.zst").write_bytes(zstandard.ZstdCompressor(write_checksum=True).compress(
        (place / "docs.jsonl").read_bytes()))
    with open(place / "stream.jsonl", "wb") as file:
        writer = RecordWriter(file)
        writer.write("gpt2.verify", {"path": "x", "ok": True})
        writer.end()
    (place / "long.jsonl").write_bytes(
        json.dumps({"a": [1, {"b": None}], "text": "\ud83c\udf0a and \u20ac " * 40, "z": -1.5e3}).encode() + b"\n")
    (place / "page.html").write_bytes(PAGE)
    (place / "robots.txt").write_bytes(ROBOTS)
    (place / "url.txt").write_text(URL)
    (place / "address.txt").write_text("2001:db8::/32")
    (place / "names.txt").write_text("# hosts\nexample.com\n\n/r/Books/\nexample.org # last\n")
    for name, text in (("task.yaml", TASK), ("generate.yaml", GENERATE), ("rules.toml", RULES),
                       ("settings.toml", SETTINGS), ("template.txt", TEMPLATE)):
        (place / name).write_text(text)
    (place / "items.jsonl").write_text('{"thing": "sky", "answer": "blue"}\n{"thing": "rose", "answer": "red"}\n')
    (place / "questions.jsonl").write_text('{"context": "The sky is", "choices": [" blue", " red"], "label": 0}\n')
    _records_of(place / "prompts.jsonl", "gpt2.sample",
                {"prompt": "To be", "text": " or not", "finish_reason": "stop"})


def _vocabularies(place: Path) -> None:
    vocabulary = small_vocabulary(40)
    (place / "x.tiktoken").write_text(vocabulary.canonical())
    for kind in ("tokenizer.json", "vocab.bpe", "encoder.json"):
        (place / "tables" / kind).write_bytes(vocabulary_file(vocabulary, kind))


def _shards(place: Path) -> None:
    stream = io.BytesIO()
    writer = ShardWriter(stream, shard_header(small_vocabulary(40), "plays"))
    numbers = np.random.default_rng(0)
    for length in (5, 0, 90, 700):
        writer.write_document(numbers.integers(0, 296, length), length)
    writer.close("0" * 64)
    (place / "x.tok.zst").write_bytes(stream.getvalue())
    pack_shards([str(place / "x.tok.zst")], str(place / "shards"), PackConfig(0.3), Silent())
    ids = [50256, 464, 5417, 373, 9480, 50256, 1, 2]
    (place / "tokens.bin").write_bytes(llmc_file(ids))
    (place / "plain.bin").write_bytes(np.array(ids, "<u2").tobytes())
    megatron_files(place / "m", [[[*ids[1:5], 50256]], [[1, 2, 50256]]])


def _models(place: Path) -> None:
    vocabulary = small_vocabulary()
    save_model(place / "model", lively_model(SHAPE), vocabulary)
    shutil.copytree(place / "model", place / "sealed")
    write_manifest(place / "sealed", "gpt2.checkpoint", {"run": "r", "step": 5, "tokens": 9, "flops": 3},
                   list_files(place / "sealed"))
    quantise_model(QuantiseConfig(ModelChoice(str(place / "model")), 8, str(place / "quantised")), Silent())
    (place / "quantised" / "manifest.json").unlink()
    (place / "openai").mkdir()
    write_openai(place / "openai", own_state(), SHAPE, vocabulary)
    with open(place / "llmc.bin", "wb") as file:
        write_llmc(file, own_state(), SHAPE, "bf16")
    (place / "nano").mkdir()
    torch.save(nanogpt_checkpoint()[1], place / "nano" / "ckpt.pt")
    (place / "resume" / "training").mkdir(parents=True)
    shutil.copy(place / "model" / "model.safetensors", place / "resume")
    position = Position("r", 3, 96, 10**9, 0, 1, "cpu", "2", lr_phase="stable", spikes={}, rollbacks=[])
    write_json(place / "resume" / "training" / "state.json", asdict(position))
    moments = {f"{kind}.{name}": torch.rand_like(tensor) for name, tensor in own_state().items()
               for kind in ("exp_avg", "exp_avg_sq")}
    safetensors.torch.save_file(moments, place / "resume" / "training" / "optimizer.safetensors")


def _records(place: Path) -> None:
    metrics = place / "metrics.jsonl"
    for size in (1_000_000, 4_000_000, 16_000_000):
        for tokens in (50_000_000, 400_000_000, 3_200_000_000):
            at = {"run": f"n{size}-d{tokens}", "step": tokens // 500_000, "tokens": tokens, "flops": 6 * size * tokens,
                  "lr_phase": "done"}
            loss = 1.69 + 406.4 * size**-0.34 + 410.7 * tokens**-0.28
            run = {"config": {"batch_tokens": 512}, "seed": 0, "n_params": size, "n_params_non_embedding": size,
                   "n_layer": 4, "n_embd": 128, "n_head": 4, "n_ctx": 64, "n_vocab": 300, "tokenizer_sha256": "0" * 64,
                   "data_sha256": "0" * 64, "versions": {}}
            _records_of(metrics, "gpt2.run", {"run": at["run"], **run})
            _records_of(metrics, "gpt2.step", {**at, "loss_nats": loss, "lr": 1e-4, "grad_norm": 1.0})
            _records_of(metrics, "gpt2.eval", {**at, "split": "val", "nll_nats_per_token": loss, "ppl": 9.0,
                                               "n_tokens": 9, "protocol": {}})
    report = run_study(FitConfig((str(metrics),), resamples=5), Silent())
    _records_of(place / "fit.jsonl", "gpt2.fit", report.record())
    (place / "run").mkdir()
    write_run(place / "run", {"run": "r", **run})
    table = "params,tokens,loss,name\n" + "".join(f"{n}e6,{n * d}e8,{3 + 1 / n + 1 / d},r{n}\n" for n in (1, 2, 4)
                                                   for d in (1, 3, 9))
    (place / "table.csv").write_text(table)
    save(place / "overlap.jsonl", overlap_records(["a", "b", "sky"], {0: 3, 1: 0, 2: 10}))
    digest = "a" * 64
    for number, right in enumerate((1.0, 0.0, 1.0)):
        _records_of(place / "scores.jsonl", "gpt2.item", {
            "task": "t", "item": number, "type": "multiple_choice", "metrics": {"acc": right}, "doc_sha256": digest})
    _records_of(place / "scores.jsonl", "gpt2.task", {
        "run": "r", "step": 1, "tokens": 2, "flops": 3, "n_params": 4, "task": "t", "type": "multiple_choice",
        "num_fewshot": 0, "n_items": 3, "metrics": {"acc": {"value": 0.6, "higher_is_better": True}}, "protocol": {}})
    sums = {"n_tokens": 30, "n_words": 12, "n_bytes": 90, "n_characters": 90, "n_documents": 1, "n_windows": 1,
            "n_empty_documents": 0, "nll_nats": 93.0, "text_sha256": digest, "dtype": "fp32",
            "document_moments": {"n": 1, "nll_nll": 8649.0, "nll_tokens": 2790.0, "tokens_tokens": 900}}
    _records_of(place / "evaluation.jsonl", "gpt2.eval-document", {
        "document": 0, "id": digest, "nll_nats": 93.0, "n_tokens": 30, "n_words": 12, "n_bytes": 90,
        "n_characters": 90})
    _records_of(place / "evaluation.jsonl", "gpt2.eval", {
        "run": "r", "step": 1, "tokens": 2, "flops": 3, "split": None, "nll_nats_per_token": 3.1, "ppl": 22.0,
        "protocol": {"context": 64}, "tokenizer_sha256": digest, "model_sha256": digest, **sums})
    counter = Detector("tfidf", 30, Platt(2.0, -0.5), np.array([0.5, -1.0]), np.array([2.0]), frozenset([b"12345678"]),
                       TfidfModel(["of", "of the"], np.array([1.0, 1.5]), np.array([0.1, -2.0]), -0.25), training={})
    (place / "detector").write_bytes(encode_detector(counter))
    bloom = BloomFilter.empty(8, 100, 0.01)
    bloom.put(np.arange(20, dtype=np.uint64).reshape(10, 2))
    bloom.tally(10, 2, 30)
    with open(place / "x.bloom", "wb") as file:
        bloom.write(file)


def _crawl(place: Path) -> None:
    post = {"url": URL, "score": 12, "created_utc": "1500000000", "subreddit": "books", "is_self": False, "ups": None,
            "crosspost_parent_list": [{"url": "https://example.org/x", "over_18": False}]}
    lines = json.dumps(post).encode() + b"\nhttps://example.net/plain\n"
    (place / "posts.jsonl").write_bytes(lines)
    for name, pack in (("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)):
        (place / f"posts.{name}").write_bytes(pack(lines) + pack(lines))
    page = Response(URL, "2017-10-01T12:00:00Z", 200, "OK", (("Content-Type", "text/html; charset=utf-8"),), PAGE,
                    "192.0.2.1")
    for name in ("gz", "zst"):
        compress = compressor(name)
        (place / f"crawl.warc.{name}").write_bytes(
            warcinfo_record(page.date, "test", "crawl", compress) + response_record(page, compress))
    (place / "warc").mkdir()
    (place / "warc" / "crawl.warc.gz").write_bytes(response_record(page, compressor("gz")))
    (place / "crawl.warc").write_bytes(response_record(page, bytes))
    message = (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip"
               b"\r\n\r\n")
    packed = gzip.compress(PAGE)
    (place / "message.http").write_bytes(message + f"{len(packed):x};x\r\n".encode() + packed + b"\r\n0\r\n\r\n")
    _records_of(place / "links.jsonl", "gpt2.link", {
        "url": URL, "url_key": "example.com/a%20page?b=1", "karma": 3, "subreddit": "books", "created_utc": 15,
        "position": [1, 1]})
    _records_of(place / "pages.jsonl", "gpt2.page", {
        "url": URL, "outcome": "ok", "retrieved": "2017-10-01T12:00:00Z", "warc": "crawl.warc.gz", "offset": 0,
        "length": (place / "warc" / "crawl.warc.gz").stat().st_size})
    state = CrawlState(place / "state.sqlite3")
    first, second = state.add_links([URL, "http://example.org/"])
    host = state.hosts_after(-1, 1, 1)[0].id
    state.commit(Settlement([(host, first, {"outcome": "ok", "retrieved": "2017"})],
                            [(2, Job(second, "http://example.net/", ("http://example.org/",), 1.5), "example.net")],
                            [(host, "http://example.com", 15, "User-agent: *")], {host: 2}, {"a.warc": 9}))
    state.close()
    profile = replace(DEDUP_PROFILES["openwebtext"], bands=2, rows=2)
    with open(place / "x.signatures", "wb") as file:
        write_signatures(file, profile, InputFacts(0, 1, "0" * 32), [])
    write_atomic(place / "task.done.json",
                 Finished("task", "filter", "0", (Output("out", 1, 1, "0"),), 1, 1, {"short": 2}, None).as_json())
