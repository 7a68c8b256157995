"""Which rules a filter applies, and with which thresholds: names from a command line, numbers from TOML."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gpt2cli.errors import UsageFault
from gpt2cli.records.toml_file import read_toml
from gpt2cli.webtext.c4_rules import C4_LINES, C4_TEXTS, compiled
from gpt2cli.webtext.gopher_rules import GOPHER_QUALITY, GOPHER_REPETITION
from gpt2cli.webtext.hosts import read_names
from gpt2cli.webtext.rule import Rule, Settings
from gpt2cli.webtext.webtext_rules import LANGUAGE, MIN_TOKENS, WIKIPEDIA

RULES = (WIKIPEDIA, *C4_LINES, MIN_TOKENS, LANGUAGE, *C4_TEXTS, *GOPHER_QUALITY, *GOPHER_REPETITION)
"""Every rule, in the order in which they are applied: lines go before the text is measured, cheap ones come first."""
BAD_WORDS = "c4-bad-words"


def _names(rules: Sequence[Rule]) -> tuple[str, ...]:
    return tuple(rule.name for rule in rules)


GROUPS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "webtext": _names((WIKIPEDIA, LANGUAGE, MIN_TOKENS)),
    "gopher": _names((*GOPHER_QUALITY, *GOPHER_REPETITION)),
    "gopher-quality": _names(GOPHER_QUALITY),
    "gopher-repetition": _names(GOPHER_REPETITION),
    "c4": _names((*C4_LINES, *C4_TEXTS)),
}
"""Names that stand for several rules. c4 has c4-bad-words only when there is a list of them."""


@dataclass(frozen=True)
class RuleSet:
    """The rules of one filter, in order, each with its settings."""

    rules: tuple[tuple[Rule, Settings], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rules, in order."""
        return tuple(rule.name for rule, _ in self.rules)


def rule_set(names: Sequence[str], *, thresholds: str | os.PathLike[str] | None = None, changes: Sequence[str] = (),
             bad_words: str | os.PathLike[str] | None = None) -> RuleSet:
    """Return the rules that `names` ask for: of RULES and GROUPS, in any order; `-NAME` takes out again.

    thresholds: a TOML file with tables as in data/rules.toml, of which only what differs need be there.
    changes: "RULE.KEY=VALUE", VALUE as in TOML; they win over the file. bad_words: a list, one a line.
    Raises UsageFault for a name, key or kind of value that there is not, and for c4-bad-words without a list.
    """
    settings = tomllib.loads(packaged_rules())
    if thresholds is not None:
        _merge(settings, read_toml(thresholds), str(thresholds))
    for change in changes:
        _merge(settings, _parse_change(change), f"--set {change}")
    chosen = _chosen(names, bad_words is not None)
    if BAD_WORDS in chosen:
        if bad_words is None:
            raise UsageFault("c4-bad-words needs a list of words; name one with --bad-words")
        words = read_names(bad_words, phrases=True)
        settings[BAD_WORDS] |= {"words": words, "longest": max((len(word.split()) for word in words), default=1)}
    return RuleSet(tuple((rule, settings[rule.name]) for rule in RULES if rule.name in chosen))


def _chosen(names: Sequence[str], has_bad_words: bool) -> set[str]:
    known = {**{rule.name: (rule.name,) for rule in RULES}, **GROUPS}
    chosen: set[str] = set()
    for name in names:
        bare = name.removeprefix("-")
        if bare not in known:
            raise UsageFault(f"there is no rule {bare!r}; the rules are {', '.join(known)}")
        meant = set(known[bare])
        if bare == "c4" and not has_bad_words:
            meant.discard(BAD_WORDS)
        chosen = chosen - meant if name.startswith("-") else chosen | meant
    return chosen


def packaged_rules() -> str:
    """Return data/rules.toml: every rule's thresholds, with their sources as comments."""
    return (resources.files("gpt2cli.webtext") / "data" / "rules.toml").read_text(encoding="utf-8")


def _parse_change(change: str) -> dict[str, Any]:
    name, equals, value = change.partition("=")
    rule, dot, key = name.strip().partition(".")
    try:
        if not (equals and dot):
            raise ValueError("write RULE.KEY=VALUE, such as min-tokens.minimum=64")
        return {rule: {key: tomllib.loads(f"value = {value}")["value"]}}
    except (ValueError, RecursionError) as error:
        raise UsageFault(f"--set {change}: {error}") from None


def _merge(settings: dict[str, dict[str, Any]], given: dict[str, Any], place: str) -> None:
    for rule, table in given.items():
        if rule not in settings:
            raise UsageFault(f"{place}: there is no rule {rule[:40]!r}")
        if not isinstance(table, dict):
            raise UsageFault(f"{place}: {rule} is to be a table, such as [{rule}]")
        for key, value in table.items():
            settings[rule][key] = _checked(settings[rule], key, value, f"{place}: {rule}.{key[:40]}")


def _checked(settings: dict[str, Any], key: str, value: Any, place: str) -> Any:
    limits = "minimum" in settings or "maximum" in settings
    if key not in settings and not (limits and key in ("minimum", "maximum") and "endings" not in settings):
        raise UsageFault(f"{place}: there is no such threshold; there is {', '.join(settings)}")
    usual = settings.get(key, 0)
    if isinstance(usual, list):
        good = isinstance(value, list) and bool(value) and all(isinstance(entry, str) and entry for entry in value)
        what = "a list of strings, none empty"
    elif isinstance(usual, str):
        good, what = _is_pattern(value), "a regular expression"
    else:
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
        what = "a number, 0 or more"
    if not good:
        raise UsageFault(f"{place} is to be {what}")
    return value


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(compiled(value))
    except (re.error, RecursionError, OverflowError):
        return False
