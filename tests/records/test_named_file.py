"""A read that fails says of which file, however it was asked for."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2cli.errors import os_sentence
from gpt2cli.records.named_file import NamedFile, open_named, read_named

UNREADABLE = "/proc/self/mem"  # its first page is nobody's: EIO

WAYS: dict[str, Callable[[], object]] = {
    "read": lambda: NamedFile(UNREADABLE).read(10), "read all": lambda: NamedFile(UNREADABLE).read(),
    "readall": lambda: NamedFile(UNREADABLE).readall(), "pread": lambda: NamedFile(UNREADABLE).pread(10, 0),
    "readinto": lambda: NamedFile(UNREADABLE).readinto(bytearray(10)),
    "buffered": lambda: open_named(UNREADABLE).read(), "line": lambda: open_named(UNREADABLE).readline(),
    "lines": lambda: next(open_named(UNREADABLE)), "peek": lambda: open_named(UNREADABLE).peek(),
    "buffered readinto": lambda: open_named(UNREADABLE).readinto(bytearray(1 << 20)),
    "whole": lambda: read_named(UNREADABLE),
}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that is there and cannot be read")
@pytest.mark.parametrize("read", WAYS.values(), ids=WAYS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_read_that_fails_names_the_file(read: Callable[[], object]) -> None:
    with pytest.raises(OSError, match="Input/output error") as error:
        read()
    assert error.value.errno == errno.EIO and os_sentence(error.value) == f"{UNREADABLE}: Input/output error"


def test_it_reads_what_open_reads(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 1000)
    with open_named(path) as file, open(path, "rb") as plain, NamedFile(path) as raw:
        assert file.read(7) == plain.read(7) == raw.read(7)
        assert raw.pread(5, 1000) == path.read_bytes()[1000:1005] and raw.tell() == 7
        assert file.read() == plain.read() == raw.readall()
        assert file.read() == raw.read() == b""
    assert read_named(path) == path.read_bytes()
    with pytest.raises(FileNotFoundError, match="nothing"):
        open_named(tmp_path / "nothing")
