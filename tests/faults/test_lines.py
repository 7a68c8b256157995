"""Lines end at b"\\n" and nowhere else, in every command that reads lines; half a line at the end of a file is told.

A text may hold what Python's str.splitlines() takes for the end of a line (U+2028, U+0085, form feeds ...), and a copy
or a full disk may leave half a record: refused with file and line, or counted where that is documented.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.file_damage import WHOLE
from faults.released_formats import RELEASED
from faults.stages import TASK
from in_process import gpt2_here as gpt2_here
from in_process import plain_environment

from gpt2cli.webtext.robots import parse_rules, relevant_lines

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
ENDS = "\u2028 \u2029 \x85 \x0b \x0c \x1c \x1d \x1e \r "
WORDS = "the sea was calm that morning and the keeper of the lamp wrote down what the tide had brought ashore " * 9
TEXTS = [f"{number} {ENDS.join(WORDS.split()[: 150 + number])}" for number in range(4)]
FIT = (RELEASED / "gpt2.fit-1.jsonl").read_bytes()
RUNS = [{"n": n, "d": d, "loss": 1.7 + 400 * n**-0.34 + 410 * d**-0.28, "run": f"a{ENDS}{n}-{d}"}
        for n in (10**6, 10**7, 10**8) for d in (10**8, 10**9, 10**10)]
INPUTS: dict[str, list[object]] = {
    "docs": [{"text": text, "url": f"http://127.0.0.1/{number}"} for number, text in enumerate(TEXTS)],
    "links": [{"schema": "gpt2.link/1", "url": f"http://example.org/{number}", "url_key": f"example.org/{number}",
               "karma": 3, "subreddit": f"books{ENDS}", "created_utc": 1, "position": [1, number]}
              for number in range(3)],
    "runs": list(RUNS),
    "pages": [{"html": f"<html><body><p>{text}</p><p>{WORDS}</p></body></html>", "url": "http://127.0.0.1/"}
              for text in TEXTS],
    "prompts": [{"prompt": f"the{ENDS}sea {number}"} for number in range(3)],
    "items": [{"thing": f"sky{ENDS}", "answer": "blue"}, {"thing": "rose", "answer": "red"}],
    "results": [{"schema": "gpt2.item/1", "task": f"t{ENDS}", "item": number, "type": "multiple_choice",
                 "metrics": {"acc": number % 2}} for number in range(4)],
}
MAP = ("--map", "n=n,d=d,loss=loss,run=run")
COMMANDS: dict[str, tuple[str, tuple[str, ...], str | None]] = {
    "bpe-tokenize": ("docs", ("bpe-tokenize", "docs.jsonl", "-f", "-o", "out"), "4 documents"),
    "bpe-train": ("docs", ("bpe-train", "docs.jsonl", "--vocab-size", "260", "-f", "-o", "out"), "4 documents"),
    "filter": ("docs", ("webtext-scrape", "filter", "docs.jsonl"), "read 4"),
    "dedup": ("docs", ("webtext-scrape", "dedup", "docs.jsonl"), "read 4"),
    "signatures": ("docs", ("webtext-scrape", "dedup", "--stage", "signatures", "docs.jsonl", "-f", "-o", "out"),
                   "4 documents"),
    "extract": ("pages", ("webtext-scrape", "extract", "pages.jsonl", "-j", "1"), "read 4"),
    "merge": ("links", ("webtext-scrape", "merge", "links.jsonl"), "read 3"),
    "overlap": ("docs", ("overlap", "docs.jsonl", "--test", "other.jsonl", "-f", "-o", "out"), "4 documents"),
    "overlap test": ("docs", ("overlap", "other.jsonl", "--test", "docs.jsonl", "-f", "-o", "out"), "of 4"),
    "eval-text": ("docs", ("eval-text", "docs.jsonl", "--bootstrap", "20"), "4 documents"),
    "detect": ("docs", ("detect", "words.detector", "docs.jsonl"), None),
    "detect show": ("docs", ("detect", "show", "model", "docs.jsonl", "--json", "-q", "--top", "1", "--max-tokens",
                             "9"), None),
    "eval-ppl": ("docs", ("eval-ppl", "model", "docs.jsonl"), "4 documents"),
    "sample": ("prompts", ("sample", "model", "--prompts", "prompts.jsonl", "--max-tokens", "1", "--json"), None),
    "eval-tasks": ("items", ("eval-tasks", "model", "task.yaml"), "2 items"),
    "eval-diff": ("results", ("eval-diff", "results.jsonl", "same.jsonl"), None),
    "fit-scaling": ("runs", ("fit-scaling", "runs.jsonl", *MAP, "--bootstrap", "0"), "9 runs"),
    "verify": ("links", ("verify", "links.jsonl"), "records 3"),
    "links": ("links", ("webtext-scrape", "links", "links.jsonl"), "read 3, kept 3"),
}
"""Name -> the input, the command, and what it says of how much it read (None: it writes a record for each)."""
MALFORMED = {"links"}
"""Commands whose malformed lines are counted and told, as their pages say."""

SLOW = {"detect show", "eval-tasks", "overlap test"}
"""Left to make test-faults."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    plain_environment(monkeypatch, tmp_path)
    for name, records in INPUTS.items():
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (tmp_path / f"{name}.jsonl").write_bytes(text.encode())
    (tmp_path / "same.jsonl").write_bytes((tmp_path / "results.jsonl").read_bytes())
    (tmp_path / "other.jsonl").write_text(json.dumps({"text": WORDS}) + "\n")
    (tmp_path / "task.yaml").write_text(TASK)
    shutil.copy(RELEASED / "gpt2.detector-1.detector", tmp_path / "words.detector")
    (tmp_path / "model").symlink_to(RELEASED / "gpt2.checkpoint-1/checkpoints/step-00000004")
    return tmp_path


