"""Whether a vocabulary file or a directory of tokenizer files is sound."""

from __future__ import annotations

from pathlib import Path

from gpt2cli.errors import Gpt2Error
from gpt2cli.records.verify import VOCABULARY, Verdict
from gpt2cli.tokens.vocabulary import load_vocabulary, recover_merges


def verify_vocabulary(path: Path) -> Verdict:
    """Load a vocabulary and rebuild its merges: they must lead to its ranks."""
    try:
        vocabulary = load_vocabulary(path)
        recover_merges(vocabulary, str(path))
    except Gpt2Error as error:
        return Verdict(VOCABULARY, [str(error)])
    return Verdict(VOCABULARY, facts={"n_vocab": vocabulary.n_vocab, "tokenizer_sha256": vocabulary.sha256})
