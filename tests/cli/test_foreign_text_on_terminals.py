"""No byte of foreign text is obeyed by a terminal, and none is changed on its way into a file or a pipe."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import random
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, clean_environment
from tiny_models import lively_model, save_model, small_vocabulary

from gpt2cli.records.jsonl import encode_record
from gpt2cli.records.shard import ShardWriter
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.tokenize import shard_header

SERVER = Path(__file__).with_name("terminal_server.py")
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202egnp.exe\u2066 [bold]x[red] :smile:"
OBEYED = ("\x1b]0;owned", "\x07", "\x1b[2J", "\x9b", "\x7f", "\u202e", "\u2066")
AS_IT_IS = "[bold]x[red] :smile:"


class Terminals:
    """Runs commands on pseudo-terminals, or into files."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, directory: Path, *arguments: str, watched: bool = True) -> tuple[int, str, str]:
        """Return (status, stdout, stderr), both of terminals, or of files where nobody watches."""
        ends = [pty.openpty() for _ in range(2)] if watched else []
        names = [os.ttyname(theirs) for _, theirs in ends] or [str(directory / name) for name in ("out", "err")]
        for _, theirs in ends:
            modes = termios.tcgetattr(theirs)
            modes[1] &= ~termios.OPOST
            termios.tcsetattr(theirs, termios.TCSANOW, modes)
        for name in names if not watched else ():
            Path(name).unlink(missing_ok=True)
        asked = {"arguments": arguments, "directory": str(directory), "stdout": names[0], "stderr": names[1]}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        shown = self._drained([ours for ours, _ in ends])
        status = int(self._process.stdout.readline())
        if not watched:
            return status, *(Path(name).read_bytes().decode() for name in names)
        for ours, _ in ends:
            shown[ours] += _rest(ours)
        for descriptor in (each for end in ends for each in end):
            os.close(descriptor)
        return status, *(shown[ours].decode() for ours, _ in ends)

    def _drained(self, ours: list[int]) -> dict[int, bytes]:
        """Read until the server has answered."""
        shown = dict.fromkeys(ours, b"")
        answer = self._process.stdout
        assert answer is not None
        while True:
            ready = select.select([*ours, answer], [], [])[0]
            for one in ready:
                if one is not answer:
                    shown[one] += os.read(one, 65536)
            if answer in ready:
                return shown


def _rest(descriptor: int) -> bytes:
    data = b""
    while select.select([descriptor], [], [], 0)[0]:
        data += os.read(descriptor, 65536)
    return data


