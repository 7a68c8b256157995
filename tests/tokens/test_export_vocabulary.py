"""Exports: read by the tools they are for, whole or absent, and never in place of something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.tokens import export_vocabulary
from gpt2cli.tokens.export_vocabulary import FILE_KINDS, export_directory, vocabulary_file
from gpt2cli.tokens.huggingface import FILES
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary, load_vocabulary


@pytest.fixture(scope="module")
def own(vocabulary_file: Path) -> Vocabulary:
    return load_vocabulary(vocabulary_file)


@pytest.mark.parametrize("kind", ["tokenizer.json", "tiktoken", "vocab.bpe"])
@pytest.mark.parametrize("mine", [False, True])
def test_what_is_exported_comes_back(own: Vocabulary, tmp_path: Path, kind: str, mine: bool) -> None:
    vocabulary = own if mine else gpt2_vocabulary()
    (tmp_path / "v").write_bytes(vocabulary_file(vocabulary, kind))
    assert load_vocabulary(tmp_path / "v") == vocabulary


def test_tiktoken_loads_its_form(own: Vocabulary, tmp_path: Path) -> None:
    from tiktoken.load import load_tiktoken_bpe

    (tmp_path / "v").write_bytes(vocabulary_file(own, "tiktoken"))
    assert load_tiktoken_bpe(str(tmp_path / "v")) == own.ranks


def test_forms_that_cannot_say_it_are_refused(own: Vocabulary) -> None:
    moved = Vocabulary({token: rank + 1 for token, rank in own.ranks.items()}, 0)
    for kind in ("tiktoken", "vocab.bpe"):
        with pytest.raises(UsageFault, match=r"puts <\|endoftext\|> last"):
            vocabulary_file(moved, kind)
    swapped = Vocabulary({**own.ranks, b"a": own.ranks[b"b"], b"b": own.ranks[b"a"]}, own.eot)
    with pytest.raises(UsageFault, match="bytes in GPT-2's order"):
        vocabulary_file(swapped, "vocab.bpe")
    assert json.loads(vocabulary_file(moved, "encoder.json"))["<|endoftext|>"] == 0
    orphan = Vocabulary({**{token: rank for token, rank in own.ranks.items() if rank < 256}, b"xyz": 256}, 257)
    with pytest.raises(BadInput, match="token 256"):
        vocabulary_file(orphan, "tokenizer.json")
    with pytest.raises(UsageFault, match="no file of kind"):
        vocabulary_file(own, "pickle")


def test_a_cache_is_gpt2s_only(own: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="OpenAI's vocabularies only"):
        export_directory(own, "cache-dir", tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_directories_replace_only_their_like(own: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "hf"
    place.mkdir()
    assert export_directory(own, "hf", place) == FILES, "an empty directory may be filled"
    with pytest.raises(UsageFault, match="exists; give --force"):
        export_directory(own, "hf", place)
    (place / "merges.txt").write_text("old")
    export_directory(own, "hf", place, force=True)
    assert load_vocabulary(place / "merges.txt") == own
    (place / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageFault, match=r"holds 'thesis\.tex'"):
        export_directory(own, "hf", place, force=True)
    (tmp_path / "file").write_text("x")
    for name, words in (("file", "exists and is no directory"), ("no/where", "does not exist")):
        with pytest.raises(UsageFault, match=words):
            export_directory(own, "hf", tmp_path / name, force=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageFault, match="the current directory"):
        export_directory(own, "hf", ".")
    assert (place / "thesis.tex").exists()


def test_a_failure_leaves_nothing(own: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_vocabulary, "write_tokenizer_files", fail)
    with pytest.raises(OSError, match="No space"):
        export_directory(own, "hf", tmp_path / "hf")
    assert list(tmp_path.iterdir()) == []


def test_the_command_offers_exactly_these_kinds() -> None:
    from gpt2cli.cli.vocab import DIRECTORIES
    from gpt2cli.cli.vocab import FILES as OFFERED

    assert (OFFERED, DIRECTORIES) == (FILE_KINDS, export_vocabulary.DIRECTORY_KINDS)
