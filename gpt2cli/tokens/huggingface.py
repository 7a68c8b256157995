"""Hugging Face tokenizer files, written and read, so that `transformers` and friends get the very same ids.

One difference is theirs: `transformers` takes the literal text `<|endoftext|>` for the special token, we never do.
The files are written by hand in the long-standing layout (merges as "left right"), so their bytes depend on no library.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.records.atomic import write_atomic
from gpt2cli.tokens.vocabulary import (
    END_OF_TEXT,
    MAX_VOCABULARY_BYTES,
    Vocabulary,
    byte_alphabet,
    byte_of_character,
    checked,
    load_vocabulary,
    recover_merges,
)

FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
_SPECIAL = {"content": END_OF_TEXT, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def write_tokenizer_files(vocabulary: Vocabulary, directory: str | os.PathLike[str], n_ctx: int | None = None
                          ) -> tuple[str, ...]:
    """Write the files that `transformers.AutoTokenizer.from_pretrained(directory)` reads; return their names.

    n_ctx: the model's context, noted as model_max_length. For GPT-2's vocabulary vocab.json is OpenAI's encoder.json
    and merges.txt their vocab.bpe, byte for byte. Raises BadInput when the ranks are no BPE merges.
    """
    place = Path(directory)
    merges = [" ".join(map(printable, pair)) for pair in recover_merges(vocabulary)]
    vocab = vocab_json(vocabulary)
    config: dict[str, Any] = {
        "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "add_bos_token": False,
        "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
    }
    if n_ctx is not None:
        config["model_max_length"] = n_ctx
    write_atomic(place / "tokenizer.json", _json(_tokenizer_json(vocabulary, vocab, merges)))
    write_atomic(place / "vocab.json", json.dumps(vocab).encode())
    write_atomic(place / "merges.txt", "".join(f"{line}\n" for line in ["#version: 0.2", *merges]).encode())
    write_atomic(place / "tokenizer_config.json", _json(config))
    special = {name: END_OF_TEXT for name in ("bos_token", "eos_token", "unk_token")}
    write_atomic(place / "special_tokens_map.json", _json(special))
    return FILES


def vocab_json(vocabulary: Vocabulary) -> dict[str, int]:
    """Return token -> id in order of id, tokens in GPT-2's printable bytes: the content of encoder.json."""
    entries = [(printable(token), rank) for token, rank in vocabulary.ranks.items()]
    return dict(sorted([*entries, (END_OF_TEXT, vocabulary.eot)], key=lambda entry: entry[1]))


def printable(token: bytes) -> str:
    """Return a token in GPT-2's printable characters, one for each byte."""
    alphabet = byte_alphabet()
    return "".join(alphabet[byte] for byte in token)


def read_tokenizer_files(directory: str | os.PathLike[str]) -> Vocabulary:
    """Return the vocabulary of a directory: its tokenizer.json, else its merges.txt or vocab.bpe.

    Raises BadInput when there is none, when vocab.json contradicts merges.txt, or when it is no GPT-2-like tokenizer.
    """
    place = Path(directory)
    for name in ("tokenizer.json", "merges.txt", "vocab.bpe"):
        if (place / name).is_file():
            vocabulary = load_vocabulary(place / name)
            break
    else:
        raise BadInput(f"{place} holds no vocabulary: neither tokenizer.json nor merges.txt")
    listed = place / "vocab.json"
    if name == "merges.txt" and listed.is_file() and _load_json(listed) != vocab_json(vocabulary):
        raise BadInput(f"{listed} gives other ids than GPT-2's layout of {place / name}; give tokenizer.json instead")
    return vocabulary


def vocabulary_from_tokenizer_json(text: str, name: str) -> Vocabulary:
    """Return the vocabulary in the text of a tokenizer.json; `name` is the file for messages.

    Raises BadInput unless it is byte-level BPE with GPT-2's split pattern, `<|endoftext|>` as the one special token
    and merges in order of id: anything else would silently give other ids.
    """
    try:
        tokenizer = json.loads(text)
        model, added = tokenizer["model"], tokenizer.get("added_tokens") or []
        vocab = {str(token): _id(number) for token, number in model["vocab"].items()}
        specials = {str(token["content"]): _id(token["id"]) for token in added}
        listed = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise BadInput(f"{name} is no Hugging Face tokenizer.json with a BPE model") from None
    _check_pipeline(tokenizer, name)
    if list(specials) not in ([END_OF_TEXT], []):
        raise BadInput(f"{name} has other special tokens than {END_OF_TEXT}: {', '.join(sorted(specials))}")
    eot = specials.get(END_OF_TEXT, vocab.get(END_OF_TEXT))
    if eot is None:
        raise BadInput(f"{name} has no {END_OF_TEXT}")
    characters = byte_of_character()
    try:
        ranks = {bytes(characters[c] for c in token): number for token, number in vocab.items() if token != END_OF_TEXT}
    except KeyError:
        raise BadInput(f"{name} has tokens that are not byte-level") from None
    vocabulary = checked(Vocabulary(ranks, eot), name)
    if [tuple(map(printable, pair)) for pair in recover_merges(vocabulary, name)] != listed:
        raise BadInput(f"{name}: its merges are not in order of id, so ranks can't stand for them")
    return vocabulary


def _check_pipeline(tokenizer: dict[str, Any], name: str) -> None:
    model, splitter = tokenizer["model"], tokenizer.get("pre_tokenizer")
    plain = not any(model.get(key) for key in ("dropout", "unk_token", "continuing_subword_prefix",
                                               "end_of_word_suffix", "byte_fallback"))
    gpt2_split = (isinstance(splitter, dict) and splitter.get("type") == "ByteLevel"
                  and not splitter.get("add_prefix_space") and splitter.get("use_regex", True))
    if model.get("type", "BPE") != "BPE" or not plain or not gpt2_split or tokenizer.get("normalizer"):
        raise BadInput(f"{name} is no tokenizer like GPT-2's: byte-level BPE, its split, no normalizer or prefix space")


def _tokenizer_json(vocabulary: Vocabulary, vocab: dict[str, int], merges: list[str]) -> dict[str, Any]:
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": vocabulary.eot, **_SPECIAL, "special": True}],
        "normalizer": None, "pre_tokenizer": _BYTE_LEVEL,
        "post_processor": {**_BYTE_LEVEL, "add_prefix_space": True, "trim_offsets": False},
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": merges,
        },
    }


def _load_json(path: Path) -> Any:
    if path.stat().st_size > MAX_VOCABULARY_BYTES:
        raise BadInput(f"{path} is larger than any vocabulary")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise BadInput(f"{path} is not JSON") from None


def _id(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(value)
    return value


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode() + b"\n"
