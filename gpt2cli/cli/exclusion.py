"""--exclude-overlap and --max-overlap of the evaluations, and what their clean scores are said to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gpt2cli.cli.options import AnyPath, Real
from gpt2cli.errors import counted

if TYPE_CHECKING:
    from gpt2cli.evaluation.exclusion import ExclusionChoice

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def exclude_overlap_option(what: str) -> Decorator:
    """--exclude-overlap, of `what`: documents or items."""
    return click.option("--exclude-overlap", type=AnyPath(), metavar="FILE",
                        help=f"Score a second time without the {what} that this file of gpt2 overlap finds in training "
                             "text.")


def max_overlap_option() -> Decorator:
    """--max-overlap."""
    return click.option("--max-overlap", type=Real(0, 1), metavar="F",
                        help="Leave out what has a greater share of its n-grams in it; default 0: any.")


def exclusion_choice(ctx: click.Context, path: str | None, max_overlap: float | None) -> ExclusionChoice | None:
    """Return what the two options say; a usage error for the second without the first."""
    from gpt2cli.evaluation.exclusion import ExclusionChoice

    if path is None:
        if max_overlap is not None:
            raise click.UsageError("--max-overlap says nothing without --exclude-overlap FILE", ctx)
        return None
    return ExclusionChoice(path, max_overlap or 0.0)


def lines_of_exclusion(record: dict[str, Any]) -> list[str]:
    """Return what a clean record leaves out; nothing for a record of all."""
    excluded, by = record.get("exclusion"), record["protocol"].get("exclude_overlap")
    if by is None:
        return []
    beyond = "any" if not by["max_overlap"] else f"more than {by['max_overlap']:g}"
    rule = f"{beyond} of their {by['ngram']}-grams in the training text"
    if excluded is None:
        return [f"without documents that have {rule}:"]
    what = "items" if "n_items" in excluded else "documents"
    out, there = excluded[f"n_{what}_excluded"], excluded[f"n_{what}"]
    return [f"without {out:,} of {counted(there, what[:-1])}, those that have {rule}:"]


def lines_of_difference(record: dict[str, Any]) -> list[str]:
    """Return by how much a clean gpt2.eval record is off that of all; nothing for a record of all."""
    found = record.get("exclusion", {}).get("difference")
    if found is None or found["nll_nats_per_token"] is None:
        return []
    error = "" if found["stderr"] is None else f" (standard error {found['stderr']:.4f})"
    return [f"{found['nll_nats_per_token']:+.4f} nats a token against all{error}"]
