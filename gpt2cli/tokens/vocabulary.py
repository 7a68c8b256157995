"""Byte-level BPE vocabularies: GPT-2's own, packaged and hash-checked, or one's own, from any file that holds one.

A vocabulary is a rank for every token's bytes (the lower rank merges first; the rank is the id) and the id of
end-of-text. Its identity is the sha256 of its canonical form: the lines of a .tiktoken file in order of rank,
`BASE64 RANK`, then the special-token line `<|endoftext|> ID`. Text is split by GPT-2's pattern before merging.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.streams import open_input
from gpt2cli.tokens import openai_files
from gpt2cli.tokens.split_pattern import check_split

END_OF_TEXT = "<|endoftext|>"
MAX_VOCABULARY_BYTES = 64 << 20
"""Largest vocabulary file read, far above any real one."""
MAX_TOKEN_BYTES = 1024
"""Longest token. GPT-2's has 128 bytes, and `gpt2 bpe-train` makes none above 256; rebuilding merges is quadratic."""


@dataclass(frozen=True)
class Vocabulary:
    """Ranks of byte strings and the id of end-of-text; ids are exactly 0 to n_vocab - 1."""

    ranks: dict[bytes, int]
    eot: int

    @property
    def n_vocab(self) -> int:
        """Number of ids, end-of-text included."""
        return len(self.ranks) + 1

    @functools.cached_property
    def sha256(self) -> str:
        """tokenizer_sha256: the hex sha256 of canonical()."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @property
    def is_gpt2(self) -> bool:
        """Whether this is GPT-2's own vocabulary."""
        return self.n_vocab == 50257 and self.sha256 == openai_files.GPT2_TOKENIZER_SHA256

    def tiktoken_text(self) -> str:
        """Return the .tiktoken form, without the special-token line."""
        order = sorted(self.ranks.items(), key=lambda item: item[1])
        return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in order)

    def canonical(self) -> str:
        """Return the text whose sha256 names this vocabulary; `vocabulary_from_canonical` reads it back."""
        return f"{self.tiktoken_text()}{END_OF_TEXT} {self.eot}\n"

    def token_bytes(self) -> list[bytes]:
        """Return the bytes of every id; end-of-text is b"<|endoftext|>"."""
        table = [END_OF_TEXT.encode()] * self.n_vocab
        for token, rank in self.ranks.items():
            table[rank] = token
        return table


@functools.cache
def byte_alphabet() -> dict[int, str]:
    """Return GPT-2's printable character for each byte, in GPT-2's order of ids (OpenAI's bytes_to_unicode)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(256 + len(alphabet) - len(printable))
    return alphabet


@functools.cache
def byte_of_character() -> dict[str, int]:
    """Return the inverse of byte_alphabet."""
    return {character: byte for byte, character in byte_alphabet().items()}


def printable(token: bytes) -> str:
    """Return a token in GPT-2's printable characters, one for each byte."""
    alphabet = byte_alphabet()
    return "".join(alphabet[byte] for byte in token)


@functools.cache
def gpt2_vocabulary() -> Vocabulary:
    """Return GPT-2's vocabulary (Radford et al. 2019), rebuilt from a file of OpenAI's whose digest is checked.

    The file is the packaged vocab.bpe, else one of tiktoken's cache; BadInput when there is neither.
    """
    text, name = openai_files.find_table()
    return _from_text(text, name)


def load_vocabulary(path: str | os.PathLike[str] | None) -> Vocabulary:
    """Return the vocabulary in `path`; None means $GPT2_VOCAB, else GPT-2's own (see openai_files.find_table).

    `path` may be a tokenizer.json such as `gpt2 bpe-train` writes, a *.tiktoken file, vocab.bpe or merges.txt, plain or
    zstd, or a directory that holds one of them. Files are known by their content.
    Raises UsageFault when it does not exist, BadInput when it is no byte-level BPE vocabulary in GPT-2's pattern.
    """
    if path is None:
        path = os.environ.get("GPT2_VOCAB") or None
    if path is None:
        return gpt2_vocabulary()
    found = Path(path)
    if not found.exists():
        raise UsageFault(f"there is no vocabulary at {found}")
    if found.is_dir():
        from gpt2cli.tokens.tokenizer_directory import read_tokenizer_directory

        return read_tokenizer_directory(found)
    with open_input(found) as stream:
        return read_vocabulary(stream, str(found))