@pytest.fixture(scope="module")
def terminals() -> Iterator[Terminals]:
    environment = clean_environment(PYTHONPATH=str(ROOT), TERM="xterm-256color", OMP_NUM_THREADS="1", COLUMNS="400")
    with subprocess.Popen([sys.executable, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=environment) as process:
        yield Terminals(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of files whose texts, names and identities are hostile."""
    place = tmp_path_factory.mktemp("foreign")
    vocabulary = small_vocabulary()
    save_model(place / "model", lively_model(ModelShape(1, 2, 16, 64, 500)), vocabulary)
    text = f"To be, or not to be: {HOSTILE} that is the question of all that there is for us. " * 2
    digest = hashlib.sha256(text.encode()).hexdigest()
    _write(place / "docs.jsonl", "gpt2.document", {"id": digest, "text": text, "url": HOSTILE, "subreddit": HOSTILE})
    (place / "text.txt").write_text(f"{HOSTILE}\n")
    (place / HOSTILE).write_text("{not JSON}\n")
    (place / "odd.jsonl").write_text(json.dumps({"schema": HOSTILE}) + "\n" + json.dumps({"text": text}) + "\n")
    with open(place / "x.tok.zst", "wb") as stream:
        writer = ShardWriter(stream, shard_header(vocabulary, HOSTILE))
        writer.write_document(Encoder(vocabulary).encode(text), len(text.encode()))
        writer.close(digest)
    for name, shift in (("a", 0), ("b", 1)):
        for number in range(4):
            _write(place / f"{name}.jsonl", "gpt2.item", {
                "task": HOSTILE, "item": number, "type": "multiple_choice", "metrics": {HOSTILE: float(number > shift)},
                "doc_sha256": digest})
    for size in (1, 4, 16):
        for tokens in (1, 8, 64):
            loss = 1.69 + 406.4 * (size * 1e6)**-0.34 + 410.7 * (tokens * 5e7)**-0.28
            at = {"run": f"{HOSTILE} {size} {tokens}", "step": tokens * 100, "tokens": tokens * 50_000_000,
                  "flops": 6 * size * tokens * 5 * 10**13, "lr_phase": "done"}
            _write(place / "metrics.jsonl", "gpt2.run", {
                "run": at["run"], "config": {}, "seed": 0, "n_params": size * 10**6, "n_layer": 2, "n_embd": 8,
                "n_params_non_embedding": size * 10**6, "n_head": 1, "n_ctx": 8, "n_vocab": 300, "versions": {},
                "tokenizer_sha256": digest, "data_sha256": digest})
            for step in (1, tokens * 100):
                _write(place / "metrics.jsonl", "gpt2.step", {
                    **at, "step": step, "tokens": step * 500_000, "loss_nats": loss + 1 / step, "lr": 1.0,
                    "grad_norm": 1.0})
            _write(place / "metrics.jsonl", "gpt2.eval", {**at, "split": "val", "nll_nats_per_token": loss, "ppl": 9.0,
                                                          "n_tokens": 9, "protocol": {}})
    (place / "page.html").write_text(f"<html><body><article><p>{text}</p><p>{text}</p></article></body></html>")
    (place / "posts.jsonl").write_text("".join(json.dumps(
        {"url": f"http://example.com/{n}", "score": 9, "created_utc": 1, "subreddit": HOSTILE, "is_self": not n}) + "\n"
        for n in range(3)))
    (place / "task.yaml").write_text(f"""task: {json.dumps(HOSTILE)}
dataset_path: json
dataset_kwargs: {{data_files: items.jsonl}}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_target: 0
doc_to_choice: [" a", " b"]
""")
    (place / "items.jsonl").write_text(json.dumps({"q": HOSTILE}) + "\n")
    return place


def _write(path: Path, kind: str, record: dict[str, Any]) -> None:
    with open(path, "ab") as stream:
        stream.write(encode_record(kind, record))


OUT, ERR, BOTH = ("out",), ("err",), ("out", "err")
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "shard cat as text": (("shard", "cat", "x.tok.zst", "--text"), OUT),
    "shard cat as records": (("shard", "cat", "x.tok.zst", "--json"), OUT),
    "shard info": (("shard", "info", "x.tok.zst"), ()),
    "documents": (("webtext-scrape", "dedup", "docs.jsonl", "--work", "work"), OUT),
    "links": (("webtext-scrape", "links", "posts.jsonl"), OUT),
    "an extracted page": (("webtext-scrape", "extract", "page.html", "-j", "1", "--extractor", "resiliparse"), OUT),
    "overlap": (("overlap", "docs.jsonl", "--test", "docs.jsonl", "--show", "1", "-j", "1"), OUT),
    "tokens of a text": (("vocab", "--vocab", "model", "--text", HOSTILE), ()),
    "eval-diff": (("eval-diff", "a.jsonl", "b.jsonl", "--bootstrap", "10"), BOTH),
    "fit": (("fit-scaling", "metrics.jsonl", "--bootstrap", "5"), OUT),
    "compare": (("fit-scaling", "compare", "metrics.jsonl"), ()),
    "plot": (("plot", "metrics.jsonl"), ()),
    "sample": (("sample", "model", "--prompt", HOSTILE, "--max-tokens", "1"), OUT),
    "sample as records": (("sample", "model", "--prompt", HOSTILE, "--max-tokens", "1", "--json"), OUT),
    "detect show": (("detect", "show", "model", "text.txt"), ()),
    "detect show as records": (("detect", "show", "model", "text.txt", "--json"), ()),
    "eval-tasks": (("eval-tasks", "model", "task.yaml"), BOTH),
    "eval-text": (("eval-text", "odd.jsonl"), ()),
    "verify a name": (("verify", HOSTILE), BOTH),
    "an error's file": (("bpe-tokenize", HOSTILE, "--format", "jsonl", "-o", "y.tok.zst"), ERR),
    "a missing file": (("eval-text", f"no {HOSTILE}"), ERR),
    "a wrong word": (("help", HOSTILE), ()),
    "a wrong option": (("vocab", "--export", HOSTILE), ()),
}


WHOLE = os.environ.get("FAULTS") == "all"
CHOSEN = list(CASES) if WHOLE else sorted(random.Random(1).sample(sorted(CASES), 12))
"""All of them with FAULTS=all, else some that a seed chooses."""


@pytest.mark.parametrize("name", CHOSEN)
def test_nothing_is_obeyed_and_nothing_changed(name: str, place: Path, terminals: Terminals) -> None:
    arguments, places = CASES[name]
    shown = dict(zip(("status", "out", "err"), terminals.run(place, *arguments), strict=True))
    words = f"{shown}"[:3000]
    assert "Traceback" not in words, words
    for stream in ("out", "err"):
        assert not [each for each in OBEYED if each in shown[stream]], words
    for stream in places:
        assert AS_IT_IS in shown[stream], words
    if "out" in places:
        written = dict(zip(("status", "out", "err"), terminals.run(place, *arguments, watched=False), strict=True))
        assert written["status"] == shown["status"]
        exact = "\u202e" if written["out"].startswith("{") else HOSTILE  # JSON escapes C0 itself, and nothing else
        assert exact in written["out"] and "\x9b" in written["out"], written["out"][:3000]
