"""What could not be read as Unicode: bytes that are no UTF-8 and lone surrogates become U+FFFD, and are counted."""

from __future__ import annotations

from dataclasses import dataclass

_REPLACEMENT = "\ufffd".encode()


@dataclass
class UnicodeLoss:
    """How many byte sequences and surrogates became U+FFFD, and where the first of each was."""

    invalid_bytes: int = 0
    first_invalid: str | None = None
    surrogates: int = 0
    first_surrogate: str | None = None

    def add_invalid(self, count: int, where: str) -> None:
        """Count byte sequences that are no UTF-8; the first lies at `where`."""
        if count:
            self.invalid_bytes += count
            self.first_invalid = self.first_invalid or where

    def add_surrogates(self, count: int, where: str) -> None:
        """Count lone surrogates; the first lies at `where`."""
        if count:
            self.surrogates += count
            self.first_surrogate = self.first_surrogate or where

    def add(self, later: UnicodeLoss) -> None:
        """Count what was met later."""
        self.add_invalid(later.invalid_bytes, later.first_invalid or "")
        self.add_surrogates(later.surrogates, later.first_surrogate or "")

    def sentences(self) -> list[str]:
        """Return a line for each kind that was met."""
        lines = []
        if self.invalid_bytes:
            lines.append(f"replaced {self.invalid_bytes:,} byte sequences that are not UTF-8 by U+FFFD "
                         f"(the first: {self.first_invalid})")
        if self.surrogates:
            lines.append(f"replaced {self.surrogates:,} lone surrogates, which are no text, by U+FFFD "
                         f"(the first: {self.first_surrogate})")
        return lines


def decode_utf8(data: bytes, loss: UnicodeLoss, where: str, offset: int) -> str:
    """Return `data` as text; `offset` is its first byte's place in `where`."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        text = data.decode("utf-8", "replace")
        loss.add_invalid(text.count("\ufffd") - data.count(_REPLACEMENT), f"{where}, byte {offset + error.start}")
        return text


def replace_surrogates(text: str) -> tuple[str, int]:
    """Return `text` with surrogate pairs joined and lone ones as U+FFFD, and how many were lone."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole, whole.count("\ufffd") - text.count("\ufffd")
