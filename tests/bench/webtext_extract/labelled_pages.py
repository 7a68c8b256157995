"""Public sets of labelled pages, in the layout of their repositories, and the score that each of them defines.

article-extraction-benchmark (Zyte): ground-truth.json, html/KEY.html.gz. Score: F1 of the mean precision and the mean
recall over pages of shingles of 4 words, as its evaluate.py.
trafilatura (its directory tests): evaldata.json, eval/ and cache/. Score: F1 over segments that must and must not be in
the text, white space normalised, as its eval_common.py.
WCXB (one split's directory): ground-truth/KEY.json, html/KEY.html.gz. Score: mean over pages of F1 of lower-case words,
as its evaluate.py.
"""

from __future__ import annotations

import gzip
import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class LabelledPage:
    """A page and what its set knows of its text."""

    key: str
    html: bytes
    truth: Any


@dataclass(frozen=True)
class PageSet:
    """A set: its pages, and its score of texts in their order."""

    name: str
    protocol: str
    pages: list[LabelledPage]
    score: Callable[[Sequence[LabelledPage], Sequence[str]], float]


def read_set(directory: Path) -> PageSet:
    """Return the set in a directory, told by its files; raise SystemExit when it is none of the three."""
    if (directory / "ground-truth.json").is_file():
        return PageSet(directory.name, "4-word shingles", list(_zyte(directory)), _shingle_f1)
    if (directory / "evaldata.json").is_file():
        return PageSet("trafilatura", "segments", list(_trafilatura(directory)), _segment_f1)
    if (directory / "ground-truth").is_dir():
        return PageSet(f"WCXB {directory.name}", "words", list(_wcxb(directory)), _word_f1)
    raise SystemExit(f"{directory}: none of the layouts that labelled_pages.py names")


def _zyte(directory: Path) -> Iterator[LabelledPage]:
    for key, item in sorted(json.loads((directory / "ground-truth.json").read_bytes()).items()):
        yield LabelledPage(key, gzip.decompress((directory / f"html/{key}.html.gz").read_bytes()), item["articleBody"])


def _trafilatura(directory: Path) -> Iterator[LabelledPage]:
    for url, item in sorted(json.loads((directory / "evaldata.json").read_bytes()).items()):
        path = next((p for place in ("cache", "eval") if (p := directory / place / item["file"]).is_file()), None)
        if path is not None:
            yield LabelledPage(url, path.read_bytes(), item)


def _wcxb(directory: Path) -> Iterator[LabelledPage]:
    for path in sorted((directory / "html").glob("*.html.gz")):
        key = path.name.removesuffix(".html.gz")
        truth = json.loads((directory / f"ground-truth/{key}.json").read_bytes())["ground_truth"]["main_content"]
        yield LabelledPage(key, gzip.decompress(path.read_bytes()), truth or "")


def _overlap(found: Iterable[Hashable], true: Iterable[Hashable]) -> tuple[float, float] | None:
    """Return precision and recall of bags; None when both are empty."""
    ours, theirs = Counter(found), Counter(true)
    if not ours and not theirs:
        return None
    both = (ours & theirs).total()
    return (both / ours.total() if ours else 0.0), (both / theirs.total() if theirs else 0.0)


def _shingles(text: str) -> list[Hashable]:
    words = _WORD.findall(text)
    return [tuple(words[at:at + 4]) for at in range(max(1, len(words) - 3)) if words]


def _shingle_f1(pages: Sequence[LabelledPage], texts: Sequence[str]) -> float:
    pairs = [pair for page, text in zip(pages, texts, strict=True)
             if (pair := _overlap(_shingles(text), _shingles(page.truth))) is not None]
    precision = statistics.mean(one for (one, _), text in zip(pairs, texts, strict=True) if text)
    recall = statistics.mean(one for _, one in pairs)
    return 2 * precision * recall / (precision + recall)


def _word_f1(pages: Sequence[LabelledPage], texts: Sequence[str]) -> float:
    scores = []
    for page, text in zip(pages, texts, strict=True):
        pair = _overlap(_WORD.findall(text.lower()), _WORD.findall(page.truth.lower()))
        precision, recall = pair or (1.0, 1.0)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return statistics.mean(scores)


def _segment_f1(pages: Sequence[LabelledPage], texts: Sequence[str]) -> float:
    right = wrong = missed = 0
    for page, text in zip(pages, texts, strict=True):
        whole = " ".join(text.split())
        found = sum(" ".join(part.split()) in whole for part in page.truth["with"])
        right, missed = right + found, missed + len(page.truth["with"]) - found
        wrong += sum(" ".join(part.split()) in whole for part in page.truth["without"])
    return 2 * right / (2 * right + wrong + missed)
