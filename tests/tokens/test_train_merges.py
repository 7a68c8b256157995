"""Learned merges: those of the textbook algorithm, deterministic, usable by everyone."""

from __future__ import annotations

import io
import json
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Interrupted
from gpt2cli.records.shard import ShardReader
from gpt2cli.reporter import Silent
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.train_merges import MergeConfig, train_vocabulary
from gpt2cli.tokens.vocabulary import byte_alphabet, load_vocabulary, recover_merges

PATTERN = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")


def textbook_merges(text: str, count: int) -> list[tuple[bytes, bytes]]:
    """Sennrich et al. 2016, Algorithm 1, on bytes; of equally frequent pairs the one with the lowest ids."""
    words = Counter(tuple(bytes([byte]) for byte in word.encode()) for word in PATTERN.findall(text))
    ids = {bytes([byte]): rank for rank, byte in enumerate(byte_alphabet())}
    merges = []
    for _ in range(count):
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, frequency in words.items():
            for pair in pairwise(word):
                pairs[pair] += frequency
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], -ids[pair[0]], -ids[pair[1]]))
        if pairs[best] < 2:
            break
        merges.append(best)
        ids[best[0] + best[1]] = len(ids)
        words = Counter({_merge(word, best): frequency for word, frequency in words.items()})
    return merges


def _merge(word: tuple[bytes, ...], pair: tuple[bytes, bytes]) -> tuple[bytes, ...]:
    out, at = [], 0
    while at < len(word):
        if word[at : at + 2] == pair:
            out.append(word[at] + word[at + 1])
            at += 2
        else:
            out.append(word[at])
            at += 1
    return tuple(out)


def train(paths: list[Path], n_vocab: int) -> object:
    return train_vocabulary([str(path) for path in paths], MergeConfig(n_vocab), Silent()).vocabulary


def test_merges_are_the_textbooks(plays: Path) -> None:
    text = (plays / "macbeth.txt").read_text(encoding="utf-8")
    vocabulary = train([plays / "macbeth.txt"], 256 + 150 + 1)
    assert recover_merges(vocabulary) == textbook_merges(text, 150)
    assert (vocabulary.n_vocab, vocabulary.eot) == (407, 406)


def test_layout_and_smallest(plays: Path) -> None:
    vocabulary = train([plays / "macbeth.txt"], 257)
    assert list(vocabulary.ranks) == [bytes([byte]) for byte in byte_alphabet()]
    assert vocabulary.eot == 256
    assert Encoder(vocabulary).decode(Encoder(vocabulary).encode("日本\x00")) == "日本\x00".encode()


def test_how_the_text_is_cut_into_files_and_records_does_not_matter(plays: Path, tmp_path: Path) -> None:
    files = sorted(plays.iterdir())
    together = tmp_path / "all.jsonl"
    together.write_text("".join(json.dumps({"text": path.read_text(encoding="utf-8")}) + "\n" for path in files))
    assert train(files, 600) == train(files[::-1], 600) == train([together], 600)