def vocabulary_source(path: str | os.PathLike[str] | None) -> str:
    """Return where load_vocabulary(path) looks: the path, that of $GPT2_VOCAB, or the file of GPT-2's own."""
    return str(path or os.environ.get("GPT2_VOCAB") or openai_files.find_table()[1])


def read_vocabulary(stream: BinaryIO, name: str) -> Vocabulary:
    """Return the vocabulary in an open, decompressed stream, in any form of file that load_vocabulary takes."""
    text = read_vocabulary_text(stream, name)
    vocabulary = _from_text(text, name)
    check_split(vocabulary.ranks, name)
    return vocabulary


def read_vocabulary_text(stream: BinaryIO, name: str) -> str:
    """Return all of a stream as text; raise BadInput when it is larger than any vocabulary, or not UTF-8."""
    data = stream.read(MAX_VOCABULARY_BYTES + 1)
    if len(data) > MAX_VOCABULARY_BYTES:
        raise BadInput(f"{name} is larger than any vocabulary ({MAX_VOCABULARY_BYTES} bytes)")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is no vocabulary: not UTF-8 at byte {error.start}") from None


def _from_text(text: str, name: str) -> Vocabulary:
    if re.match(r"[ \t\r\n]*\{", text):
        from gpt2cli.tokens.tokenizer_json import vocabulary_from_tokenizer_json

        return vocabulary_from_tokenizer_json(text, name)
    first = text.partition("\n")[0].removesuffix("\r")
    if first.startswith("#version") or _is_merge(first):
        return checked(vocabulary_from_merges(parse_merges(text, name), name), name)
    return vocabulary_from_canonical(text, name)


def _is_merge(line: str) -> bool:
    left, _, right = line.partition(" ")
    ranked = right.isdigit() and len(left) % 4 == 0
    return bool(left and right and not ranked and line != END_OF_TEXT and byte_of_character().keys() >= {*left, *right})


def vocabulary_from_canonical(text: str, name: str) -> Vocabulary:
    """Return the vocabulary in canonical or plain .tiktoken text; `name` is the file for messages.

    Without a special-token line end-of-text takes the id after the last rank, as in GPT-2. Raises BadInput.
    """
    ranks: dict[bytes, int] = {}
    eot: int | None = None
    for number, line in enumerate(text.split("\n"), 1):
        token, _, digits = line.removesuffix("\r").rpartition(" ")
        if not token and not digits:
            continue
        if not (digits.isascii() and digits.isdigit() and len(digits) < 9):
            raise BadInput(f"{name} line {number} is no `BASE64 RANK` line of a vocabulary; neither is the file a "
                           "tokenizer.json, vocab.bpe or merges.txt")
        if token == END_OF_TEXT:
            if eot is not None:
                raise BadInput(f"{name} line {number} names {END_OF_TEXT} a second time")
            eot = int(digits)
            continue
        try:
            piece = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            raise BadInput(f"{name} line {number} is no `BASE64 RANK` line of a vocabulary") from None
        if not piece or piece in ranks:
            raise BadInput(f"{name} line {number} holds an empty or repeated token")
        ranks[piece] = int(digits)
    return checked(Vocabulary(ranks, len(ranks) if eot is None else eot), name)


def vocabulary_of(text: str | None, sha256: str, name: str) -> Vocabulary:
    """Return the vocabulary that a shard or shard set carries: its canonical `text`, or GPT-2's when that is None.

    sha256: the tokenizer_sha256 beside it. Raises BadInput when they don't belong together.
    """
    vocabulary = gpt2_vocabulary() if text is None else vocabulary_from_canonical(text, f"{name}: its vocabulary")
    if vocabulary.sha256 != sha256:
        raise BadInput(f"{name} names a vocabulary ({sha256[:12]}...) that it doesn't carry and that is not GPT-2's")
    return vocabulary


