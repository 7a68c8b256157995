"""From the bytes of tokens to text that may be shown: whole UTF-8 characters, cut exactly before a stop string."""

from __future__ import annotations


class TextStream:
    """Takes the bytes of a continuation token by token and gives back what is safe to show.

    Held back are a character that is not yet whole and an end that may turn out to begin a stop string. Bytes that
    can be no UTF-8 come out as they are. Stop strings are sought in the continuation, across token borders.
    """

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._stops = tuple(stop.encode() for stop in stops if stop)
        self._held = b""
        self.stopped = False

    def feed(self, piece: bytes, *, look: bool = True) -> bytes:
        """Take the bytes of one token; return what may be shown now. Sets `stopped` once a stop string is complete.

        look: whether a stop string may begin in this piece.
        """
        if self.stopped:
            return b""
        self._held += piece
        if not look:
            return self._all_but(open_character(self._held))
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], b""
            return shown
        return self._all_but(max(self._open_stop(), open_character(self._held)))

    def close(self) -> bytes:
        """Return what was held back: nothing more will come."""
        shown, self._held = self._held, b""
        return shown

    def _all_but(self, keep: int) -> bytes:
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def _open_stop(self) -> int:
        """Return the length of the longest end of the held bytes that begins a stop string."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:size]):
                    longest = size
                    break
        return longest


def open_character(data: bytes) -> int:
    """Return how many bytes at the end of `data` begin a UTF-8 character that is not yet whole (0 to 3)."""
    for size in range(1, min(3, len(data)) + 1):
        lead = data[-size]
        if lead & 0xC0 == 0x80:
            continue
        need = 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 4 if 0xF0 <= lead <= 0xF4 else 0
        return size if need > size and _may_begin(data[-size:]) else 0
    return 0


def _may_begin(start: bytes) -> bool:
    """Whether some UTF-8 character begins with `start` (a lead byte and continuation bytes)."""
    if len(start) == 1:
        return True
    low, high = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}.get(
        start[0], (0x80, 0xBF))
    return low <= start[1] <= high
