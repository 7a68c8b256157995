"""transformers and tokenizers read our files to the same ids, and theirs are read or refused."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2cli.errors import BadInput
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.huggingface import (
    FILES,
    read_tokenizer_files,
    vocabulary_from_tokenizer_json,
    write_tokenizer_files,
)
from gpt2cli.tokens.vocabulary import VOCAB_BPE_SHA256, Vocabulary, gpt2_vocabulary, load_vocabulary

ENCODER_JSON = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"


@pytest.fixture(scope="module")
def own(vocabulary_file: Path) -> Vocabulary:
    return load_vocabulary(vocabulary_file)


@pytest.fixture(scope="module", params=["gpt2", "own"])
def written(request: pytest.FixtureRequest, own: Vocabulary, tmp_path_factory: pytest.TempPathFactory
            ) -> tuple[Vocabulary, Path]:
    vocabulary = gpt2_vocabulary() if request.param == "gpt2" else own
    directory = tmp_path_factory.mktemp("tokenizer")
    assert write_tokenizer_files(vocabulary, directory, 1024) == FILES
    return vocabulary, directory


def sample_texts() -> list[str]:
    draw = random.Random(3)
    pieces = ["Thou art", " the", "'ll", " ", "\n", "\r\n", "é", "東京", "🙂", "42", "...", "\t", "\x00", "\xa0",
              " king's"]
    return ["".join(draw.choice(pieces) for _ in range(40)) for _ in range(200)]


def test_openais_files_are_rebuilt(tmp_path: Path) -> None:
    write_tokenizer_files(gpt2_vocabulary(), tmp_path)
    assert hashlib.sha256((tmp_path / "vocab.json").read_bytes()).hexdigest() == ENCODER_JSON
    assert hashlib.sha256((tmp_path / "merges.txt").read_bytes()).hexdigest() == VOCAB_BPE_SHA256


def test_transformers_reads_the_same_ids(written: tuple[Vocabulary, Path]) -> None:
    from transformers import AutoTokenizer, GPT2TokenizerFast

    vocabulary, directory = written
    encoder = Encoder(vocabulary)
    for reader in (AutoTokenizer, GPT2TokenizerFast):
        theirs = reader.from_pretrained(directory)
        assert (len(theirs), theirs.eos_token_id, theirs.bos_token_id) == (vocabulary.n_vocab, *[vocabulary.eot] * 2)
        assert theirs.model_max_length == 1024
        for text in sample_texts():
            ids = encoder.encode(text).tolist()
            assert theirs(text).input_ids == ids
            assert theirs.decode(ids) == text
        assert theirs("a<|endoftext|>").input_ids[-1] == vocabulary.eot, "the one difference that the page tells of"


def test_tokenizers_reads_the_same_ids(written: tuple[Vocabulary, Path]) -> None:
    from tokenizers import Tokenizer

    vocabulary, directory = written
    theirs, encoder = Tokenizer.from_file(str(directory / "tokenizer.json")), Encoder(vocabulary)
    for text in sample_texts():
        assert theirs.encode(text).ids == encoder.encode(text).tolist()


def test_files_come_back(written: tuple[Vocabulary, Path]) -> None:
    vocabulary, directory = written
    assert read_tokenizer_files(directory) == vocabulary
    assert load_vocabulary(directory / "tokenizer.json") == vocabulary
    assert load_vocabulary(directory / "merges.txt") == vocabulary


def test_what_transformers_saves_comes_back(written: tuple[Vocabulary, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    vocabulary, directory = written
    AutoTokenizer.from_pretrained(directory).save_pretrained(tmp_path)
    assert load_vocabulary(tmp_path) == vocabulary


def test_end_of_text_may_have_any_id(own: Vocabulary) -> None:
    """Many people's tokenizers put it first; then ranks begin at 1."""
    moved = Vocabulary({token: rank + 1 for token, rank in own.ranks.items()}, 0)
    assert Encoder(moved).encode("Thou art").tolist() == (Encoder(own).encode("Thou art") + 1).tolist()




@pytest.mark.parametrize(("change", "words"), [
    (lambda t: t.pop("model"), "no Hugging Face tokenizer.json"),
    (lambda t: t["model"].update(vocab=[1]), "no Hugging Face tokenizer.json"),
    (lambda t: t["model"].update(type="Unigram"), "no tokenizer like GPT-2's"),
    (lambda t: t["model"].update(byte_fallback=True), "no tokenizer like GPT-2's"),
    (lambda t: t.update(normalizer={"type": "NFC"}), "no tokenizer like GPT-2's"),
    (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "no tokenizer like GPT-2's"),
    (lambda t: t["pre_tokenizer"].update(add_prefix_space=True), "no tokenizer like GPT-2's"),
    (lambda t: t["added_tokens"].append({"content": "<pad>", "id": 512}), "other special tokens"),
    (lambda t: t["model"]["merges"].reverse(), "not in order of id"),
    (lambda t: t["model"]["merges"].pop(), "not in order of id"),
    (lambda t: t["model"]["vocab"].pop("!"), "lacks the byte 0x21"),
    (lambda t: t["model"]["vocab"].update({"東": 512}), "not byte-level"),
    (lambda t: (t.update(added_tokens=[]), t["model"]["vocab"].pop("<|endoftext|>")), "has no <|endoftext|>"),
])
def test_other_tokenizers_are_refused(own: Vocabulary, tmp_path: Path, change: Callable, words: str) -> None:
    write_tokenizer_files(own, tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    change(tokenizer)
    with pytest.raises(BadInput, match=words):
        vocabulary_from_tokenizer_json(json.dumps(tokenizer), "x")


def test_directories_that_contradict_themselves_are_refused(own: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no vocabulary"):
        load_vocabulary(tmp_path)
    write_tokenizer_files(own, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert load_vocabulary(tmp_path) == own
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(BadInput, match="gives other ids"):
        load_vocabulary(tmp_path)
