"""Learn a byte-level BPE vocabulary (Sennrich et al. 2016, on bytes as Radford et al. 2019) from documents.

The counting and merging is done by the native trainer of Hugging Face's `tokenizers`. The other candidate, rustbpe
0.1.0, was measured beside it on 62 MB of technical documentation with two cores, in turns: 7 s against 15 to 29 s for
50,257 ids, 245 MB of memory against 450. Both give the same merges run after run and with any number of threads, and
break ties by the lower pair of ids. Not taken, because it has one release, holds Python's lock while it merges (Ctrl-C
would wait), cannot leave out pairs seen once, fails on a long run of spaces, and takes time in proportion to the square
of a word's length. Both count pairs in 32 bits, so text_feed stops before a count could overflow.

What is learned are merges; the vocabulary is ours: 256 bytes in GPT-2's order, the merges, end-of-text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gpt2cli.errors import BadInput, Gpt2Error, Interrupted
from gpt2cli.reporter import Reporter
from gpt2cli.tokens.text_feed import TextFeed
from gpt2cli.tokens.vocabulary import Vocabulary, byte_of_character, vocabulary_from_merges

MIN_FREQUENCY = 2
"""A pair seen once teaches nothing."""
LONGEST_WORD = 256
"""Bytes of a word that are looked at together. The trainer's time is quadratic in it, and a run of a million characters
(base64, spaces) is no word."""


@dataclass(frozen=True)
class MergeConfig:
    """What to learn: `n_vocab` counts bytes, merges and end-of-text; `form` as in read_batches."""

    n_vocab: int
    form: str = "auto"


@dataclass(frozen=True)
class MergeSummary:
    """What was learned, from how much."""

    vocabulary: Vocabulary
    documents: int
    text_bytes: int


def train_vocabulary(paths: Sequence[str], config: MergeConfig, reporter: Reporter) -> MergeSummary:
    """Return a vocabulary of at most config.n_vocab ids learned from the documents of `paths` (none: stdin).

    It is smaller, with a warning, when the text has no more pairs that occur twice. Same text, same vocabulary, with
    any number of threads. Memory: a few MB of text at a time, and every different word once.
    Raises BadInput when there is no text, Interrupted when asked to stop.
    """
    feed = TextFeed(paths, config.form)
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
        reporter.progress(feed.text_bytes / 1e6, None, "MB of text", documents=f"{feed.tally.documents:,}",
                          now="merging" if feed.ended else "counting words")
        if reporter.stopping():
            feed.stop = True
            raise Interrupted
    if feed.error is not None:
        raise feed.error
    if failures:
        raise Gpt2Error(f"the native trainer failed: {failures[0]}")
    for line in feed.sentences():
        reporter.warn(line)
    if not feed.tally.documents:
        raise BadInput("there is no text to learn from")
    vocabulary = vocabulary_from_merges(merges, "the trained vocabulary")
    if vocabulary.n_vocab < config.n_vocab:
        reporter.warn(f"the text has only enough repeated pairs for {vocabulary.n_vocab:,} of {config.n_vocab:,} ids; "
                      "the vocabulary is that small")
    return MergeSummary(vocabulary, feed.tally.documents, feed.text_bytes)


def _native_merges(feed: TextFeed, n_vocab: int) -> list[tuple[bytes, bytes]]:
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
