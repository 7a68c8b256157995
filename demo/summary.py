#!/usr/bin/env python3
"""The demo's last page: what came out of every stage, read back from the artefacts themselves.

    python demo/summary.py demo/work demo/work/ladder
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from gpt2cli.cli.console import harmless
from gpt2cli.records.jsonl import ReadTally, read_records
from gpt2cli.records.shard_set import load_shard_set

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100


def main() -> None:
    """Print the summary to stdout."""
    work, ladder = Path(sys.argv[1]), Path(sys.argv[2])
    for title, lines in (
        ("The corpus", corpus(work)), ("The model", model(work)), ("What it writes", sample(work)),
        ("The ladder and its law", law(work, ladder)), ("Where everything is", places(work, ladder)),
    ):
        print(f"\n== {title} {'=' * (WIDTH - len(title) - 4)}\n")
        print("\n".join(lines))


def records(path: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the records of a file."""
    return list(read_records(path, ReadTally(), kinds=kinds))


def gpt2(*arguments: object) -> list[str]:
    """Return the lines that a gpt2 command prints."""
    command = [sys.executable, "-m", "gpt2cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def corpus(work: Path) -> list[str]:
    """Counts at each stage, from a post to a training token."""
    rejects = records(work / "rejects.jsonl", "gpt2.reject")
    dropped = Counter(reject["step"] for reject in rejects)
    reasons = Counter(f"{reject['reason']}" for reject in rejects)
    parts = sorted((work / "webtext" / "steps").glob("pages-*.jsonl.zst"))
    pages = [page for part in parts if "rejects" not in part.name for page in records(part, "gpt2.page")]
    crawled = records(work / "crawl.jsonl.zst", "gpt2.document")
    plays = records(work / "plays.jsonl", "gpt2.document")
    shards = load_shard_set(work / "shards")
    fetched = sum(page["outcome"] == "ok" for page in pages)
    tokens, text = shards.n_tokens("train") + shards.n_tokens("val"), sum(map(shards.n_text_bytes, ("train", "val")))
    rows = [
        ("posts in the dump", len(pages) + dropped["links"], f"dropped {dropped['links']} before fetching"),
        ("links fetched", len(pages), f"{fetched} answered with a page"),
        ("pages with text", fetched - dropped["extract"], f"dropped {dropped['extract']}"),
        ("documents crawled", len(crawled), f"dropped {dropped['filter']} by rules, {dropped['dedup']} as duplicates"),
        ("scenes of Shakespeare", len(plays), "beside the crawl"),
        ("bytes of text", text, f"{text / tokens:.2f} a token"),
        ("tokens", tokens, f"{shards.n_tokens('train'):,} to train, {shards.n_tokens('val'):,} to validate, "
                           f"{shards.n_vocab:,} kinds"),
    ]
    return [f"  {name:24}{count:>11,}   {remark}" for name, count, remark in rows] + [
        "",
        "  most frequent reasons: " + ", ".join(f"{count} {harmless(name)}" for name, count in reasons.most_common(5))]


def model(work: Path) -> list[str]:
    """Size, losses beside the unigram entropy, and the loss curve."""
    run = records(work / "runs/main/metrics.jsonl", "gpt2.run")[-1]
    losses = [record["nll_nats_per_token"] for record in records(work / "runs/main/metrics.jsonl", "gpt2.eval")]
    unigram = json.loads((work / "unigram.json").read_text())["nats_per_token"]
    score = records(work / "eval.jsonl", "gpt2.eval")[-1]
    config = run["config"]
    picture = gpt2("plot", work / "runs/main", "--reference", f"unigram={unigram}")
    return [
        f"  {run['n_params']:,} parameters ({run['n_layer']} layers, {run['n_embd']} wide), "
        f"{config['steps']} steps of {config['batch_tokens']:,} tokens",
        f"  validation loss {losses[0]:.3f} -> {losses[-1]:.3f} nats a token; unigram entropy {unigram:.3f} "
        "(knowing only how often each token occurs)",
        f"  eval-ppl (sliding windows): perplexity {score['ppl']:.1f} a token, "
        f"{score['bits_per_byte']:.3f} bits a byte",
        "", *(f"  {line}" for line in picture),
    ]


def sample(work: Path) -> list[str]:
    """The sample, harmless to a terminal."""
    return [f"  | {harmless(line)}" for line in (work / "sample.txt").read_text(encoding="utf-8").split("\n")[:40]]


def law(work: Path, ladder: Path) -> list[str]:
    """Rungs, fitted law with intervals, what it says of the main model, and its warnings."""
    fit = records(ladder / "fit.jsonl", "gpt2.fit")[-1]
    lines = [f"  {'run':22}{'parameters':>12}{'tokens':>12}{'loss':>9}{'residual':>10}"]
    for seen in sorted(fit["observations"], key=lambda seen: (seen["n"], seen["d"])):
        lines.append(f"  {seen['run']:22}{seen['n']:>12,.0f}{seen['d']:>12,.0f}{seen['loss_nats']:>9.4f}"
                     f"{seen['log_residual']:>+10.2%}")
    resamples = fit["bootstrap"]["used"]
    lines += ["", f"  L = {fit['form']}, {fit['level']:.0%} intervals of {resamples} resamples:"]
    for name, value in fit["parameters"].items():
        low, high = fit["intervals"][name] or (None, None)
        lines.append(f"    {name:8}{value:>12.4g}   [{plain(low)}, {plain(high)}]")
    for budget in fit["allocations"]:
        lines.append(f"  best for {budget['flops']:.0e} FLOP: {plain(budget['n_opt'])} parameters, "
                     f"{plain(budget['d_opt'])} tokens")
    lines += ["", *prediction(work, ladder), "", "  Warnings:"]
    return lines + [f"    - {harmless(text)}" for text in fit["warnings"] or ["none"]]


def plain(value: float | None) -> str:
    """A number in four figures; "none" where so few runs give none."""
    return "none" if value is None else f"{value:.4g}"


def prediction(work: Path, ladder: Path) -> list[str]:
    """The main run was not in the fit: what the law says of it beside what it scored."""
    run = records(work / "runs/main/metrics.jsonl", "gpt2.run")[-1]
    final = records(work / "runs/main/metrics.jsonl", "gpt2.eval")[-1]
    told = json.loads(gpt2("fit-scaling", "predict", "--fit", ladder / "fit.jsonl", "--n", run["n_params"],
                           "--d", final["tokens"])[0])
    measured = final["nll_nats_per_token"]
    said = "no interval: too few resamples could carry a fit"
    if told["loss_nats_interval"] is not None and None not in told["loss_nats_interval"]:
        low, high = told["loss_nats_interval"]
        said = f"{'inside' if low <= measured <= high else 'outside'} the interval [{low:.3f}, {high:.3f}]"
    return [f"  The main run ({run['n_params']:,} parameters, {final['tokens']:,} tokens) was kept out of the fit.",
            f"  predicted {told['loss_nats']:.3f}, measured {measured:.3f}: {told['loss_nats'] / measured - 1:+.1%}, "
            f"{said}"]


def places(work: Path, ladder: Path) -> list[str]:
    """Paths, each with what it is."""
    rows = {
        work / "crawl.jsonl.zst": "documents from the crawl", work / "webtext/warc": "the pages as fetched (WARC)",
        work / "rejects.jsonl": "what was dropped, and why", work / "vocab.tiktoken": "the vocabulary",
        work / "shards": "training and validation tokens", work / "runs/main": "the run: metrics and checkpoints",
        work / "eval.jsonl": "its evaluation", work / "loss.png": "its loss curve",
        ladder: "the ladder's runs", ladder / "fit.jsonl": "the fitted law", ladder / "fit.png": "its picture",
    }
    for path in rows:
        if not path.exists():
            sys.exit(f"summary: {path} is missing; run make demo again")
    return [f"  {path!s:34}{what}" for path, what in rows.items()] + [
        "", f"  next: echo \"JULIET\" | bin/gpt2 sample {work}/runs/main --top-p 0.9"]


if __name__ == "__main__":
    main()
