"""transformers and tokenizers read our files to the same ids, and what they save is read again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.huggingface import FILES, write_tokenizer_files
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary, load_vocabulary


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
    assert load_vocabulary(directory) == vocabulary
    assert load_vocabulary(directory / "tokenizer.json") == vocabulary
    assert load_vocabulary(directory / "merges.txt") == vocabulary


def test_what_transformers_saves_comes_back(written: tuple[Vocabulary, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    vocabulary, directory = written
    AutoTokenizer.from_pretrained(directory).save_pretrained(tmp_path)
    assert load_vocabulary(tmp_path) == vocabulary
