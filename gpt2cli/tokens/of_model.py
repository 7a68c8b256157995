"""Which vocabulary a model directory was trained with."""

from __future__ import annotations

from pathlib import Path

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.tokenizer_directory import read_tokenizer_directory
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary

GPT2_VOCAB_SIZE = 50_257
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")


def vocabulary_of_model(directory: Path, n_vocab: int, reporter: Reporter) -> Vocabulary:
    """Return the vocabulary in a model directory's tokenizer files.

    A directory without any is taken to speak GPT-2's vocabulary when its model has `n_vocab` 50,257 ids, and the
    reporter is told. A model may have more ids than its vocabulary (some pad to a round number), never fewer.
    Raises UsageFault when there is nothing to go by, BadInput when the files do not fit the model.
    """
    if any((directory / name).is_file() for name in TOKENIZER_FILES):
        vocabulary = read_tokenizer_directory(directory)
        if vocabulary.n_vocab > n_vocab:
            raise BadInput(f"{directory}: its tokenizer has {vocabulary.n_vocab} ids, its model only {n_vocab}")
        return vocabulary
    if n_vocab == GPT2_VOCAB_SIZE:
        reporter.note(f"{directory} has no tokenizer files; GPT-2's own vocabulary of {n_vocab} ids is used")
        return gpt2_vocabulary()
    raise UsageFault(f"{directory} has no tokenizer files, and its {n_vocab} ids are not GPT-2's {GPT2_VOCAB_SIZE}; "
                     "put its tokenizer.json there")
