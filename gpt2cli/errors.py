"""What can go wrong, as sentences for a person, each kind with its exit status.

A message says what is wrong, in which file at which record or byte, and what to do.
It carries no command name (the cli adds that), starts in lower case and ends without a full stop.
"""

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping


class Gpt2Error(Exception):
    """A failure that a person can read. Exit status 1."""

    status = 1


class UsageFault(Gpt2Error):
    """The options do not fit together, or do not fit the input. Exit status 2."""

    status = 2


class BadInput(Gpt2Error):
    """Input is malformed, corrupt, hostile, or of a newer schema. Exit status 65."""

    status = 65


class IOFailure(Gpt2Error):
    """The operating system refused to read or write (full disk, permissions). Exit status 74."""

    status = 74


class StoppedEarly(Gpt2Error):
    """Work stopped before its end and its state is saved: run the same command again. Exit status 75."""

    status = 75


class OthersFailed(Gpt2Error):
    """Another rank of the same run failed and says why; this one ends with its status and says nothing."""

    def __init__(self, status: int) -> None:
        super().__init__("")
        self.status = status


class OutOfMemory(Gpt2Error):
    """An allocation failed. Exit status 1."""


class Interrupted(Exception):
    """A polled signal was obeyed and state was saved; the cli re-raises the signal itself."""


class StdoutGone(Exception):
    """The reader of standard output went away. Not an OSError, so nothing mistakes it for a failed disk."""


_NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "out of memory", "std::bad_alloc", "new thread",
              "could not create a primitive", "could not execute a primitive", "could not create a memory")
"""What torch, its oneDNN and Python's threads say, as a RuntimeError, where there is no memory."""
_NO_ROOM_TO_LOAD = ("failed to map segment", "cannot allocate memory in static TLS block", "Cannot allocate memory")
"""What the system's loader says, as an ImportError, where there is no memory for a library."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of whatever library, says that an allocation failed."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, ImportError):
        return any(words in str(error) for words in _NO_ROOM_TO_LOAD)
    return isinstance(error, (MemoryError, OutOfMemory)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY))


@contextlib.contextmanager
def allocations_told() -> Iterator[None]:
    """Turn the failed allocations of any library inside the block into OutOfMemory, which holds on to nothing."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        # what the frames below were at work on is the memory that is needed now
        size = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        said = f"{size[1]} were asked for" if size else str(error).partition("\n")[0]
        raise OutOfMemory(f"out of memory{said and f' ({said})'}") from error.with_traceback(None)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun for such a sentence: "1 document", "2,000 documents"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def counted_reasons(skipped: Mapping[str, int]) -> str:
    """Return how often something was skipped for each reason, which begins with a noun in the plural or its adjective:
    "2 blank lines, 1 empty file".
    """
    return ", ".join(f"{count:,} {reason if count != 1 else _PLURAL.sub('', reason, count=1)}"
                     for reason, count in sorted(skipped.items()))


_PLURAL = re.compile(r"(?<=\bfile)s\b|(?<=\bline)s\b|(?<=\brecord)s\b|(?<=\brow)s\b|(?<=\btext)s\b|(?<=\bdocument)s\b")


def os_sentence(error: OSError) -> str:
    """Return what the operating system refused as such a sentence, with what to do about it."""
    # not str(error): where there is no number it is of what error.filename was set to since
    reason = error.strerror or " ".join(map(str, error.args)) or type(error).__name__
    where = f"{error.filename}: " if error.filename is not None else ""
    hint = {errno.ENOSPC: "; free some space and run it again", errno.EFBIG: "; raise the file size limit (ulimit -f)",
            errno.EBADF: " (a standard stream is closed)"}
    return f"{where}{reason}{hint.get(error.errno or 0, '')}"