@pytest.mark.parametrize("name", [name for name in COMMANDS if WHOLE or name not in SLOW])
def test_only_newlines_end_lines_and_a_torn_one_is_named(name: str, place: Path, gpt2_here: Run) -> None:
    source, arguments, says = COMMANDS[name]
    path, count = place / f"{source}.jsonl", len(INPUTS[source])
    whole = path.read_bytes()
    assert name == "bpe-train" or "\u2028".encode() in whole
    done = gpt2_here(*arguments)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    records = [line for line in done.stdout.split(b"\n") if line and b"gpt2.end/1" not in line]
    assert says in said if says else len(records) in (count, 1 if name == "eval-diff" else count), (said, records)
    last = whole.rindex(b"\n", 0, -1) + 1
    path.write_bytes(whole[: (last + len(whole)) // 2])
    torn = gpt2_here(*arguments)
    said = (torn.stderr + torn.stdout).decode()
    assert f"{path.name} line {count}" in said or f"{path.name}: line {count}" in said, said
    assert torn.returncode == (0 if name in MALFORMED else 65), said


def test_a_prompt_ends_at_a_newline_alone(place: Path, gpt2_here: Run) -> None:
    lines = f"the{ENDS}sea\nthe tide\n".encode()
    done = gpt2_here("sample", "model", "--lines", "--max-tokens", "1", "--json", input=lines, check=True)
    prompts = [json.loads(line)["prompt"] for line in done.stdout.split(b"\n") if b"gpt2.sample/1" in line]
    assert prompts == [f"the{ENDS}sea", "the tide"]


def test_a_torn_fit_and_torn_metrics_of_others_are_named(place: Path, gpt2_here: Run) -> None:
    (place / "fit.jsonl").write_bytes(FIT + FIT[: len(FIT) // 2])
    done = gpt2_here("fit-scaling", "predict", "--fit", "fit.jsonl", "--n", "1M", "--d", "1M")
    assert done.returncode == 65 and b"fit.jsonl line 2" in done.stderr
    metrics = (RELEASED / "gpt2.checkpoint-1/metrics.jsonl").read_bytes()
    (place / "metrics.jsonl").write_bytes(metrics[:-40])
    last = metrics.count(b"\n")
    for command in ("plot", "fit-scaling"):
        done = gpt2_here(command, "metrics.jsonl")
        assert done.returncode == 65 and f"metrics.jsonl line {last}".encode() in done.stderr


@pytest.mark.parametrize("torn", [1, 30, 0] if WHOLE else [30])
def test_our_own_torn_metrics_are_mended_by_going_on(place: Path, gpt2_here: Run, torn: int) -> None:
    """What was being written when the machine died, in both logs, is cut off: the same bytes as of a run at peace."""
    how = ("train", RELEASED / "gpt2.shards-1", "--layers", 1, "--embd", 8, "--heads", 1, "--context", 16,
           "--batch-tokens", 64, "--checkpoint-every", 4, "--eval-every", 2, "--eval-tokens", 64, "--dtype", "fp32",
           "--compile", "off", "--steps", 6, "-q")
    gpt2_here(*how, "-o", "peace", check=True)
    run = Path(shutil.copytree(place / "peace", place / "run"))
    (run / "manifest.json").unlink()
    shutil.rmtree(run / "checkpoints/step-00000006")
    if torn:
        for name in ("metrics.jsonl", "perf.jsonl"):
            data = (run / name).read_bytes()
            (run / name).write_bytes(data[:-torn])
    gpt2_here(*how, "-o", "run", check=True)
    for name in ("metrics.jsonl", "manifest.json"):
        assert (run / name).read_bytes() == (place / "peace" / name).read_bytes()
    assert (run / "perf.jsonl").read_bytes().count(b"\n") == 6
    gpt2_here("verify", "run", check=True)


def test_a_robots_line_ends_as_its_standard_says() -> None:
    """RFC 9309: CR, LF or both; a rule cannot hide in a comment behind another separator."""
    body = "User-agent: *\rDisallow: /a\r\nAllow: /a/b # x\u2028Disallow: /c\x85Disallow: /d\nDisallow: /e\x0cf\n"
    rules = parse_rules(relevant_lines(body.encode()))
    for path, allowed in (("/a", False), ("/a/b", True), ("/c", True), ("/d", True), ("/e%0Cf", False), ("/e", True)):
        assert (rules.refuses(f"http://example.org{path}") is None) is allowed, path


SPLITTERS = {"splitlines", "readlines"}
ALLOWED = {
    "gpt2cli/doctor/compiler.py": "a compiler's words", "gpt2cli/model/native_kernels.py": "a compiler's words",
    "gpt2cli/interchange/pickled_tensors.py": "the first line of an error",
    "gpt2cli/training/rendezvous.py": "the first line of an error",
    "gpt2cli/webtext/page_pool.py": "a worker's last words", "gpt2cli/webtext/ray_engine.py": "an error's first line",
}
"""Where text of people's is parted for a message."""


def test_nothing_that_reads_records_parts_lines_in_pythons_way() -> None:
    """Neither by str.splitlines() nor by a file that is open as text, whose lines end at \\r too."""
    found = []
    for path in sorted((ROOT / "gpt2cli").rglob("*.py")):
        name, source = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if any(word in source for word in (*SPLITTERS, "open(")) else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SPLITTERS:
                found += [] if name in ALLOWED else [f"{name} line {node.lineno}: .{node.func.attr}()"]
            if isinstance(node, ast.For | ast.comprehension) and opens_text(node.iter):
                found.append(f"{name}: lines of a file open as text")
    assert found == []
    assert [opens_text(ast.parse(code, mode="eval").body) for code in ("open(p)", "p.open(encoding='utf-8')",
            "open(p, 'rb')", "p.read()")] == [True, True, False, False]
    assert all(any(word in (ROOT / name).read_text() for word in SPLITTERS) for name in ALLOWED)


def opens_text(node: ast.expr) -> bool:
    """Whether an expression is an open() without b in its mode."""
    if not (isinstance(node, ast.Call) and "open" in ast.unparse(node.func).rpartition(".")[2:]):
        return False
    words = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return not any("b" in word and len(word) < 4 for word in words)
