"""Learn a byte-level BPE vocabulary (Sennrich et al. 2016, on bytes as Radford et al. 2019) from documents.

The counting and merging is done by Hugging Face's native trainer: maintained, deterministic, and fed as a stream.
What it learns are merges; the vocabulary is ours: 256 bytes in GPT-2's order, the merges, end-of-text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gpt2cli.errors import BadInput, Gpt2Error, Interrupted
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.documents import DocumentTally, read_documents
from gpt2cli.tokens.encode import replace_surrogates, split_long_runs
from gpt2cli.tokens.vocabulary import Vocabulary, byte_of_character, vocabulary_from_merges

SMALLEST = 257
"""256 bytes and end-of-text."""
MIN_FREQUENCY = 2
"""A pair seen once teaches nothing."""
LONGEST_WORD = 256
"""Bytes of a word that are looked at together. The trainer's time is quadratic in it, and a run of a million characters
(base64, spaces) is no word."""


@dataclass(frozen=True)
class MergeConfig:
    """What to learn: `n_vocab` counts bytes, merges and end-of-text; `form` as in read_documents."""

    n_vocab: int
    form: str = "auto"


@dataclass(frozen=True)
class MergeSummary:
    """What was learned, from how much."""

    vocabulary: Vocabulary
    documents: int
    text_bytes: int


class _Feed:
    """Hands texts to the trainer's thread and counts them; says stop by ending early."""

    def __init__(self, paths: Sequence[str], tally: DocumentTally, form: str) -> None:
        self._documents = read_documents(paths, tally, form)
        self.text_bytes = 0
        self.stop = False
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        # An exception must not cross the native code, which may swallow it.
        try:
            for document in self._documents:
                if self.stop:
                    return
                text = document.text
                if not text.isascii():
                    text, _ = replace_surrogates(text)
                self.text_bytes += len(text) if text.isascii() else len(text.encode())
                for piece, _ in split_long_runs(text):
                    yield piece
        except Exception as error:
            self.error = error


def train_vocabulary(paths: Sequence[str], config: MergeConfig, reporter: Reporter) -> MergeSummary:
    """Return a vocabulary of at most config.n_vocab ids learned from the documents of `paths` (none: stdin).

    It is smaller, with a warning, when the text has no more pairs that occur twice. Same text, same vocabulary.
    Raises BadInput when there is no text, Interrupted when asked to stop.
    """
    tally = DocumentTally()
    feed = _Feed(paths, tally, config.form)
    merges: list[tuple[bytes, bytes]] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            merges.extend(_native_merges(feed, config.n_vocab))
        except BaseException as failure:  # a panic in native code is one; it must not vanish with the thread
            failures.append(failure)

    # A thread of its own: the native trainer doesn't return for minutes, and Ctrl-C should not wait for it.
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(0.2)
        reporter.progress(feed.text_bytes / 1e6, None, "MB of text", documents=f"{tally.documents:,}")
        if reporter.stopping():
            feed.stop = True
            raise Interrupted
    if feed.error is not None:
        raise feed.error
    if failures:
        raise Gpt2Error(f"the native trainer failed: {failures[0]}")
    for line in tally.sentences():
        reporter.warn(line)
    if not tally.documents:
        raise BadInput("there is no text to learn from")
    vocabulary = vocabulary_from_merges(merges, "the trained vocabulary")
    if vocabulary.n_vocab < config.n_vocab:
        reporter.warn(f"the text has only enough repeated pairs for {vocabulary.n_vocab:,} of {config.n_vocab:,} ids; "
                      "the vocabulary is that small")
    return MergeSummary(vocabulary, tally.documents, feed.text_bytes)


def _native_merges(feed: _Feed, n_vocab: int) -> list[tuple[bytes, bytes]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True), pre_tokenizers.FixedLength(LONGEST_WORD)])
    trainer = trainers.BpeTrainer(vocab_size=n_vocab - 1, min_frequency=MIN_FREQUENCY, special_tokens=[],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(iter(feed), trainer=trainer)
    if feed.error is not None or feed.stop:
        return []
    characters = byte_of_character()
    pairs = [pair.split(" ") if isinstance(pair, str) else pair
             for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    return [(bytes(characters[c] for c in left), bytes(characters[c] for c in right)) for left, right in pairs]
