"""gpt2 vocab as a person calls it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gpt2cli.tokens.vocabulary import gpt2_vocabulary, load_vocabulary


def test_tells_what_it_is(gpt2, vocabulary_file: Path) -> None:
    lines = gpt2("vocab", check=True).stdout.decode().splitlines()
    facts = dict(line.split(None, 1) for line in lines)
    assert (facts["n_vocab"], facts["eot"], facts["merges"], facts["is_gpt2"]) == ("50257", "50256", "50000", "yes")
    assert facts["tokenizer_sha256"] == gpt2_vocabulary().sha256
    assert facts["longest_token"].startswith("35496 of 128 bytes: 'ÃÂ")
    for arguments, env in ((("--vocab", vocabulary_file), {}), ((), {"GPT2_VOCAB": str(vocabulary_file)})):
        facts = dict(line.split(None, 1) for line in gpt2("vocab", *arguments, env=env, check=True).stdout.decode()
                     .splitlines())
        assert (facts["n_vocab"], facts["found_in"], facts["is_gpt2"]) == ("512", str(vocabulary_file), "no")


def test_shows_tokens(gpt2) -> None:
    shown = gpt2("vocab", "--text", "Hi 🙂\u202e", check=True).stdout.decode()
    assert shown.startswith("17250\t'Hi'\n32485\t' 🙂'\n")
    assert "\u202e" not in shown and "\\" in shown, "what would turn a terminal around is escaped"
    assert gpt2("vocab", "--ids", "15496,995 50256", check=True).stdout == b"15496\t'Hello'\n995\t' world'\n" \
        b"50256\t'<|endoftext|>'\n"


def test_exports_to_stdout_and_to_files(gpt2, tmp_path: Path) -> None:
    data = gpt2("vocab", "--export", "encoder.json", check=True).stdout
    assert hashlib.sha256(data).hexdigest() == "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
    gpt2("vocab", "--export", "tokenizer.json", "-o", tmp_path / "t.json", check=True)
    assert load_vocabulary(tmp_path / "t.json").is_gpt2
    again = gpt2("vocab", "--export", "tokenizer.json", "-o", tmp_path / "t.json")
    assert (again.returncode, b"--force" in again.stderr) == (2, True)
    full = gpt2("vocab", "--export", "tiktoken", "-o", "/dev/full")
    assert full.returncode != 0 and b"Traceback" not in full.stderr


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (("--export", "hf"), 2, b"name it with -o DIR"),
    (("--export", "tiktoken", "--text", "x"), 2, b"ask one"),
    (("--ids", "x"), 2, b"no list of ids"),
    (("--ids", "50257"), 2, b"they are 0 to 50256"),
    (("--vocab", "/nowhere"), 2, b"no vocabulary at /nowhere"),
    (("--vocab", "/dev/null"), 65, b"/dev/null is empty"),
    (("--export", "pickle"), 2, b"pickle"),
])
def test_misuse_is_one_sentence(gpt2, arguments: tuple[str, ...], status: int, words: bytes) -> None:
    result = gpt2("vocab", *arguments)
    assert (result.returncode, result.stdout, result.stderr.count(b"\n")) == (status, b"", 1), result.stderr
    assert words in result.stderr
