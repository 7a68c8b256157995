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
from dataclasses import dataclass
from pathlib import Path

from gpt2cli.errors import BadInput, UsageFault

END_OF_TEXT = "<|endoftext|>"
VOCAB_BPE_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
MAX_VOCABULARY_BYTES = 64 << 20
"""Largest vocabulary file read, far above any real one."""


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
        return self.n_vocab == 50257 and self.sha256 == gpt2_vocabulary().sha256

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


@functools.cache
def gpt2_vocabulary() -> Vocabulary:
    """Return GPT-2's vocabulary (Radford et al. 2019), rebuilt from the packaged vocab.bpe whose hash is checked."""
    path = Path(__file__).parent / "data" / "vocab.bpe"
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != VOCAB_BPE_SHA256:
        raise BadInput(f"{path} is not GPT-2's vocabulary: its sha256 differs; install gpt2cli again")
    return _from_merge_text(data.decode(), str(path))


def load_vocabulary(path: str | os.PathLike[str] | None) -> Vocabulary:
    """Return the vocabulary in `path`; None means $GPT2_VOCAB, else GPT-2's own.

    `path` may be a file written by `gpt2 bpe-train`, a *.tiktoken file, vocab.bpe or merges.txt, a Hugging Face
    tokenizer.json, or a directory that holds tokenizer.json or merges.txt. Files are known by their content.
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
        from gpt2cli.tokens.huggingface import read_tokenizer_files

        return read_tokenizer_files(found)
    text = _read_text(found)
    start = text.lstrip()[:1]
    if start == "{":
        from gpt2cli.tokens.huggingface import vocabulary_from_tokenizer_json

        return vocabulary_from_tokenizer_json(text, str(found))
    if text.startswith("#version"):
        return _from_merge_text(text, str(found))
    return vocabulary_from_canonical(text, str(found))


def vocabulary_from_canonical(text: str, name: str) -> Vocabulary:
    """Return the vocabulary in canonical or plain .tiktoken text; `name` is the file for messages.

    Without a special-token line end-of-text takes the id after the last rank, as in GPT-2. Raises BadInput.
    """
    ranks: dict[bytes, int] = {}
    eot: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        token, _, digits = line.rpartition(" ")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 9):
            raise BadInput(f"{name} line {number} is no `BASE64 RANK` line of a vocabulary")
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
        if left not in ranks or right not in ranks or left + right in ranks:
            raise BadInput(f"{name}: the merge of {left!r} and {right!r} uses an unknown token or makes a known one")
        ranks[left + right] = len(ranks)
    return Vocabulary(ranks, len(ranks))


def checked(vocabulary: Vocabulary, name: str) -> Vocabulary:
    """Return `vocabulary` if it can encode every byte and its ids are 0 to n_vocab - 1; else raise BadInput."""
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
            raise BadInput(f"{name}: token {rank} ({token!r}) is not one merge of two tokens of lower rank")
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


def _from_merge_text(text: str, name: str) -> Vocabulary:
    characters = byte_of_character()
    merges = []
    for number, line in enumerate(text.split("\n")[1:], 2):
        if not line:
            continue
        left, _, right = line.partition(" ")
        try:
            pair = (bytes(characters[c] for c in left), bytes(characters[c] for c in right))
        except KeyError:
            raise BadInput(f"{name} line {number} is no merge of two byte-level tokens") from None
        if not pair[0] or not pair[1]:
            raise BadInput(f"{name} line {number} is no merge of two byte-level tokens")
        merges.append(pair)
    return checked(vocabulary_from_merges(merges, name), name)


def _read_text(path: Path) -> str:
    with open(path, "rb") as file:
        data = file.read(MAX_VOCABULARY_BYTES + 1)
    if len(data) > MAX_VOCABULARY_BYTES:
        raise BadInput(f"{path} is larger than any vocabulary ({MAX_VOCABULARY_BYTES} bytes)")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no vocabulary: not UTF-8 at byte {error.start}") from None