def vocabulary_from_merges(merges: list[tuple[bytes, bytes]], name: str) -> Vocabulary:
    """Return the vocabulary of 256 bytes in GPT-2's order, then `merges` in order, then end-of-text."""
    ranks = {bytes([byte]): rank for rank, byte in enumerate(byte_alphabet())}
    for left, right in merges:
        token = left + right
        if left not in ranks or right not in ranks or token in ranks:
            raise BadInput(f"{name}: the merge of {left[:40]!r} and {right[:40]!r} uses an unknown token or makes a "
                           "known one")
        if len(token) > MAX_TOKEN_BYTES:
            raise BadInput(f"{name}: a token of more than {MAX_TOKEN_BYTES} bytes is no GPT-2-like vocabulary's")
        ranks[token] = len(ranks)
    return Vocabulary(ranks, len(ranks))


def checked(vocabulary: Vocabulary, name: str) -> Vocabulary:
    """Return `vocabulary` if it can encode every byte and its ids are 0 to n_vocab - 1; else raise BadInput."""
    if not vocabulary.ranks:
        raise BadInput(f"{name} is empty: a vocabulary was expected")
    longest = max(map(len, vocabulary.ranks))
    if longest > MAX_TOKEN_BYTES:
        raise BadInput(f"{name}: a token of {longest} bytes is no GPT-2-like vocabulary's, {MAX_TOKEN_BYTES} the most")
    missing = [byte for byte in range(256) if bytes([byte]) not in vocabulary.ranks]
    if missing:
        raise BadInput(f"{name} lacks the byte 0x{missing[0]:02x}: a byte-level vocabulary has all 256")
    ids = sorted([*vocabulary.ranks.values(), vocabulary.eot])
    if ids != list(range(vocabulary.n_vocab)):
        raise BadInput(f"{name}: its ids are not 0 to {vocabulary.n_vocab - 1}, each once")
    return vocabulary


def recover_merges(vocabulary: Vocabulary, name: str = "the vocabulary") -> list[tuple[bytes, bytes]]:
    """Return the merges in order of rank: each longer token is split by the ranks below its own.

    BPE makes a token's inside depend on the token alone, so its last pair is unique. Raises BadInput for a token
    that lower ranks do not build from exactly two parts: such a file holds no BPE vocabulary.
    """
    merges = []
    for token, rank in sorted(vocabulary.ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = _merge_below(token, rank, vocabulary.ranks)
        if len(parts) != 2:
            raise BadInput(f"{name}: token {rank} ({token[:40]!r}) is not one merge of two tokens of lower rank")
        merges.append((parts[0], parts[1]))
    return merges


def _merge_below(token: bytes, limit: int, ranks: dict[bytes, int]) -> list[bytes]:
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best, where = limit, -1
        for i in range(len(parts) - 1):
            rank = ranks.get(parts[i] + parts[i + 1], limit)
            if rank < best:
                best, where = rank, i
        if where < 0:
            break
        parts[where : where + 2] = [parts[where] + parts[where + 1]]
    return parts


def parse_merges(text: str, name: str) -> list[tuple[bytes, bytes]]:
    """Return the merges of a vocab.bpe or merges.txt, with or without its `#version` line; raise BadInput."""
    # str.translate takes a quarter of the time of a look-up for each character; this file is read at every start.
    table = dict.fromkeys(map(ord, set(text)), "\uffff") | {ord(c): chr(b) for c, b in byte_of_character().items()}
    merges = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.partition(" ")
        try:
            pair = (left.translate(table).encode("latin-1"), right.translate(table).encode("latin-1"))
        except UnicodeEncodeError:
            raise BadInput(f"{name} line {number} is no merge of two byte-level tokens") from None
        if not pair[0] or not pair[1]:
            raise BadInput(f"{name} line {number} is no merge of two byte-level tokens")
        merges.append(pair)
    return merges
