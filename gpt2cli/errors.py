"""What can go wrong, as sentences for a person, each kind with its exit status.

A message says what is wrong, in which file at which record or byte, and what to do.
It carries no command name (the cli adds that), starts in lower case and ends without a full stop.
"""


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


class Interrupted(Exception):
    """A polled signal was obeyed and state was saved; the cli re-raises the signal itself."""


class StdoutGone(Exception):
    """The reader of standard output went away. Not an OSError, so nothing mistakes it for a failed disk."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun for such a sentence: "1 document", "2,000 documents"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
