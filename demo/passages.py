#!/usr/bin/env python3
"""Cut documents into passages: the beginning of each is a prompt, the rest is how a person went on.

    gpt2 shard cat --json --split val shards | python demo/passages.py --vocab vocab.tiktoken > passages.jsonl

Every record has `prompt` and `text`: `gpt2 sample --prompts` takes the one, `gpt2 detect train --human` the other, so
that a sample and a human text differ in nothing but who went on. Passages of a document do not overlap. They come in
the order of their prompts' lengths in tokens, so that `gpt2 sample` can compute many together.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator

from gpt2cli.records.jsonl import ReadTally, read_records
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.vocabulary import load_vocabulary


def main() -> None:
    """Read gpt2.document records from stdin, write passages to stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", required=True)
    parser.add_argument("--prompt-words", type=int, default=12)
    parser.add_argument("--words", type=int, default=30)
    options = parser.parse_args()
    encoder = Encoder(load_vocabulary(options.vocab))
    found = [passage for record in read_records("-", ReadTally(), kinds=("gpt2.document",))
             for passage in passages(record["text"], options.prompt_words, options.words)]
    for prompt, text in sorted(found, key=lambda passage: len(encoder.encode(passage[0]))):
        sys.stdout.write(json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False) + "\n")


def passages(text: str, prompt_words: int, more_words: int) -> Iterator[tuple[str, str]]:
    """Yield (prompt, how it goes on) from the beginning of a text to its end."""
    words = list(re.finditer(r"\S+", text))
    size = prompt_words + more_words
    for first in range(0, len(words) - size + 1, size):
        middle = words[first + prompt_words - 1].end()
        yield text[words[first].start() : middle], text[middle : words[first + size - 1].end()]


if __name__ == "__main__":
    main()
