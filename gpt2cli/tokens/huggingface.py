"""Hugging Face tokenizer files, written so that `transformers` and friends get the very same ids.

One difference is theirs: `transformers` takes the literal text `<|endoftext|>` for the special token, we never do.
The files are written by hand in the long-standing layout (merges as "left right"), so their bytes depend on no library.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gpt2cli.records.atomic import write_atomic
from gpt2cli.tokens.vocabulary import END_OF_TEXT, Vocabulary, printable, recover_merges

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
    merges = merge_lines(vocabulary)
    config: dict[str, Any] = {
        "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "add_bos_token": False,
        "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
    }
    if n_ctx is not None:
        config["model_max_length"] = n_ctx
    write_atomic(place / "tokenizer.json", _json(_tokenizer_json(vocabulary, merges)))
    write_atomic(place / "vocab.json", encoder_json(vocabulary))
    write_atomic(place / "merges.txt", merges_txt(merges))
    write_atomic(place / "tokenizer_config.json", _json(config))
    special = {name: END_OF_TEXT for name in ("bos_token", "eos_token", "unk_token")}
    write_atomic(place / "special_tokens_map.json", _json(special))
    return FILES


def tokenizer_json(vocabulary: Vocabulary) -> bytes:
    """Return a tokenizer.json: the whole vocabulary in one file that `tokenizers` and `transformers` read.

    Raises BadInput when the ranks are no BPE merges.
    """
    return _json(_tokenizer_json(vocabulary, merge_lines(vocabulary)))


def encoder_json(vocabulary: Vocabulary) -> bytes:
    """Return a vocab.json; for GPT-2's vocabulary it is OpenAI's encoder.json."""
    return json.dumps(_ids(vocabulary)).encode()


def merges_txt(merges: list[str]) -> bytes:
    """Return a merges.txt of merge_lines; for GPT-2's vocabulary it is OpenAI's vocab.bpe."""
    return "".join(f"{line}\n" for line in ["#version: 0.2", *merges]).encode()


def merge_lines(vocabulary: Vocabulary) -> list[str]:
    """Return the merges in order of rank, each `LEFT RIGHT` in printable bytes; BadInput when the ranks are none."""
    return [" ".join(map(printable, pair)) for pair in recover_merges(vocabulary)]


def _ids(vocabulary: Vocabulary) -> dict[str, int]:
    entries = [(printable(token), rank) for token, rank in vocabulary.ranks.items()]
    return dict(sorted([*entries, (END_OF_TEXT, vocabulary.eot)], key=lambda entry: entry[1]))


def _tokenizer_json(vocabulary: Vocabulary, merges: list[str]) -> dict[str, Any]:
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": vocabulary.eot, **_SPECIAL, "special": True}],
        "normalizer": None, "pre_tokenizer": _BYTE_LEVEL,
        "post_processor": {**_BYTE_LEVEL, "add_prefix_space": True, "trim_offsets": False},
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "vocab": _ids(vocabulary),
            "merges": merges,
        },
    }


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode() + b"\n"
