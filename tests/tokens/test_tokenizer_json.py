"""Other people's tokenizer.json: read when it means GPT-2's way, else refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from gpt2cli.errors import BadInput
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.huggingface import tokenizer_json
from gpt2cli.tokens.tokenizer_json import PATTERNS, vocabulary_from_tokenizer_json
from gpt2cli.tokens.vocabulary import Vocabulary, load_vocabulary

SPLIT = {"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": PATTERNS[0]}, "behavior": "Isolated", "invert": False},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}


@pytest.fixture(scope="module")
def own(vocabulary_file: Path) -> Vocabulary:
    return load_vocabulary(vocabulary_file)


@pytest.fixture
def tokenizer(own: Vocabulary) -> dict[str, Any]:
    return json.loads(tokenizer_json(own))


@pytest.mark.parametrize("change", [
    lambda t: t["model"].pop("type"),
    lambda t: t["model"].update(unk_token="<|endoftext|>", fuse_unk=True),
    lambda t: t["model"].update(merges=[pair.split(" ") for pair in t["model"]["merges"]]),
    lambda t: t["pre_tokenizer"].pop("use_regex"),
    lambda t: t.update(truncation={"max_length": 8}, padding={"length": 9}),
    lambda t: t.update(added_tokens=[]),
    lambda t: t.update(post_processor=None, decoder=None),
    lambda t: t.update(pre_tokenizer=SPLIT),
], ids=range(8))
def test_what_means_the_same_is_the_same(own: Vocabulary, tokenizer: dict, change: Callable) -> None:
    change(tokenizer)
    assert vocabulary_from_tokenizer_json(json.dumps(tokenizer), "x") == own


@pytest.mark.parametrize("pattern", [PATTERNS[0], PATTERNS[1]])
def test_an_explicit_split_gives_tokenizers_our_ids(own: Vocabulary, tokenizer: dict, pattern: str) -> None:
    merges = [tuple(pair.split(" ")) for pair in tokenizer["model"]["merges"]]
    theirs = Tokenizer(models.BPE(tokenizer["model"]["vocab"], merges))
    theirs.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    theirs.decoder = decoders.ByteLevel()
    read = vocabulary_from_tokenizer_json(theirs.to_str(), "x")
    assert read == own
    text = "Thou'll  art\n\n 42東京 !?\t x\r\n"
    assert Encoder(read).encode(text).tolist() == theirs.encode(text).ids


def test_end_of_text_may_have_any_id(own: Vocabulary) -> None:
    """Many people's tokenizers put it first; then ranks begin at 1."""
    moved = Vocabulary({token: rank + 1 for token, rank in own.ranks.items()}, 0)
    read = vocabulary_from_tokenizer_json(tokenizer_json(moved).decode(), "x")
    assert read == moved
    assert Encoder(read).encode("Thou art").tolist() == (Encoder(own).encode("Thou art") + 1).tolist()


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: t.pop("model"), "has no model"),
    (lambda t: t["model"].update(vocab=[1]), "no table of tokens"),
    (lambda t: t["model"]["vocab"].update({"!": 0.5}), "no table of tokens"),
    (lambda t: t["model"]["vocab"].update({"!": True}), "no table of tokens"),
    (lambda t: t["model"].update(merges={}), "no list of merges"),
    (lambda t: t["model"]["merges"].append("a b c"), "no pair of tokens"),
    (lambda t: t["model"]["merges"].append([1, 2]), "no pair of tokens"),
    (lambda t: t["model"]["merges"].append("a" * 600 + " " + "a" * 600), "more than 1024 bytes"),
    (lambda t: t["model"].update(type="Unigram"), "of type 'Unigram'"),
    (lambda t: t["model"].update(byte_fallback=True), "byte_fallback"),
    (lambda t: t["model"].update(ignore_merges=True), "ignore_merges"),
    (lambda t: t["model"].update(dropout=0.1), "dropout"),
    (lambda t: t["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix"),
    (lambda t: t["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
    (lambda t: t.update(normalizer={"type": "NFC"}), "normalizes text .'NFC'."),
    (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "does not split text by GPT-2's pattern"),
    (lambda t: t.update(pre_tokenizer=None), "has no pre_tokenizer"),
    (lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [7]}), "does not split"),
    (lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": []}), "does not split"),
    (lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, t["pre_tokenizer"]]}), "does not split"),
    (lambda t: t["pre_tokenizer"].update(add_prefix_space=True), "a space put before it"),
    (lambda t: t["pre_tokenizer"].update(use_regex=False), "does not split"),
    (lambda t: t.update(post_processor={"type": "TemplateProcessing"}), "adds tokens to every text"),
    (lambda t: t["added_tokens"].append({"content": "<pad>", "id": 512}), "other special tokens"),
    (lambda t: t["added_tokens"].append(t["added_tokens"][0]), "there twice"),
    (lambda t: t["added_tokens"].append({"content": "<pad>"}), "is broken"),
    (lambda t: t.update(added_tokens=3), "no list"),
    (lambda t: t["added_tokens"][0].update(id=5), "two ids, 5 and 511"),
    (lambda t: t["model"]["merges"].reverse(), "not in order of id"),
    (lambda t: t["model"]["merges"].pop(), "not in order of id"),
    (lambda t: t["model"]["vocab"].pop("!"), "lacks the byte 0x21"),
    (lambda t: t["model"]["vocab"].update({"東": 512}), "not byte-level"),
    (lambda t: t["model"]["vocab"].update({"": 512}), "not byte-level"),
    (lambda t: (t.update(added_tokens=[]), t["model"]["vocab"].pop("<|endoftext|>")), "has no <|endoftext|>"),
])
def test_other_tokenizers_are_refused(tokenizer: dict, change: Callable, words: str) -> None:
    change(tokenizer)
    with pytest.raises(BadInput, match=words):
        vocabulary_from_tokenizer_json(json.dumps(tokenizer), "x")


def test_a_table_of_ids_says_what_is_missing(tokenizer: dict) -> None:
    with pytest.raises(BadInput, match=r"lists ids only.*merges\.txt"):
        vocabulary_from_tokenizer_json(json.dumps(tokenizer["model"]["vocab"]), "x")


def test_numbers_beyond_python_are_refused(tokenizer: dict) -> None:
    for digits in ("9" * 4200, "9" * 5000):
        text = json.dumps(tokenizer).replace('"id": 511', f'"id": {digits}')
        with pytest.raises(BadInput):
            vocabulary_from_tokenizer_json(text, "x")
