"""The entries of a mapping in a task file, taken one by one with their types checked; what is left over is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from gpt2cli.errors import BadInput


class Entries:
    """A mapping of plain values; `where` names it in messages. Every taker removes its entry."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self._values = dict(values)
        self._where = where

    @staticmethod
    def mappings(values: Any, where: str) -> Iterator[Entries]:
        """Yield the Entries of each mapping in a list; raise BadInput for anything else."""
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise BadInput(f"{where} is no list of mappings")
        for number, value in enumerate(values, 1):
            yield Entries(value, f"{where} entry {number}")

    def value(self, name: str, default: Any) -> Any:
        """Take a value of any type."""
        return self._values.pop(name, default)

    def text(self, name: str, default: str) -> str:
        """Take a text."""
        return self.optional_text(name, default) or ""

    def optional_text(self, name: str, default: str | None = None) -> str | None:
        """Take a text that may be missing."""
        value = self._values.pop(name, default)
        if value is not None and not isinstance(value, str):
            raise BadInput(f"{self._where}: {name} is {_kind(value)} where text is expected; quote it if it is text")
        return value

    def count(self, name: str, default: int) -> int:
        """Take a whole number from 0 on."""
        value = self._values.pop(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:
            raise BadInput(f"{self._where}: {name} is {str(value)[:40]!r}, not a whole number from 0 on")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Take true or false."""
        value = self._values.pop(name, default)
        if not isinstance(value, bool):
            raise BadInput(f"{self._where}: {name} is {_kind(value)} where true or false is expected")
        return value

    def choice(self, name: str, known: Sequence[str], default: str) -> str:
        """Take one of `known`."""
        value = self._values.pop(name, default)
        if value not in known:
            raise BadInput(f"{self._where}: {name} is {str(value)[:60]!r}; there are {', '.join(known)}")
        return str(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """Take a mapping; an empty one where there is none."""
        value = self._values.pop(name, None)
        if value is not None and not (isinstance(value, dict) and all(isinstance(key, str) for key in value)):
            raise BadInput(f"{self._where}: {name} is {_kind(value)} where a mapping of names is expected")
        return value or {}

    def rule(self, name: str, default: Any, *, lists: bool = False) -> Any:
        """Take a field name, a template or a constant: text or a whole number; with `lists` a list or mapping of texts.

        A doc_to_target may be a list of constants, too.
        """
        value = self._values.pop(name, default)
        fits = value is None or isinstance(value, (str, int)) or (name == "doc_to_target" and isinstance(value, list))
        if lists:
            inner = list(value.values()) if isinstance(value, dict) else value
            fits = value is None or isinstance(value, str) or (
                isinstance(inner, list) and bool(inner) and all(isinstance(part, str) for part in inner))
        if not fits:
            raise BadInput(f"{self._where}: {name} is {_kind(value)}; it is a template or a field's name"
                           + (", or a list of texts (quote numbers, yes and no)" if lists else ""))
        return value

    def pass_over(self, name: str) -> None:
        """Take an entry that changes no number."""
        self._values.pop(name, None)

    def rest(self, known: Sequence[str] | None) -> dict[str, Any]:
        """Take all that is left; None: whatever it is."""
        unknown = [] if known is None else [name for name in self._values if name not in known]
        if unknown:
            raise BadInput(f"{self._where}: {unknown[0]!r} is not supported")
        left, self._values = self._values, {}
        return left

    def finish(self) -> None:
        """Raise BadInput if anything is left."""
        self.rest(())


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping", str: "text"}
    return names.get(type(value), type(value).__name__)
