"""What a rule of the filter is: a measure of a document with limits, or a change of its lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpt2cli.webtext.text_view import TextView

Settings = Mapping[str, Any]
"""A rule's table in data/rules.toml."""


@dataclass
class Page:
    """A document before the rules: where it is from, what it says, and the language once a rule has looked."""

    url: str | None
    view: TextView
    language: str | None = None


Measure = Callable[[Page, Settings], float]
LineChange = Callable[[str, Settings], str | None]


@dataclass(frozen=True)
class Rule:
    """One rule. `source` says which paper defines it, and where.

    measure: a number that must be within the settings' `minimum` and `maximum`. change: instead, makes of a line what
    stays of it, None when it goes.
    """

    name: str
    source: str
    measure: Measure | None = None
    change: LineChange | None = None
