"""A vocabulary in the files that other tools read.

tokenizer.json   one file for Hugging Face's `tokenizers` and `transformers`
tiktoken         a .tiktoken file for tiktoken.load.load_tiktoken_bpe; of GPT-2's: r50k_base.tiktoken, byte for byte
vocab.bpe        the merges; of GPT-2's: OpenAI's vocab.bpe, byte for byte
encoder.json     each token's id; of GPT-2's: OpenAI's encoder.json, byte for byte
hf               a directory for transformers.AutoTokenizer, with the special tokens named
cache-dir        a directory for $TIKTOKEN_CACHE_DIR, so that tiktoken finds GPT-2 without a network
"""

from __future__ import annotations

import os
from pathlib import Path

from gpt2cli.errors import UsageFault
from gpt2cli.records.atomic import atomic_directory, check_new_directory, write_atomic
from gpt2cli.tokens.huggingface import (
    FILES,
    encoder_json,
    merge_lines,
    merges_txt,
    tokenizer_json,
    write_tokenizer_files,
)
from gpt2cli.tokens.openai_files import CACHED, ENCODER_JSON, R50K_BASE, VOCAB_BPE
from gpt2cli.tokens.vocabulary import END_OF_TEXT, Vocabulary, byte_alphabet

FILE_KINDS = ("tokenizer.json", "tiktoken", "vocab.bpe", "encoder.json")
DIRECTORY_KINDS = ("hf", "cache-dir")


def vocabulary_file(vocabulary: Vocabulary, kind: str) -> bytes:
    """Return the file of one of FILE_KINDS.

    Raises UsageFault when that kind cannot say where this vocabulary's ids lie, BadInput when it holds no BPE merges.
    """
    if kind == "tokenizer.json":
        return tokenizer_json(vocabulary)
    if kind == "encoder.json":
        return encoder_json(vocabulary)
    if vocabulary.eot != vocabulary.n_vocab - 1:
        raise UsageFault(f"a {kind} file puts {END_OF_TEXT} last, and in this vocabulary its id is {vocabulary.eot}; "
                         "export tokenizer.json or hf instead")
    if kind == "tiktoken":
        return vocabulary.tiktoken_text().encode()
    if kind != "vocab.bpe":
        raise UsageFault(f"there is no file of kind {kind!r}")
    merges = merge_lines(vocabulary)
    if any(vocabulary.ranks[bytes([byte])] != rank for rank, byte in enumerate(byte_alphabet())):
        raise UsageFault("a vocab.bpe file begins with the bytes in GPT-2's order, and this vocabulary does not; "
                         "export tokenizer.json, tiktoken or hf instead")
    return merges_txt(merges)


def export_directory(vocabulary: Vocabulary, kind: str, directory: str | os.PathLike[str], *, force: bool = False
                     ) -> tuple[str, ...]:
    """Make `directory`, whole or not at all, of one of DIRECTORY_KINDS; return the names of its files.

    With `force` an existing directory is replaced, but only one that holds nothing else than such files.
    Raises UsageFault for any other, for a vocabulary that is not GPT-2's as cache-dir, and for an unknown kind.
    """
    if kind not in DIRECTORY_KINDS:
        raise UsageFault(f"there is no directory of kind {kind!r}")
    if kind == "cache-dir" and not vocabulary.is_gpt2:
        raise UsageFault("tiktoken's cache serves OpenAI's vocabularies only, and this is not GPT-2's; export "
                         "tiktoken, and load it with tiktoken.load.load_tiktoken_bpe")
    names = FILES if kind == "hf" else tuple(file.cache_name for file in CACHED)
    final = Path(os.path.realpath(directory))
    check_new_directory(Path(directory), force, names.__contains__, "this export")
    with atomic_directory(final) as place:
        if kind == "hf":
            return write_tokenizer_files(vocabulary, place)
        for file, data in zip((VOCAB_BPE, ENCODER_JSON, R50K_BASE),
                              (vocabulary_file(vocabulary, kind) for kind in ("vocab.bpe", "encoder.json", "tiktoken")),
                              strict=True):
            write_atomic(place / file.cache_name, data)
    return names
