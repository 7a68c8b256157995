"""What a vocabulary is and how it cuts a text, as rows for a person or for awk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpt2cli.errors import UsageFault
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.vocabulary import Vocabulary, recover_merges


def vocabulary_facts(vocabulary: Vocabulary, name: str) -> list[tuple[str, str]]:
    """Return (name, value) rows; `name` is where it was found. Raises BadInput when its ranks are no BPE merges."""
    merges = recover_merges(vocabulary, name)
    table = vocabulary.token_bytes()
    longest = max(vocabulary.ranks, key=lambda token: (len(token), -vocabulary.ranks[token]))
    learned = [len(token) for token in vocabulary.ranks if len(token) > 1]
    mean = f"{sum(learned) / len(learned):.2f}" if learned else "0"
    return [
        ("found_in", name),
        ("is_gpt2", "yes" if vocabulary.is_gpt2 else "no"),
        ("n_vocab", str(vocabulary.n_vocab)),
        ("merges", str(len(merges))),
        ("eot", str(vocabulary.eot)),
        ("tokenizer_sha256", vocabulary.sha256),
        ("shard_dtype", "uint16" if vocabulary.n_vocab <= 1 << 16 else "uint32"),
        ("mean_bytes_of_a_merge", mean),
        ("longest_token", f"{vocabulary.ranks[longest]} of {len(longest)} bytes: {shown_token(longest)}"),
        ("last_token", f"{vocabulary.n_vocab - 1}: {shown_token(table[-1])}"),
    ]


def tokens_of_text(vocabulary: Vocabulary, text: str) -> Iterator[tuple[int, str]]:
    """Yield (id, token as shown_token writes it) for each token of a text."""
    table = vocabulary.token_bytes()
    for number in Encoder(vocabulary).encode(text).tolist():
        yield number, shown_token(table[number])


def tokens_of_ids(vocabulary: Vocabulary, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield (id, token) for each id; raise UsageFault for one outside the vocabulary."""
    table = vocabulary.token_bytes()
    for number in ids:
        if not 0 <= number < len(table):
            raise UsageFault(f"{number} is no id of this vocabulary: they are 0 to {len(table) - 1}")
        yield number, shown_token(table[number])


def shown_token(token: bytes) -> str:
    """Return a token in quotes as Python writes it: as text, or as b'...' when its bytes are no whole characters."""
    try:
        return repr(token.decode())
    except UnicodeDecodeError:
        return repr(token)
