"""gpt2 shard as a person meets it: tables, pipes, a terminal, sets out and in, refusals."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from foreign_files import shard_of
from in_process import gpt2_here  # noqa: F401

GPT2_TEXT = "Escapes \x1b]0;owned\x07 \u202egnol\u202c, a bell \x07, tab\tand Grüße.\r\n"
VERBS = ("info", "head", "cat", "export", "import")


@pytest.fixture
def one(tmp_path: Path, gpt2_here) -> Path:  # noqa: F811
    """A shard of a single document, GPT2_TEXT."""
    (tmp_path / "one.txt").write_bytes(GPT2_TEXT.encode())
    gpt2_here("bpe-tokenize", tmp_path / "one.txt", "-o", tmp_path / "one.tok.zst", check=True)
    return tmp_path / "one.tok.zst"


def test_text_is_exact_in_a_pipe_and_in_a_file(one: Path, tmp_path: Path, gpt2_here) -> None:  # noqa: F811
    assert gpt2_here("shard", "cat", "--text", one, check=True).stdout == GPT2_TEXT.encode()
    assert gpt2_here("shard", "head", "--text", one, check=True).stdout == GPT2_TEXT.encode()
    assert gpt2_here("shard", "head", "--text", one, "-n", 2**63 - 1, check=True).stdout == GPT2_TEXT.encode()
    assert gpt2_here("shard", "cat", "--text", input=one.read_bytes(), check=True).stdout == GPT2_TEXT.encode()
    gpt2_here("shard", "cat", "--text", one, "-o", tmp_path / "again.txt", check=True)
    assert (tmp_path / "again.txt").read_bytes() == GPT2_TEXT.encode()
    refused = gpt2_here("shard", "cat", one, "-o", tmp_path / "again.txt")
    assert refused.returncode == 2 and b"--force" in refused.stderr


def test_text_on_a_terminal_does_nothing_to_it(one: Path, gpt2_popen) -> None:
    ours, theirs = pty.openpty()
    process = gpt2_popen("shard", "cat", "--text", one, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE)
    assert process.communicate(timeout=60)[1] == b""
    shown = b""
    while select.select([ours], [], [], 0.2)[0]:
        shown += os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert shown.replace(b"\r\n", b"\n").decode() == (
        "Escapes \\x1b]0;owned\\x07 \\u202egnol\\u202c, a bell \\x07, tab\tand Grüße.\\x0d\n")


def test_records_make_the_same_shard_again(shard: Path, vocabulary_file: Path, tmp_path: Path,
                                           gpt2_here) -> None:  # noqa: F811
    records = gpt2_here("shard", "cat", "--json", shard, check=True).stdout
    assert json.loads(records.splitlines()[-1])["schema"] == "gpt2.end/1"
    again = tmp_path / "again.tok.zst"
    made = gpt2_here("bpe-tokenize", "--vocab", vocabulary_file, "-o", again, input=records, check=True)
    assert again.read_bytes() == shard.read_bytes()
    assert b"warning" not in made.stderr


def test_head_and_ranges(shard: Path, gpt2_here) -> None:  # noqa: F811
    lines = gpt2_here("shard", "cat", shard, check=True).stdout.splitlines(keepends=True)
    assert len(lines) > 20
    for arguments, wanted in ((("head",), lines[:10]), (("head", "-n", 3), lines[:3]), (("head", "-n", 0), []),
                              (("cat", "--documents", "4:6"), lines[4:6]), (("cat", "--documents", "7"), lines[7:8]),
                              (("cat", "--documents", ":2"), lines[:2]), (("cat", "--documents", "12:"), lines[12:])):
        assert gpt2_here("shard", *arguments, shard, check=True).stdout == b"".join(wanted), arguments
    beyond = gpt2_here("shard", "cat", "--documents", "1000000:", shard, check=True)
    assert beyond.stdout == b"" and b"there is no document 1000000" in beyond.stderr
    for wrong in ("5:2", "x", "-1", "1:2:3", "", "1" * 30):
        assert gpt2_here("shard", "cat", f"--documents={wrong}", shard).returncode == 2, wrong


def test_info_is_a_table_or_records(shard: Path, shard_directory: Path, gpt2_here) -> None:  # noqa: F811
    table = gpt2_here("shard", "info", shard, shard_directory, check=True).stdout.decode()
    first, second = table.split("\n\n")
    assert first.startswith(f"{shard}: shard\n  tokens        ")
    assert "512 ids, end-of-text 511, carried along" in first and "bytes a token" in first
    assert second.startswith(f"{shard_directory}: shard set\n") and "\n  val           " in second
    lines = gpt2_here("shard", "info", "--json", shard, shard_directory, check=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["schema"] for record in records] == ["gpt2.shard-info/1"] * 2 + ["gpt2.end/1"]
    assert f"{records[0]['tokens']:,} as uint16" in first
    piped = gpt2_here("shard", "info", input=shard.read_bytes(), check=True).stdout
    assert piped.startswith(b"standard input: shard\n")


@pytest.mark.parametrize(("form", "train", "val"), [
    ("llm.c", "train_000000.bin", "val_000000.bin"), ("nanogpt", "train.bin", "val.bin"),
    ("megatron", "train.bin train.idx", "val.bin val.idx"),
    ("parquet", "train-00000-of-00001.parquet", "validation-00000-of-00001.parquet")])
def test_a_set_goes_out_with_its_vocabulary_and_comes_back(shard_directory: Path, tmp_path: Path, form: str, train: str,
                                                           val: str, gpt2_here) -> None:  # noqa: F811
    out = tmp_path / "out"
    gpt2_here("shard", "export", "--to", form, shard_directory, "-o", out, check=True)
    assert {path.name for path in out.iterdir()} == {*train.split(), *val.split(), "vocabulary.tiktoken"}
    for split, names in (("train", train), ("val", val)):
        held = gpt2_here("shard", "cat", "--split", split, shard_directory, check=True).stdout
        again = tmp_path / f"{split}.tok.zst"
        made = gpt2_here("shard", "import", "--from", form, out / names.split()[0], "-o", again, check=True)
        assert gpt2_here("shard", "cat", again, check=True).stdout == held
        assert b"warning" not in made.stderr


def test_export_takes_pipes_and_several_shards(shard: Path, tmp_path: Path, gpt2_here) -> None:  # noqa: F811
    for name, arguments, stdin in (("a", (shard, shard), b""), ("b", (), shard.read_bytes() * 2), ("c", ("-", shard),
                                                                                                   shard.read_bytes())):
        gpt2_here("shard", "export", "--to", "nanogpt", *arguments, "-o", tmp_path / name, input=stdin, check=True)
    assert (tmp_path / "a" / "train.bin").read_bytes() == (tmp_path / "b" / "train.bin").read_bytes()
    assert (tmp_path / "a" / "train.bin").read_bytes() == (tmp_path / "c" / "train.bin").read_bytes()


def test_directories_of_other_people_are_left_alone(shard: Path, tmp_path: Path, gpt2_here) -> None:  # noqa: F811
    out = tmp_path / "data"
    out.mkdir()
    (out / "prepare.py").write_text("precious")
    refused = gpt2_here("shard", "export", "--to", "nanogpt", shard, "-o", out, "--force")
    assert refused.returncode == 2 and b"holds 'prepare.py'" in refused.stderr
    (out / "prepare.py").rename(tmp_path / "prepare.py")
    gpt2_here("shard", "export", "--to", "nanogpt", shard, "-o", out, check=True)
    refused = gpt2_here("shard", "export", "--to", "nanogpt", shard, "-o", out)
    assert refused.returncode == 2 and b"--force" in refused.stderr
    gpt2_here("shard", "export", "--to", "nanogpt", shard, "-o", out, "--force", "--name", "val", check=True)
    assert {path.name for path in out.iterdir()} == {"val.bin", "vocabulary.tiktoken"}


@pytest.mark.parametrize("form", ["llm.c", "nanogpt", "megatron", "parquet"])
def test_a_damaged_shard_leaves_nothing(shard: Path, tmp_path: Path, form: str, gpt2_here) -> None:  # noqa: F811
    (tmp_path / "cut.tok.zst").write_bytes(shard.read_bytes()[:-30])
    failed = gpt2_here("shard", "export", "--to", form, tmp_path / "cut.tok.zst", "-o", tmp_path / "out")
    assert failed.returncode == 65 and b"cut short" in failed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["cut.tok.zst"]


@pytest.mark.parametrize(("arguments", "status", "says"), [
    ((), 2, "a verb is needed: choose info, head, cat, export or import"),
    (("show", "x"), 2, "'show' is no verb of gpt2 shard"),
    (("info", "absent"), 2, "absent"),
    (("cat", "one.txt"), 65, "one.txt holds no token shard at byte 0"),
    (("cat", "--split", "val", "one.tok.zst"), 2, "is no shard set"),
    (("export", "one.tok.zst", "-o", "out"), 2, "--to"),
    (("export", "--to", "gguf", "one.tok.zst", "-o", "out"), 2, "gguf"),
    (("export", "--to", "nanogpt", "one.tok.zst"), 2, "--output"),
    (("export", "--to", "nanogpt", "one.tok.zst", "-o", "a/b"), 2, "the directory of a/b does not exist"),
    (("export", "--to", "nanogpt", "one.tok.zst", "-o", "one.txt"), 2, "is no directory"),
    (("export", "--to", "nanogpt", "--shard-tokens", "1M", "one.tok.zst", "-o", "out"), 2, "one file a split"),
    (("export", "--to", "nanogpt", "--name", "../x", "one.tok.zst", "-o", "out"), 2, "can't be part of a file's name"),
    (("export", "--to", "nanogpt", "one.tok.zst", "wide.tok.zst", "-o", "out"), 65, "in another vocabulary"),
    (("export", "--to", "nanogpt", "SET", "one.tok.zst", "-o", "out"), 2, "one shard set at a time"),
    (("import", "one.tok.zst", "-o", "out"), 2, "--from"),
    (("import", "--from", "nanogpt", "one.tok.zst", "-o", "out"), 65, "is a token shard already"),
    (("import", "--from", "llm.c", "one.tok.zst", "-o", "out"), 65, "is no .bin of llm.c"),
    (("import", "--from", "nanogpt", "--vocab", "absent", "one.txt", "-o", "out"), 2, "absent"),
    (("import", "--from", "megatron", "one", "-o", "out"), 2, "there is no one.idx"),
])
def test_refusals_are_a_sentence_and_a_status(one: Path, tmp_path: Path, shard_directory: Path, monkeypatch,
                                              arguments: tuple, status: int, says: str, gpt2_here) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wide.tok.zst").write_bytes(shard_of([[1]]).replace(b'"eot":50256', b'"eot":50255'))
    words = [shard_directory if word == "SET" else word for word in arguments]
    refused = gpt2_here("shard", *words)
    assert refused.returncode == status
    assert says in refused.stderr.decode()
    assert refused.stderr.count(b"\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, gpt2_here) -> None:  # noqa: F811
    shown = gpt2_here("shard", verb, "--help", check=True)
    assert shown.stdout.startswith(f"Usage: gpt2 shard {verb} [OPTIONS] [PATH]...".encode())
    assert shown.stderr == b""


def test_the_reader_may_leave_and_the_disk_may_be_full(shard: Path, bash, tmp_path: Path) -> None:
    script = f"""for i in $(seq 60); do cat {shard}; done > many.tok.zst
    for form in '' --text --json; do
        gpt2 shard cat $form many.tok.zst | head -c 100 > /dev/null; echo "${{PIPESTATUS[0]}}"
    done
    gpt2 shard cat many.tok.zst > /dev/full; echo "$?"
    gpt2 shard info many.tok.zst > /dev/full; echo "$?"
    gpt2 shard import --from nanogpt --vocab none many.tok.zst > /dev/full; echo "$?" """
    result = bash(script, tmp_path)
    assert result.stdout.split() == [b"141", b"141", b"141", b"74", b"74", b"2"]
    assert result.stderr.count(b"\n") == 3 and result.stderr.count(b"No space left on device") == 2


@pytest.mark.slow
def test_killed_while_it_exports_leaves_no_directory(tmp_path: Path, gpt2_popen, gpt2) -> None:
    """SIGTERM takes its temporary along; kill -9 leaves one that the next export of that name sweeps."""
    (tmp_path / "x.tok.zst").write_bytes(shard_of([[number % 50_000] * 1000 for number in range(200)]) * 60)
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = gpt2_popen("shard", "export", "--to", "llm.c", "x.tok.zst", "-o", "out", cwd=tmp_path,
                             stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.tmp-*/*.bin")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == -number
        assert not (tmp_path / "out").exists()
        assert bool(list(tmp_path.glob(".out.tmp-*"))) == (number == signal.SIGKILL)
    gpt2("shard", "export", "--to", "llm.c", "x.tok.zst", "-o", "out", cwd=tmp_path, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.tok.zst"]


def test_verbs_are_completed(gpt2_popen) -> None:
    environment = {"COMP_WORDS": "gpt2 shard e", "COMP_CWORD": "2", "_GPT2_COMPLETE": "bash_complete"}
    process = gpt2_popen(env=environment, stdout=subprocess.PIPE)
    assert b"plain,export\n" in process.communicate(timeout=60)[0]


@pytest.mark.parametrize(("word", "form"), [("0", None), ("false", None), ("no", None), ("1", "text"), ("yes", "text")])
def test_a_variable_turns_a_form_on_or_off(
    gpt2_here, shard: Path, monkeypatch: pytest.MonkeyPatch, word: str, form: str | None  # noqa: F811
) -> None:
    plain = gpt2_here("shard", "head", "-n", 1, *([f"--{form}"] if form else []), shard, check=True).stdout
    monkeypatch.setenv("GPT2_SHARD_TEXT", word)
    assert gpt2_here("shard", "head", "-n", 1, shard, check=True).stdout == plain
    monkeypatch.setenv("GPT2_SHARD_TEXT", "bogus")
    refused = gpt2_here("shard", "head", "-n", 1, shard)
    assert refused.returncode == 2 and b"'bogus' is not a valid boolean" in refused.stderr
