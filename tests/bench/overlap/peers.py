"""What a person would run instead of `gpt2 overlap`: peers.py set|janitor TRAIN TEST; prints n-grams found.

set: a Python set of the test side's n-gram tuples, and every train document's n-grams looked up in it, on one core.
janitor: lm-evaluation-harness's decontamination class, which cleans text of n-grams that it has registered; what it
counts is another thing, so only its speed is compared. It removes characters instead of splitting at them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

N = 8
WORD = re.compile(r"[^\W_]+")


def texts(path: str) -> Iterator[str]:
    """Yield the documents of a JSONL file."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def grams(text: str) -> list[tuple[str, ...]]:
    """Return a text's n-grams as tuples."""
    words = WORD.findall(text.lower())
    return list(zip(*(words[place:] for place in range(N)), strict=False))


def by_set(train: str, test: str) -> int:
    """Return how many n-grams of the test side are in the train side."""
    wanted = {gram for text in texts(test) for gram in grams(text)}
    found: set[tuple[str, ...]] = set()
    for text in texts(train):
        found.update(gram for gram in grams(text) if gram in wanted)
    return sum(gram in found for text in texts(test) for gram in grams(text))


def by_janitor(train: str, test: str) -> int:
    """Return how many pieces the train side is cut into."""
    from lm_eval.decontamination.janitor import Janitor

    janitor = Janitor(ngram_n=N)
    for text in texts(test):
        janitor.register_contaminant_python(text)
    return sum(len(janitor.clean_python(text)) for text in texts(train))


if __name__ == "__main__":
    print({"set": by_set, "janitor": by_janitor}[sys.argv[1]](*sys.argv[2:]))
