"""Outputs are whole or absent, whatever fails and whenever."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2cli.errors import UsageFault
from gpt2cli.records.atomic import atomic_directory, atomic_file, write_atomic


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_file_appears_only_at_the_end(tmp_path: Path) -> None:
    final = tmp_path / "out.bin"
    with atomic_file(final) as file:
        file.write(b"abc")
        assert not final.exists()
    assert final.read_bytes() == b"abc"
    assert names(tmp_path) == ["out.bin"]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "out.bin"
    final.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_file(final) as file:
        file.write(b"new")
        raise RuntimeError
    assert final.read_bytes() == b"old"
    assert names(tmp_path) == ["out.bin"]


def test_existing_file_needs_force(tmp_path: Path) -> None:
    final = tmp_path / "out.bin"
    final.write_bytes(b"old")
    with pytest.raises(UsageFault, match=r"out\.bin exists; give --force"), atomic_file(final, force=False):
        pass
    assert names(tmp_path) == ["out.bin"]
    write_atomic(final, b"new")
    assert final.read_bytes() == b"new"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_system_call_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(f"gpt2cli.records.atomic.os.{call}", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_atomic(tmp_path / "out.bin", b"abc")
    assert names(tmp_path) == []


def test_data_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(descriptor: int) -> None:
        events.append("fsync directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "fsync file")
        fsync(descriptor)

    def logged_replace(source: Path, target: Path) -> None:
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr("gpt2cli.records.atomic.os.fsync", logged_fsync)
    monkeypatch.setattr("gpt2cli.records.atomic.os.replace", logged_replace)
    write_atomic(tmp_path / "out.bin", b"abc")
    assert events == ["fsync file", "rename", "fsync directory"]


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    program = f"""
import resource, signal
from gpt2cli.records.atomic import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic({str(tmp_path / "out.bin")!r}, bytes(5000))
except OSError as error:
    print(error.errno)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(result.stdout) == errno.EFBIG
    assert names(tmp_path) == []


def test_killed_writer_is_swept_by_the_next(tmp_path: Path) -> None:
    program = f"""
import os, signal
from gpt2cli.records.atomic import atomic_file
with atomic_file({str(tmp_path / "out.bin")!r}) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", program], check=False)
    assert result.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1 and names(tmp_path)[0].startswith(".out.bin.tmp-")
    write_atomic(tmp_path / "out.bin", b"whole")
    assert names(tmp_path) == ["out.bin"]


def test_other_names_are_kept(tmp_path: Path) -> None:
    kept = [f".other.tmp-{dead_pid()}", ".out.bin.tmp-notapid", "out.bin.tmp-1", ".outxbin.tmp-1"]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / f".out.bin.tmp-{dead_pid()}").mkdir()
    write_atomic(tmp_path / "out.bin", b"")
    assert names(tmp_path) == sorted([*kept, "out.bin"])


def test_directory_appears_whole_and_replaces(tmp_path: Path) -> None:
    final = tmp_path / "step-1"
    final.mkdir()
    (final / "stale").write_bytes(b"")
    with atomic_directory(final) as work:
        (work / "inner").mkdir()
        (work / "inner" / "file").write_bytes(b"abc")
        assert names(final) == ["stale"]
    assert names(final) == ["inner"]
    assert (final / "inner" / "file").read_bytes() == b"abc"
    assert names(tmp_path) == ["step-1"]


def test_directory_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    final = tmp_path / "step-1"
    final.mkdir()
    (final / "old").write_bytes(b"")
    with pytest.raises(RuntimeError), atomic_directory(final) as work:
        (work / "new").write_bytes(b"")
        raise RuntimeError
    assert names(tmp_path) == ["step-1"]
    assert names(final) == ["old"]


def test_directory_rename_failure_leaves_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("gpt2cli.records.atomic.os.rename", fail)
    with pytest.raises(OSError, match="Input/output"), atomic_directory(tmp_path / "step-1") as work:
        (work / "file").write_bytes(b"")
    assert names(tmp_path) == []


def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """As root a rename over /dev/null would succeed, and break the machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_file(pipe, force=False) as file:
        file.write(b"data")
    assert os.read(reader, 100) == b"data"
    os.close(reader)
    assert pipe.is_fifo()
    assert names(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_is_named() -> None:
    with pytest.raises(OSError, match="No space left") as caught, atomic_file("/dev/full") as file:
        file.write(b"x" * 100)
    assert caught.value.filename == "/dev/full"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd here")
def test_the_name_of_a_pipe_is_written_to_though_it_leads_to_no_path() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader:
        with os.fdopen(writing, "wb"), atomic_file(f"/dev/fd/{writing}") as file:
            file.write(b"through")
        assert reader.read() == b"through"


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
