"""The vocabulary in a directory: Hugging Face's tokenizer files, OpenAI's pair, a .tiktoken file, tiktoken's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.streams import open_input
from gpt2cli.tokens.openai_files import R50K_BASE, VOCAB_BPE
from gpt2cli.tokens.tokenizer_json import parse_json, vocabulary_from_tables
from gpt2cli.tokens.vocabulary import (
    END_OF_TEXT,
    Vocabulary,
    load_vocabulary,
    parse_merges,
    printable,
    read_vocabulary_text,
)

PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""Ids and merges: as Hugging Face's slow tokenizers and as OpenAI call them."""


def read_tokenizer_directory(directory: Path) -> Vocabulary:
    """Return the vocabulary of a directory; settings beside it that would change ids are refused.

    Looked for in this order: tokenizer.json; merges.txt with vocab.json, vocab.bpe with encoder.json, or the merges
    alone; a single *.tiktoken; GPT-2's files under their names in tiktoken's cache.
    Raises BadInput when there is none or they contradict each other, UsageFault when several could be meant.
    """
    _check_settings(directory)
    if (directory / "tokenizer.json").is_file():
        return load_vocabulary(directory / "tokenizer.json")
    for ids, merges in PAIRS:
        if (directory / merges).is_file() and (directory / ids).is_file():
            return _from_pair(directory / ids, directory / merges)
    for name in ("merges.txt", "vocab.bpe"):
        if (directory / name).is_file():
            return load_vocabulary(directory / name)
    tables = sorted(directory.glob("*.tiktoken"))
    if len(tables) > 1:
        raise UsageFault(f"{directory} holds several .tiktoken files; name one, such as {tables[0]}")
    if tables:
        return load_vocabulary(tables[0])
    for file in (VOCAB_BPE, R50K_BASE):
        if (directory / file.cache_name).is_file():
            return load_vocabulary(directory / file.cache_name)
    raise BadInput(f"{directory} holds no vocabulary: neither tokenizer.json nor merges.txt, vocab.bpe or *.tiktoken")


def _from_pair(ids: Path, merges: Path) -> Vocabulary:
    pairs = [(printable(left), printable(right)) for left, right in parse_merges(_text(merges), str(merges))]
    return vocabulary_from_tables(_json(ids), pairs, {}, f"{ids} with {merges.name}")


def _check_settings(directory: Path) -> None:
    """Refuse what tokenizer_config.json and added_tokens.json add to the files that hold the vocabulary."""
    added: set[str] = set()
    if (directory / "added_tokens.json").is_file():
        table = _json(directory / "added_tokens.json")
        added |= set(table) if isinstance(table, dict) else {"?"}
    if (directory / "tokenizer_config.json").is_file():
        config = _json(directory / "tokenizer_config.json")
        if not isinstance(config, dict):
            raise BadInput(f"{directory / 'tokenizer_config.json'} is no JSON object")
        for setting in ("add_prefix_space", "add_bos_token", "add_eos_token"):
            if config.get(setting):
                raise BadInput(f"{directory / 'tokenizer_config.json'} sets {setting}, which puts something around "
                               "every text and is not GPT-2's way; set it to false if the ids of text alone are wanted")
        decoder = config.get("added_tokens_decoder")
        for token in decoder.values() if isinstance(decoder, dict) else []:
            added.add(str(token.get("content")) if isinstance(token, dict) else "?")
    others = sorted(added - {END_OF_TEXT})
    if others:
        raise BadInput(f"{directory} has other added tokens than {END_OF_TEXT}: {ascii(', '.join(others))[:60]}")


def _text(path: Path) -> str:
    with open_input(path) as stream:
        return read_vocabulary_text(stream, str(path))


def _json(path: Path) -> Any:
    return parse_json(_text(path), str(path))
