"""A small table for stderr: one's own number and what a paper printed for its models."""

from __future__ import annotations

from collections.abc import Mapping


def two_decimals(value: float | None) -> str:
    """Return a measure as text; a perplexity of many digits, such as a poor model's of a word, in three of them."""
    if value is None:
        return "(none)"
    return f"{value:,.2f}" if abs(value) < 1e9 else f"{value:.3g}"


def published_table(name: str, own: float | None, metric: str, published: Mapping[str, float]) -> list[str]:
    """Return a heading and a row: the own number first, then the published one of each model.

    metric: the name of the record's field that `own` is.
    """
    cells = {metric: two_decimals(own), **{size: f"{value:.3f}".removesuffix("0") for size, value in published.items()}}
    widths = {title: max(len(title), len(cell)) for title, cell in cells.items()}
    heading = "  ".join(title.rjust(width) for title, width in widths.items())
    row = "  ".join(cells[title].rjust(width) for title, width in widths.items())
    label = max(len(name), len("published"))
    return [f"{'published'.ljust(label)}  {heading}", f"{name.ljust(label)}  {row}"]
