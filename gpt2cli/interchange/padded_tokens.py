"""The names of all of a model's ids, for formats whose list of tokens is as long as the model's embedding."""

from __future__ import annotations

from gpt2cli.tokens.vocabulary import END_OF_TEXT, Vocabulary, printable


def token_names(vocabulary: Vocabulary, n_vocab: int, padding: str) -> list[str]:
    """Return each id's token in GPT-2's printable characters; ids past the vocabulary are `padding` with their number.

    padding: such as "[PAD{}]".
    """
    names = [""] * vocabulary.n_vocab
    for token, rank in vocabulary.ranks.items():
        names[rank] = printable(token)
    names[vocabulary.eot] = END_OF_TEXT
    return names + [padding.format(number) for number in range(vocabulary.n_vocab, n_vocab)]
