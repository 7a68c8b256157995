"""Whether a vocabulary file or a directory of tokenizer files is sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.records.artefact_kind import ID_TABLES, VOCABULARY
from gpt2cli.records.named_file import open_named
from gpt2cli.records.temporaries import temporary_directory
from gpt2cli.records.verify import Verdict
from gpt2cli.tokens.vocabulary import (
    END_OF_TEXT,
    MAX_VOCABULARY_BYTES,
    Vocabulary,
    byte_of_character,
    checked,
    load_vocabulary,
    recover_merges,
)


def verify_vocabulary(path: Path) -> Verdict:
    """Load a vocabulary file or directory and rebuild its merges: they must lead to its ranks.

    A file named encoder.json or vocab.json gives ids alone, and is checked as a table of them.
    """
    try:
        vocabulary = _read_id_table(path) if path.name in ID_TABLES else load_vocabulary(path)
        recover_merges(vocabulary, str(path))
    except Gpt2Error as error:
        return Verdict(VOCABULARY, [str(error)])
    return Verdict(VOCABULARY, facts={"n_vocab": vocabulary.n_vocab, "tokenizer_sha256": vocabulary.sha256})


def verify_vocabulary_stream(stream: BinaryIO, name: str) -> Verdict:
    """Check a vocabulary that comes through a pipe; `name` is for messages."""
    with temporary_directory("gpt2-verify") as place:
        path = place / name
        path.write_bytes(stream.read(MAX_VOCABULARY_BYTES + 1))
        verdict = verify_vocabulary(path)
    return Verdict(VOCABULARY, [text.replace(f"{place}/", "") for text in verdict.problems], verdict.facts)


def _read_id_table(path: Path) -> Vocabulary:
    with open_named(path) as file:
        data = file.read(MAX_VOCABULARY_BYTES + 1)
    try:
        if len(data) > MAX_VOCABULARY_BYTES:
            raise ValueError("too large")
        table = json.loads(data)
        eot = table.pop(END_OF_TEXT)
        characters = byte_of_character()
        ranks = {bytes(characters[c] for c in token): number for token, number in table.items()}
        if not all(type(number) is int for number in (eot, *ranks.values())):
            raise ValueError("an id that is no whole number")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise BadInput(f"{path} is damaged, or no table of byte-level tokens and {END_OF_TEXT} with ids") from None
    return checked(Vocabulary(ranks, eot), str(path))
