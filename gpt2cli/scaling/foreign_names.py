"""Names of runs, tasks and metrics as a picture may show them: records are anybody's, and names in them of any kind."""

from __future__ import annotations

LONGEST = 100
"""Characters of a name that are shown."""


def short_name(name: str) -> str:
    """Return a name in one line of at most LONGEST characters, all of which can be printed."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[: LONGEST + 1])
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def figure_name(name: str) -> str:
    """Return short_name(name) for matplotlib, which else would typeset what stands between two dollar signs."""
    return short_name(name).replace("$", r"\$")
