"""What a command finds around it that its libraries cannot do without, and would end the process over in words of
their own: room to load torch, and a current directory.
"""

from __future__ import annotations

import contextlib
import os

from gpt2cli.cli.out_of_memory import CANNOT_LOAD
from gpt2cli.errors import IOFailure, OutOfMemory

WITH_TORCH = frozenset({"train", "eval-ppl", "eval-tasks", "sample", "quantize", "export", "import", "detect",
                        "doctor"})
TORCH_BYTES = 700_000_000
"""Address space below which torch cannot be loaded: it ends the process or tries for ever."""
NO_DIRECTORY = "the current directory was removed; change to one that exists (cd)"


def check_surroundings(command: str) -> None:
    """Raise OutOfMemory or IOFailure where a command computes with torch and torch cannot be loaded here."""
    if command not in WITH_TORCH:
        return
    if directory_is_gone():
        raise IOFailure(NO_DIRECTORY)
    with contextlib.suppress(ImportError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY and limit < TORCH_BYTES:
            raise OutOfMemory(CANNOT_LOAD)


def directory_is_gone() -> bool:
    """Whether the current directory was removed, so that no relative name leads anywhere."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    except OSError:  # a directory above it may not be searched: it is there all the same
        return False
    return False
