"""Overlap counted the plain way: a set of tuples of words, found character by character."""

from __future__ import annotations

from collections.abc import Sequence


def words(text: str) -> list[str]:
    """Return the words of a text by their definition."""
    lower = text.lower().replace("ς", "σ")
    return "".join(character if character.isalnum() else " " for character in lower).split(" ")


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    """Return the n-grams of one document, each as often as it occurs."""
    found = [word for word in words(text) if word]
    rows = zip(*(found[place:] for place in range(n)), strict=False)
    return [row for row in rows if all(len(word) <= 1024 for word in row)]


def overlap(train: Sequence[str], test: Sequence[str], n: int) -> list[tuple[int, int]]:
    """Return n_grams and n_overlap of each test document."""
    seen = {gram for text in train for gram in grams(text, n)}
    return [(len(own), sum(gram in seen for gram in own)) for own in (grams(text, n) for text in test)]
