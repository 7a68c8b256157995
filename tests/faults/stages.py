"""The commands that the fault tests disturb, at least one for each way in which files get their final names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from faults.failing_calls import WHOLE, Stage
from webtext.local_site import Site

from gpt2cli.records.jsonl import encode_record
from gpt2cli.webtext.archived_page import page_of
from gpt2cli.webtext.warc_reader import record_at

CHECKPOINT = "runs/tiny/checkpoints/step-00000010"
OF_RUN = ("retrieved", "warc", "offset", "length")
MOST_BYTES = 10**7
TASK = """task: colours
dataset_path: json
dataset_kwargs: {data_files: items.jsonl}
test_split: train
output_type: multiple_choice
doc_to_text: "The {{thing}} is"
doc_to_target: "{{answer}}"
doc_to_choice: [red, blue]
metric_list:
  - metric: acc
"""
ITEMS = '{"thing": "sky", "answer": "blue"}\n{"thing": "rose", "answer": "red"}\n'


def pages_and_bodies(path: Path) -> bytes:
    """Return a file of gpt2.page records without what depends on the clock, each with the body that the archive has."""
    if path.name != "pages.jsonl":
        return path.read_bytes()
    told = []
    for line in path.read_bytes().splitlines():
        page = json.loads(line)
        if page.get("warc"):
            record = record_at(path.parent / "web/warc" / page["warc"], page["offset"], page["length"], MOST_BYTES)
            page["body"] = hashlib.sha256(page_of(record, MOST_BYTES).body).hexdigest()
        told.append({name: value for name, value in page.items() if name not in OF_RUN})
    return json.dumps(told).encode()


def _to(*arguments: str, output: str, some: int = 3) -> Stage:
    return Stage((*arguments, "--force", "-o", output), (output,), some=some)


NET = ("--work", "web", "--allow-net", "127.0.0.0/8", "--host-gap", "0", "--concurrency", "2")
TRAIN = Stage(("train", "shards", "--layers", "1", "--embd", "16", "--context", "32", "--batch-tokens", "64", "--steps",
               "3", "--checkpoint-every", "1", "--eval-every", "2", "--eval-tokens", "64", "--dtype", "fp32", "-o",
               "run"), ("run",), ("run",), some=5)
STAGES = {
    "links": _to("webtext-scrape", "links", "RS_2017-10.zst", output="links.jsonl.zst"),
    "fetch": Stage(("webtext-scrape", "fetch", "local.jsonl", *NET, "--force", "-o", "pages.jsonl"), ("pages.jsonl",),
                   content=pages_and_bodies, some=4, sqlite=True),
    "extract": Stage(("webtext-scrape", "extract", "crawl.warc.gz", "-j", "1", "--extractor", "resiliparse", "--force",
                      "-o", "extracted.jsonl", "--rejects", "none.jsonl"), ("extracted.jsonl", "none.jsonl"), some=2),
    "filter": Stage(("webtext-scrape", "filter", "docs.jsonl.zst", "--force", "-o", "kept.jsonl.zst", "--rejects",
                     "rejects.jsonl"), ("kept.jsonl.zst", "rejects.jsonl"), some=5),
    "dedup": _to("webtext-scrape", "dedup", "docs.jsonl.zst", "--work", "state", output="unique.jsonl", some=5),
    "crawl": Stage(("webtext-scrape", "local.txt", *NET, "-j", "1", "--extractor", "resiliparse", "--force", "-o",
                    "crawled.jsonl", "--rejects", "dropped.jsonl"), ("crawled.jsonl", "dropped.jsonl"), some=4,
                   sqlite=True),
    "bpe-train": _to("bpe-train", "docs.jsonl.zst", "--vocab-size", "300", output="new.vocab"),
    "bpe-tokenize": _to("bpe-tokenize", "docs.jsonl.zst", "--vocab", "my.vocab", "-j", "2", output="new.tok.zst",
                        some=5),
    "pack": _to("pack", "x.tok.zst", "--val-fraction", "0.1", output="set", some=7),
    "train": TRAIN,
    "eval-ppl": _to("eval-ppl", "runs/tiny", "shards", output="eval.jsonl"),
    "sample": _to("sample", "runs/tiny", "--prompt", "The", "--max-tokens", "5", "--json", output="sample.jsonl"),
    "fit-scaling": _to("fit-scaling", "metrics.jsonl", "--bootstrap", "20", output="fit.jsonl"),
    "quantize": _to("quantize", "runs/tiny", "--bits", "8", output="small", some=5),
    "export": _to("export", "runs/tiny", "--to", "llm.c", output="model.bin"),
    "export to a directory": _to("export", "runs/tiny", "--to", "openai", output="openai"),
}
"""Those of the ordinary run."""
FURTHER = {
    "export gguf": _to("export", "runs/tiny", "--to", "gguf", output="model.gguf"),
    "export ctranslate2": _to("export", "runs/tiny", "--to", "ctranslate2", output="translated"),
    "export onnx": _to("export", "runs/tiny", "--to", "onnx", output="graph"),
    "import": _to("import", CHECKPOINT, "--from", "huggingface", output="imported"),
    "shards to megatron": _to("shard", "export", "shards", "--to", "megatron", output="megatron"),
    "shards to parquet": _to("shard", "export", "shards", "--to", "parquet", output="parquet"),
    "shards to llm.c": _to("shard", "export", "shards", "--to", "llm.c", output="llmc"),
    "shards to nanogpt": _to("shard", "export", "shards", "--to", "nanogpt", output="nanogpt"),
    "vocab to a file": _to("vocab", "--vocab", "my.vocab", "--export", "tiktoken", output="v.tiktoken"),
    "vocab to a directory": _to("vocab", "--vocab", "my.vocab", "--export", "hf", output="hf"),
    "dedup signatures": _to("webtext-scrape", "dedup", "docs.jsonl.zst", "--stage", "signatures", output="signed"),
    "overlap": _to("overlap", "docs.jsonl.zst", "--test", "docs.jsonl.zst", output="overlap.jsonl"),
    "overlap filter": Stage(("overlap", "docs.jsonl.zst", "--force", "--write-bloom", "made.bloom"), ("made.bloom",)),
    "detect train": _to("detect", "train", "--human", "some.jsonl", "--generated", "other.jsonl", "--words", "20",
                        output="detector"),
    "eval-tasks": _to("eval-tasks", "runs/tiny", "task.yaml", output="tasks.jsonl"),
    "eval-text": _to("eval-text", "docs.jsonl.zst", output="text.jsonl"),
    "plot": _to("plot", "metrics.jsonl", output="plot.png"),
}
"""Other writers into the same two, whole runs only: a file of an open stream, a directory that is renamed."""
if WHOLE:
    STAGES |= FURTHER

TO_STDOUT = {
    "help": ("help", "pack"), "version": ("--version",), "usage": ("pack", "--help"), "verify": ("verify", "x.tok.zst"),
    "vocab": ("vocab", "--vocab", "my.vocab"), "vocab of a text": ("vocab", "--text", "To be, or not to be"),
    "shard info": ("shard", "info", "shards"), "shard head": ("shard", "head", "x.tok.zst"),
    "shard cat": ("shard", "cat", "--text", "x.tok.zst"), "plot as text": ("plot", "metrics.jsonl"),
    "optimal": ("fit-scaling", "optimal", "--law", "hoffmann", "--flops", "1e20"),
    "inference": ("fit-scaling", "inference", "--law", "hoffmann", "--quality-of", "1B", "--inference-tokens", "1T"),
    "train": TRAIN.arguments, "filter": ("webtext-scrape", "filter", "docs.jsonl.zst"),
    "fetch": STAGES["fetch"].arguments[:-3],
    "eval-tasks": ("eval-tasks", "runs/tiny", "task.yaml"), "eval-text": ("eval-text", "docs.jsonl.zst"),
    "overlap": ("overlap", "docs.jsonl.zst", "--test", "docs.jsonl.zst"),
} | {name: stage.arguments[:-3] for name, stage in STAGES.items()
     if name in ("links", "dedup", "bpe-train", "bpe-tokenize", "eval-ppl", "sample", "fit-scaling")}
"""Commands that write to standard output."""


def make_inputs(directory: Path, artefacts: Path, site: Site) -> Path:
    """Fill `directory` with all that the stages read and return it; pages of `site` are linked from local.*."""
    for path in artefacts.iterdir():
        (directory / path.name).symlink_to(path)
    kinds = [f"/page-{number}" for number in range(6)] + ["/missing", "/chain/1"]
    hosts = ("127.0.0.1", "127.0.0.2")
    urls = [site.url(path, hosts[number % 2]) for number, path in enumerate(kinds)]
    (directory / "local.txt").write_text("".join(f"{url}\n" for url in urls))
    (directory / "local.jsonl").write_bytes(b"".join(
        encode_record("gpt2.link", {"url": url, "url_key": url[7:], "karma": 3, "subreddit": None, "created_utc": None})
        for url in urls))
    (directory / "task.yaml").write_text(TASK)
    (directory / "items.jsonl").write_text(ITEMS)
    for name, boats in (("some", "herring boats"), ("other", "whales and a seal")):
        lines = (f"{number} of those {number * 7} {boats} came home that year, and {number * 3} did not, said the "
                 "keeper when he was asked about them" for number in range(60))
        (directory / f"{name}.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return directory
