"""A lock ends with the process that took it, and no worker that outlives that process keeps it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpt2cli.records.locks import lock_file
from gpt2cli.records.temporaries import temporary_directory

HOLDER = """
import os, sys, time
from pathlib import Path
from gpt2cli.records.locks import lock_file
with lock_file(Path({path!r})) as holder:
    assert holder is None
    worker = os.fork()
    if worker == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    sys.stdin.read()
"""
OWNER = """
import sys
from pathlib import Path
from gpt2cli.records.temporaries import temporary_directory
with temporary_directory("gpt2-test", Path({path!r})) as directory:
    (directory / "half").write_text("x")
    print(directory, flush=True)
    sys.stdin.read()
"""


def test_the_holder_is_named_and_its_orphaned_worker_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER.format(path=str(path))], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        with lock_file(path) as holder:
            assert holder == str(process.pid)
        process.kill()
        process.wait()
        try:
            os.kill(worker, 0)
            with lock_file(path) as holder:
                assert holder is None
        finally:
            os.kill(worker, signal.SIGKILL)
    assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("content", [b"", b"\x1b[2Jno number", b"9" * 100, b"\xff\xfe"])
def test_what_names_no_process_is_not_repeated(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_file(path):
        path.write_bytes(content)
        with lock_file(path) as holder:
            assert holder == ("9" * 32 if content.startswith(b"9") else "unknown")


def test_a_lock_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gpt2cli.records.locks.os.pwrite", full)
    with pytest.raises(OSError, match=r"No space left on device: .*lock'"), lock_file(tmp_path / "lock"):
        raise AssertionError("must not begin")
    monkeypatch.undo()
    with lock_file(tmp_path / "lock") as holder:
        assert holder is None


def test_a_scratch_directory_of_a_killed_process_is_swept_that_of_a_living_one_stays(tmp_path: Path) -> None:
    strange = [tmp_path / name for name in ("gpt2-test-x-y", "gpt2-testing-1-y", "gpt2-test-1")]
    for path in strange:
        path.mkdir()
    with subprocess.Popen([sys.executable, "-c", OWNER.format(path=str(tmp_path))], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        with temporary_directory("gpt2-test", tmp_path) as ours:
            assert ours != theirs and (theirs / "half").exists()
        assert not ours.exists()
        process.kill()
        process.wait()
        assert theirs.exists()
        with temporary_directory("gpt2-test", tmp_path):
            assert not theirs.exists()
    assert sorted(tmp_path.iterdir()) == sorted(strange)


def test_a_scratch_directory_whose_number_a_living_process_has_by_now_is_swept(tmp_path: Path) -> None:
    (tmp_path / f"gpt2-test-{os.getppid()}-abc").mkdir()
    with temporary_directory("gpt2-test", tmp_path) as ours:
        assert list(tmp_path.iterdir()) == [ours]
