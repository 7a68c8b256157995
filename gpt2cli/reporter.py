"""The one thing subject packages may say something through: they never print and know no terminal."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Speaks to people, and passes on their wish to stop."""

    def note(self, text: str) -> None:
        """Say one line of ordinary news."""

    def warn(self, text: str) -> None:
        """Say one line that a careful person should read."""

    def progress(self, done: float, total: float | None, unit: str, **fields: str) -> None:
        """Report `done` of `total` (None: unknown) in `unit`; `fields` are short name=value extras."""

    def stopping(self) -> bool:
        """Whether a signal asks to stop. Poll it in inner loops, save state, raise errors.Interrupted."""


class Silent:
    """A Reporter that says nothing, never stops, and remembers its warnings. For library use and tests."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Keep the line in `notes`."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep the line in `warnings`."""
        self.warnings.append(text)

    def progress(self, done: float, total: float | None, unit: str, **fields: str) -> None:
        """Say nothing."""

    def stopping(self) -> bool:
        """Never stop."""
        return False