def test_any_process_and_number_of_threads_learns_the_same_bytes(plays: Path, gpt2, tmp_path: Path) -> None:
    files = sorted(plays.iterdir())
    piped = gpt2("bpe-train", "--vocab-size", 700, input=b"".join(path.read_bytes() for path in files), check=True)
    for environment in ({"PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "1"}, {"RAYON_NUM_THREADS": "5"},
                        {"PYTHONHASHSEED": "2", "TOKENIZERS_PARALLELISM": "false"}):
        gpt2("bpe-train", *files, "--vocab-size", 700, "-f", "-o", tmp_path / "v", check=True, env=environment)
        assert (tmp_path / "v").read_bytes() == piped.stdout
    assert load_vocabulary(tmp_path / "v") == train(files, 700)


NASTY = ["", " ", "Thou'll \r\n\r\n art", "\t\t x\u3000\u00a0y", "a" * 3000, " " * 3000 + "x",
         "'s'S'll'LL 'tis", "naïve ﬁ Å",
         "👩‍👩‍👧‍👦🇩🇪", "東京は1234", "\x00\x01\x7f\x85\u2028\ufeff\ufffd",
         "٣٤ ½ ²", "\U0010ffff\u0378", "אבג עם ניקוד", "==--==\n--",
         "<|endoftext", "x\n", "\n\n\nx", "e\u0301 \u0301e"]


def test_the_one_file_gives_everyone_the_same_ids(plays: Path, gpt2, tmp_path: Path) -> None:
    """bpe-tokenize, tokenizers, AutoTokenizer on the directory that holds the file, and on the exported one."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    file = tmp_path / "own" / "tokenizer.json"
    file.parent.mkdir()
    gpt2("bpe-train", plays / "macbeth.txt", "--vocab-size", 600, "-o", file, check=True)
    gpt2("vocab", "--vocab", file, "--export", "hf", "-o", tmp_path / "hf", check=True)
    encoder, raw = Encoder(load_vocabulary(file)), Tokenizer.from_file(str(file))
    theirs = [AutoTokenizer.from_pretrained(place) for place in (file.parent, tmp_path / "hf")]
    assert theirs[1].eos_token_id == encoder.vocabulary.eot == len(theirs[0]) - 1
    for text in NASTY:
        ids = encoder.encode(text).tolist()
        assert raw.encode(text).ids == ids, text
        for tokenizer in theirs:
            assert tokenizer(text).input_ids == ids, text
            assert tokenizer.decode(ids) == text
    assert theirs[0]("<|endoftext|>").input_ids == [599] != encoder.encode("<|endoftext|>").tolist()
    shard = gpt2("bpe-tokenize", "--vocab", file, "--format", "text", input=NASTY[2].encode(), check=True).stdout
    tokens = next(iter(ShardReader(io.BytesIO(shard), "x").frames()))
    assert tokens.tolist() == [*theirs[0](NASTY[2]).input_ids, 599]


def test_a_name_in_tiktoken_gives_a_file_that_tiktoken_loads(plays: Path, gpt2, tmp_path: Path) -> None:
    from tiktoken.load import load_tiktoken_bpe

    for name in ("own.tiktoken", "own.json"):
        gpt2("bpe-train", plays / "macbeth.txt", "--vocab-size", 400, "-o", tmp_path / name, check=True)
    vocabulary = load_vocabulary(tmp_path / "own.json")
    assert load_tiktoken_bpe(str(tmp_path / "own.tiktoken")) == vocabulary.ranks
    assert load_vocabulary(tmp_path / "own.tiktoken") == vocabulary


@given(st.lists(st.text("aab '", min_size=1, max_size=30), min_size=2, max_size=12))
@settings(max_examples=40, deadline=None)
def test_merges_are_the_textbooks_on_runs_too(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "runs.txt"
    path.write_text("x " + " ".join(words))
    assert recover_merges(train([path], 257 + 20)) == textbook_merges(path.read_text(), 20)


def test_too_little_text_gives_a_smaller_vocabulary_and_a_warning(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("banana banana")
    reporter = Silent()
    summary = train_vocabulary([str(tmp_path / "t")], MergeConfig(5000), reporter)
    assert summary.vocabulary.n_vocab < 300
    assert "of 5,000 ids" in reporter.warnings[0]


def test_no_text_and_broken_text(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "broken").write_text('{"text":"a"}\nnonsense\n')
    with pytest.raises(BadInput, match="no text to learn from"):
        train([tmp_path / "empty"], 300)
    with pytest.raises(BadInput, match="line 2: not JSON"):
        train([tmp_path / "broken"], 300)


def test_a_million_spaces_and_lone_surrogates_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("the cat" + " " * 1_500_000 + "the cat\n")
    assert train([tmp_path / "t"], 300).n_vocab > 260
    (tmp_path / "t").write_text("the cat " + "a" * 1_500_000 + " the cat\n")
    assert b"aaaa" in train([tmp_path / "t"], 300).ranks
    (tmp_path / "s").write_text('{"text":"the \\ud800 the"}\n')
    assert b"the" in train([tmp_path / "s"], 300).ranks


def test_stops_when_asked(plays: Path) -> None:
    class Stopping(Silent):
        def stopping(self) -> bool:
            return True

    with pytest.raises(Interrupted):
        train_vocabulary([str(plays / "macbeth.txt")] * 200, MergeConfig(2000), Stopping())


def test_interrupt_ends_the_command_at_once(plays: Path, gpt2_popen) -> None:
    """The native trainer can't be interrupted, so it must not be waited for."""
    import os
    import signal
    import time

    process = gpt2_popen("bpe-train", *[plays / "macbeth.txt"] * 3000, "--vocab-size", 3000,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1.5)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    start = time.monotonic()
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert time.monotonic() - start < 5
