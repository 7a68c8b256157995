"""Signals: at once by default; inside `polled()` the first only asks, so that work can save its state.

A second signal stops at once, but not the one that a launcher passes on: at Ctrl-C a terminal tells torchrun and its
ranks, and torchrun its ranks once more. SIGUSR1 asks for one status line. SIGPIPE stays ignored (a dead worker's pipe
or a hostile web server must not kill us); a reader of stdout that goes away is handled in main.entry.

An exception that unwinds is not always let through: C code that imports (torch's does) may drop it and go on with a
module half made, and a finaliser's is printed and forgotten. So none is raised inside an import, and one that got lost
is raised again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


PASSED_ON_S = 2.0
"""Within this time of a first signal a second one is the first, passed on by the launcher of several ranks."""


AGAIN_S = 0.1
"""How soon after a signal it is looked whether it is being obeyed."""


class SignalReceived(BaseException):
    """A signal that nobody polls for: unwind, clean up, die of it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _State:
    polled = False
    received: int | None = None
    received_at = 0.0
    status_wanted = False


def install() -> None:
    """Take over the stopping signals, but leave alone those the parent chose to ignore (nohup)."""
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_stop)
    signal.signal(signal.SIGUSR1, _on_status)
    signal.signal(signal.SIGALRM, _on_alarm)


def launched_with_others() -> bool:
    """Return whether torchrun or its like started this process as one of several."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "LOCAL_RANK" in os.environ


@contextlib.contextmanager
def polled() -> Iterator[None]:
    """Within the block a stopping signal only sets received(); the block promises to look often."""
    _State.polled = True
    try:
        yield
    finally:
        _State.polled = False


def received() -> int | None:
    """Return the number of the stopping signal that came, if one did."""
    return _State.received


def take_status_request() -> bool:
    """Return whether SIGUSR1 came since the last call."""
    wanted, _State.status_wanted = _State.status_wanted, False
    return wanted


def die_of(number: int) -> None:
    """End this process by signal `number` with its default action, so that the shell sees 128 + number."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


def silence_stdout() -> None:
    """Point standard output at /dev/null, so that what is still buffered goes nowhere instead of failing."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _on_stop(number: int, frame: FrameType | None) -> None:
    if _State.received is not None:
        if launched_with_others() and time.monotonic() - _State.received_at < PASSED_ON_S:
            return
        die_of(number)
    _State.received, _State.received_at = number, time.monotonic()
    if not _State.polled:
        _raise(number, frame)


def _raise(number: int, frame: FrameType | None) -> None:
    """Raise SignalReceived, unless an import is under way or one unwinds already; look again a little later."""
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    if not _importing(frame) and not _unwinding():
        raise SignalReceived(number)


def _on_alarm(alarm: int, frame: FrameType | None) -> None:
    if _State.received is not None and not _State.polled:
        _raise(_State.received, frame)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _unwinding() -> bool:
    """Return whether what runs now is the cleaning up after a SignalReceived."""
    error = sys.exception()
    while error is not None and not isinstance(error, SignalReceived):
        error = error.__context__
    return error is not None


def settle() -> None:
    """Raise nothing any more: the process ends."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _on_status(number: int, frame: FrameType | None) -> None:
    _State.status_wanted = True
