"""gpt2 detect show as a person runs it: on a terminal, in a pipe, with a page, with what goes wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2cli.cli.rank_terminal import has_colours

TEXT = "na\u00efve \u20ac \u202e\x1b[31m To be, or not to be\n"
ESCAPE = re.compile(rb"\x1b\[[0-9;]*m")


def test_in_a_pipe_it_is_a_plain_table(gpt2_here: Callable, lively: Path) -> None:
    run = gpt2_here("detect", "show", lively, "-", input=TEXT.encode(), check=True)
    lines = run.stdout.decode().split("\n")
    assert b"\x1b" not in run.stdout and "\u202e" not in run.stdout.decode()
    records = json.loads(gpt2_here("detect", "show", lively, "--json", input=TEXT.encode(), check=True)
                         .stdout.splitlines()[0])
    assert lines[0] == f"document 1: {records['n_tokens']} tokens"
    rows = lines[2 : 2 + records["n_tokens"]]
    assert [int(row.split()[0]) for row in rows] == [token["rank"] for token in records["tokens"]]
    assert [float(row.split()[2]) for row in rows] == [round(token["nll_nats"], 2) for token in records["tokens"]]
    assert any(r"\xaf = \xef" in ascii(row).replace("\\\\", "\\") for row in rows), "a character of two tokens is named"
    counts = lines[2 + len(rows) :]
    for name, count in zip(("top 10 ", "top 100 ", "top 1,000", "beyond"), records["ranks"]["counts"], strict=True):
        (line,) = (line for line in counts if line.startswith(name))
        assert int(line[len(name):].split()[0]) == count
    assert "weak evidence" in run.stdout.decode() and "own draws" in run.stdout.decode()
    assert run.stdout.count(b"p / p_max") == run.stdout.count(b"entropy, nats") == 1


def test_several_documents_are_summed(gpt2_here: Callable, lively: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("To be")
    (tmp_path / "b.txt").write_text("or not")
    out = gpt2_here("detect", "show", lively, tmp_path / "a.txt", tmp_path / "b.txt", check=True).stdout.decode()
    first, second, total = (int(number) for number in re.findall(r"(?:document \d|documents): (\d+) tokens", out))
    assert first + second == total


def test_every_option_reaches_the_record(gpt2_here: Callable, lively: Path, tmp_path: Path) -> None:
    text, out, page = tmp_path / "t.txt", tmp_path / "o.jsonl", tmp_path / "p.html"
    text.write_text(TEXT * 3)
    run = gpt2_here("detect", "show", lively, text, "--json", "--html", page, "--top", 2, "--max-tokens", 4,
                    "--context", 16, "--stride", 4, "--batch", 3, "--dtype", "bf16", "--device", "cpu", "--threads", 1,
                    "--format", "text", "-q", "-o", out, check=True)
    assert (run.stdout, run.stderr) == (b"", b"")
    (line,) = out.read_bytes().splitlines()
    record = json.loads(line)
    assert (record["protocol"]["context"], record["protocol"]["stride"], record["dtype"]) == (16, 4, "bf16")
    assert len(record["tokens"]) == record["n_tokens_listed"] == 4 < record["n_tokens"]
    assert {len(token["top"]) for token in record["tokens"]} == {2}
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")
    again = gpt2_here("detect", "show", lively, text, "--html", page)
    assert b"give --force to replace it, or another name" in again.stderr
    assert again.returncode == 2 and b"--force" in again.stderr
    gpt2_here("detect", "show", lively, text, "--html", page, "-f", check=True)


def test_a_page_alone_leaves_standard_output_empty(gpt2_here: Callable, lively: Path, tmp_path: Path) -> None:
    run = gpt2_here("detect", "show", lively, "--html", tmp_path / "p.html", input=b"To be", check=True)
    assert run.stdout == b"" and b"wrote" in run.stderr


def test_a_shard_sets_split_is_shown(gpt2_here: Callable, tiny_run: Path, shard_directory: Path) -> None:
    out = gpt2_here("detect", "show", tiny_run, shard_directory, "--split", "val", "--max-tokens", 1, "--json",
                    check=True).stdout.splitlines()
    documents = json.loads((shard_directory / "index.json").read_text())["splits"]["val"]["documents"]
    assert len(out) == documents + 1 and json.loads(out[0])["step"] == 10


@pytest.mark.parametrize(("arguments", "data", "status", "words"), [
    (("--html", "-"), b"x", 2, b"--html writes a file"),
    (("--html", "p", "-o", "p"), b"x", 2, b"p is given for two outputs"),
    (("--html", "no/such/place.html"), b"x", 2, b"does not exist; make it first"),
    (("--top", "0"), b"x", 2, b"--top"),
    (("--max-tokens", "none"), b"x", 2, b"no count"),
    (("--context", "99"), b"x", 2, b"does not fit the model, which has 32 positions"),
    (("missing.txt",), b"", 2, b"there is no missing.txt"),
    ((), b"", 65, b"no text to show"),
    (("--format", "shard"), b"plain", 65, b"token shard"),
])
def test_what_goes_wrong_is_a_sentence(gpt2_here: Callable, lively: Path, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], data: bytes,
                                       status: int, words: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    run = gpt2_here("detect", "show", lively, *arguments, input=data)
    assert run.returncode == status and words in run.stderr and b"Traceback" not in run.stderr
    assert run.stdout == b"" and list(tmp_path.iterdir()) == []


def on_a_terminal(process_of: Callable, lively: Path, text: Path, **environment: str) -> bytes:
    ours, theirs = pty.openpty()
    colours = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = process_of("detect", "show", lively, text, "-q", stdin=subprocess.DEVNULL, stdout=theirs,
                         stderr=subprocess.DEVNULL, env=colours | environment)
    os.close(theirs)
    data = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (process.poll() is None or select.select([ours], [], [], 0.2)[0]):
        if select.select([ours], [], [], 0.2)[0]:
            try:
                data += os.read(ours, 65536)
            except OSError:
                break
    os.close(ours)
    assert process.wait(60) == 0
    return data.replace(b"\r\n", b"\n")


def test_on_a_terminal_the_text_is_coloured_by_rank(gpt2_popen: Callable, orderly, tmp_path: Path) -> None:
    """The orderly model gives token i rank i + 1: an exclamation mark the first, an A the 33rd, a space the 221st."""
    text = tmp_path / "t.txt"
    text.write_text("!!A \u20ac\u202e\n")
    data = on_a_terminal(gpt2_popen, orderly[0], text)
    grounds = {"a": b"48;2;211;232;246m", "b": b"48;2;251;228;143m", "c": b"48;2;241;156;91m"}
    for shown, kind in ((b"!", "a"), (b"A", "b"), (b" ", "c"), ("\u20ac".encode(), "c"), (b"\\u202e", "c")):
        assert re.search(rb"\x1b\[[0-9;]*" + re.escape(grounds[kind] + shown), data), (shown, kind, data[:900])
    assert b"\xe2\x80\xae" not in data
    assert b"top 1,000" in data and b"weak evidence" in ESCAPE.sub(b"", data)


def test_a_terminal_without_colours_gets_the_table(gpt2_popen: Callable, orderly, tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("!A")
    data = on_a_terminal(gpt2_popen, orderly[0], text, NO_COLOR="1")
    assert b"\x1b" not in data and data.startswith(b"document 1: 2 tokens\n   rank")


@pytest.mark.parametrize(("environment", "colours"), [
    ({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": ""}, False)])
def test_colours_are_for_terminals_that_have_them(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str],
                                                  colours: bool) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", type("Terminal", (), {"isatty": lambda self: True})())
    assert has_colours() is colours


def test_a_full_disk_a_gone_reader_and_ctrl_c(bash: Callable, gpt2_popen: Callable, lively: Path, plays: Path,
                                              tmp_path: Path) -> None:
    play = plays / "macbeth.txt"
    show = f"head -c 9000 {play} | gpt2 detect show {lively} -q"
    full = bash(f"{show} > /dev/full", tmp_path)
    assert full.returncode == 74 and b"No space left" in full.stderr
    gone = bash(f"{show} | head -2; exit ${{PIPESTATUS[1]}}", tmp_path)
    assert gone.returncode == 141 and gone.stdout.startswith(b"document 1") and gone.stderr == b""
    big = tmp_path / "big.txt"
    big.write_bytes(play.read_bytes() * 20)
    process = gpt2_popen("detect", "show", lively, big, "--html", tmp_path / "p.html", stderr=subprocess.PIPE,
                         stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    assert process.stderr is not None and b"parameters" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.txt"], "no page, whole or half"


def test_help_is_light() -> None:
    code = ("import sys; from gpt2cli.cli import detect_show, rank_table, rank_terminal; "
            "print(sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
