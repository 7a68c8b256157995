"""Hugging Face's tokenizer.json, read: the vocabulary in it, or why GPT-2's encoder would not give its ids.

What changes the ids of text is checked and refused unless it is GPT-2's: model, normalizer, split, post-processor,
other added tokens. What does not is ignored: truncation and padding (which `transformers` sets anew on every call),
the decoder (a token's bytes follow from its characters), and unk_token (all 256 bytes are known).
"""

from __future__ import annotations

import json
from typing import Any

from gpt2cli.errors import BadInput
from gpt2cli.tokens.vocabulary import (
    END_OF_TEXT,
    MAX_TOKEN_BYTES,
    Vocabulary,
    byte_of_character,
    checked,
    printable,
    recover_merges,
)

PATTERNS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
)
"""Spellings of GPT-2's split: Hugging Face's, OpenAI's in gpt-2, and tiktoken's old and new ones."""
_NOT_OURS = {"dropout": "drops merges at random", "continuing_subword_prefix": "marks the inside of words",
             "end_of_word_suffix": "marks the end of words",
             "byte_fallback": "falls back to bytes as tokens like <0x00>",
             "ignore_merges": "ignores merges for whole words"}


def vocabulary_from_tokenizer_json(text: str, name: str) -> Vocabulary:
    """Return the vocabulary in the text of a tokenizer.json; `name` is the file for messages.

    Raises BadInput unless it is byte-level BPE with GPT-2's split pattern, `<|endoftext|>` as the one added token
    and merges in order of id: anything else would silently give other ids.
    """
    tokenizer = parse_json(text, name)
    if _is_id_table(tokenizer):
        raise BadInput(f"{name} lists ids only, as encoder.json and vocab.json do; give the vocab.bpe or merges.txt "
                       "beside it, the directory of both, or a tokenizer.json")
    if not isinstance(tokenizer, dict) or not isinstance(tokenizer.get("model"), dict):
        raise BadInput(f"{name} is no Hugging Face tokenizer.json: it has no model")
    reason = _difference(tokenizer)
    if reason:
        raise BadInput(f"{name}: this tokenizer {reason}; only byte-level BPE in GPT-2's way is read")
    model = tokenizer["model"]
    return vocabulary_from_tables(
        model.get("vocab"), _pairs(model.get("merges"), name), _added(tokenizer.get("added_tokens"), name), name)


