from __future__ import annotations

import errno
import os

import pytest

from gpt2cli.errors import os_sentence


@pytest.mark.parametrize(("error", "sentence"), [
    (OSError(errno.EIO, os.strerror(errno.EIO)), "a/b: Input/output error"),
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
     "a/b: No space left on device; free some space and run it again"),
    (OSError("3 items written"), "a/b: 3 items written"), (TimeoutError(), "a/b: TimeoutError"),
])
def test_what_the_system_refused_is_a_sentence_whoever_named_the_file(error: OSError, sentence: str) -> None:
    error.filename, error.filename2 = "a/b", None
    assert os_sentence(error) == sentence


def test_without_a_file_the_reason_alone_is_told() -> None:
    assert os_sentence(OSError("3 items written")) == "3 items written"
