"""What can go wrong, as sentences for a person, each kind with its exit status.

A message says what is wrong, in which file at which record or byte, and what to do.
It carries no command name (the cli adds that), starts in lower case and ends without a full stop.
"""

import errno


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


class Interrupted(Exception):
    """A polled signal was obeyed and state was saved; the cli re-raises the signal itself."""


class StdoutGone(Exception):
    """The reader of standard output went away. Not an OSError, so nothing mistakes it for a failed disk."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun for such a sentence: "1 document", "2,000 documents"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def os_sentence(error: OSError) -> str:
    """Return what the operating system refused as such a sentence, with what to do about it."""
    reason = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename is not None else ""
    hint = {errno.ENOSPC: "; free some space and run it again", errno.EFBIG: "; raise the file size limit (ulimit -f)",
            errno.EBADF: " (a standard stream is closed)"}
    return f"{where}{reason}{hint.get(error.errno or 0, '')}"