def parse_json(text: str, name: str) -> Any:
    """Return the value in JSON text; raise BadInput for what is no JSON, or nested or long beyond sense."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput(f"{name} is not JSON that can be read: it is damaged, or no vocabulary") from None


def vocabulary_from_tables(vocab: Any, merges: list[tuple[str, str]], added: dict[str, int], name: str) -> Vocabulary:
    """Return the vocabulary of a table token -> id, merges in order, and added tokens -> id, all in printable bytes.

    Raises BadInput when they contradict each other, or hold what GPT-2's encoder does not compute.
    """
    if not isinstance(vocab, dict) or not all(type(number) is int for number in vocab.values()):
        raise BadInput(f"{name} has no table of tokens and whole numbers")
    others = sorted(added.keys() - {END_OF_TEXT})
    if others:
        raise BadInput(f"{name} has other special tokens than {END_OF_TEXT}: {shown(', '.join(others))}")
    eot = added.get(END_OF_TEXT, vocab.get(END_OF_TEXT))
    if eot is None:
        raise BadInput(f"{name} has no {END_OF_TEXT}")
    if vocab.get(END_OF_TEXT, eot) != eot:
        raise BadInput(f"{name} gives {END_OF_TEXT} two ids, {shown(eot)} and {shown(vocab[END_OF_TEXT])}")
    characters = byte_of_character()
    ranks = {}
    for token, number in vocab.items():
        if token == END_OF_TEXT:
            continue
        if not token or not characters.keys() >= set(token):
            raise BadInput(f"{name} has tokens that are not byte-level, such as {shown(token)}")
        ranks[bytes(characters[c] for c in token)] = number
    vocabulary = checked(Vocabulary(ranks, eot), name)
    if [tuple(map(printable, pair)) for pair in recover_merges(vocabulary, name)] != merges:
        raise BadInput(f"{name}: its merges are not in order of id, so ranks can't stand for them")
    return vocabulary


def shown(value: object) -> str:
    """Return foreign content for a message: printable ASCII, and not long."""
    try:
        text = ascii(value)
    except ValueError:  # an int of more digits than Python writes
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:60] + "..."


def _is_id_table(value: Any) -> bool:
    return isinstance(value, dict) and len(value) >= 256 and all(type(number) is int for number in value.values())


def _pairs(merges: Any, name: str) -> list[tuple[str, str]]:
    if not isinstance(merges, list):
        raise BadInput(f"{name} has no list of merges")
    pairs = []
    for number, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
            raise BadInput(f"{name}: merge {number} is no pair of tokens: {shown(merge)}")
        if len(parts[0]) + len(parts[1]) > MAX_TOKEN_BYTES:
            raise BadInput(f"{name}: merge {number} makes a token of more than {MAX_TOKEN_BYTES} bytes")
        pairs.append((parts[0], parts[1]))
    return pairs


def _added(tokens: Any, name: str) -> dict[str, int]:
    added: dict[str, int] = {}
    for token in tokens if isinstance(tokens, list) else []:
        content, number = (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
        if not isinstance(content, str) or type(number) is not int or content in added:
            raise BadInput(f"{name}: among its added tokens is {shown(token)}, which is broken or there twice")
        added[content] = number
    if tokens is not None and not isinstance(tokens, list):
        raise BadInput(f"{name}: its added_tokens are no list")
    return added


def _difference(tokenizer: dict[str, Any]) -> str | None:
    """Return how a tokenizer's ids would differ from GPT-2's way, as the rest of a sentence, or None."""
    model = tokenizer["model"]
    if model.get("type", "BPE") != "BPE":
        return f"is of type {shown(model['type'])}"
    for key, words in _NOT_OURS.items():
        if model.get(key):
            return f"{words} ({key})"
    if tokenizer.get("normalizer"):
        return f"normalizes text ({_type(tokenizer['normalizer'])})"
    splitter = tokenizer.get("pre_tokenizer")
    if not splitter:
        return "does not split text by GPT-2's pattern (it has no pre_tokenizer)"
    if not _splits_like_gpt2(splitter):
        return f"does not split text by GPT-2's pattern, without a space put before it ({_type(splitter)})"
    processor = tokenizer.get("post_processor")
    if processor and _type(processor) != "'ByteLevel'":
        return f"adds tokens to every text ({_type(processor)})"
    return None


def _splits_like_gpt2(splitter: Any) -> bool:
    parts = _parts(splitter)
    if not all(isinstance(part, dict) for part in parts):
        return False
    if len(parts) == 1:
        return _is_byte_level(parts[0], use_regex=True)
    if len(parts) != 2 or not _is_byte_level(parts[1], use_regex=False):
        return False
    pattern = parts[0].get("pattern")
    return (parts[0].get("type") == "Split" and isinstance(pattern, dict) and pattern.get("Regex") in PATTERNS
            and parts[0].get("behavior") == "Isolated" and not parts[0].get("invert"))


def _is_byte_level(part: dict[str, Any], *, use_regex: bool) -> bool:
    return (part.get("type") == "ByteLevel" and not part.get("add_prefix_space", True)
            and bool(part.get("use_regex", True)) == use_regex)


def _parts(splitter: Any) -> list[Any]:
    """Return the pre-tokenizers of a Sequence, or the one that `splitter` is."""
    if isinstance(splitter, dict) and splitter.get("type") == "Sequence":
        inner = splitter.get("pretokenizers")
        return inner if isinstance(inner, list) else []
    return [splitter]


def _type(part: Any) -> str:
    return shown(part.get("type")) if isinstance(part, dict) else shown(part)
