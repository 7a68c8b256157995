"""Documents of known similarity for the tests of dedup: real prose, cut up, copied and edited."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from pydoc_data.topics import topics
from typing import Any


def real_words() -> list[str]:
    """Return the words of Python's documentation, lower-cased runs of letters and digits, 90,000 of them."""
    return re.findall(r"[a-z0-9]+", " ".join(topics.values()).lower())


def edited(words: Sequence[str], edits: int, draw: random.Random) -> list[str]:
    """Return words with some of them replaced by new ones."""
    changed = list(words)
    for place in draw.sample(range(len(words)), edits):
        changed[place] = f"new{draw.randrange(10**9)}"
    return changed


def jaccard(one: Sequence[str], other: Sequence[str], n: int = 5) -> float:
    """Return the similarity of two texts' sets of n-grams of words, by its definition."""
    sets = [{tuple(words[at : at + n]) for at in range(len(words) - n + 1)} for words in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def corpus(documents: int, seed: int = 1, size: int = 60) -> list[dict[str, Any]]:
    """Return gpt2.document/1 records in random order, a third of them copies or edited copies of others."""
    draw = random.Random(seed)
    words = real_words()
    texts: list[str] = []
    while len(texts) < documents:
        start = draw.randrange(len(words) - size)
        text = words[start : start + size]
        texts.append(" ".join(text))
        for _ in range(draw.choice([0, 0, 1, 3])):
            texts.append(" ".join(edited(text, draw.choice([0, 0, 1, 2, 5]), draw)))
    texts = texts[:documents]
    draw.shuffle(texts)
    return [{"schema": "gpt2.document/1", "id": f"{draw.getrandbits(64):016x}", "url": f"http://example.org/{number}",
             "text": text, "created_utc": draw.choice([None, draw.randrange(1_500_000_000, 1_500_000_100)])}
            for number, text in enumerate(texts)]


def lines(records: Sequence[dict[str, Any]]) -> bytes:
    """Return records as JSONL in this program's own form."""
    return b"".join(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
                    for record in records)


def parsed(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the records of JSONL but for the end record."""
    for line in data.splitlines():
        record = json.loads(line)
        if record.get("schema") != "gpt2.end/1":
            yield record
