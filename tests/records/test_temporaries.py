"""One writer of a name at a time, told by a lock; what the dead left is swept, what they were replacing is put back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpt2cli.errors import Gpt2Error, UsageFault
from gpt2cli.records.atomic import atomic_directory, atomic_file, write_atomic

WRITER = """
import sys
from gpt2cli.records.atomic import atomic_directory, atomic_file
with atomic_{kind}({path!r}):
    print("writing", flush=True)
    sys.stdin.read()
"""
KINDS = {"file": atomic_file, "directory": atomic_directory}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@contextmanager
def writer(path: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing `path`."""
    with subprocess.Popen([sys.executable, "-c", WRITER.format(kind=kind, path=str(path))], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        yield process


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_writer_is_told_of_the_first_and_takes_over_from_a_dead_one(kind: str, tmp_path: Path) -> None:
    final = tmp_path / "out"
    with writer(final, kind) as process:
        refusal = f"out is being written by process {process.pid}; wait for it"
        with pytest.raises(Gpt2Error, match=refusal), KINDS[kind](final):
            raise AssertionError("must not begin")
        assert names(tmp_path) == [f".out.tmp-{process.pid}"]
        with atomic_file(tmp_path / "other"):
            pass
        process.kill()
        process.wait()
        with KINDS[kind](final):
            assert names(tmp_path) == [f".out.tmp-{os.getpid()}", "other"]
    assert names(tmp_path) == ["other", "out"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_another_process_has_by_now_keeps_nobody_out(kind: str, tmp_path: Path) -> None:
    (tmp_path / f".out.tmp-{os.getppid()}").mkdir()
    (tmp_path / f".out.tmp-{os.getpid()}").write_bytes(b"")
    with KINDS[kind](tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]


def test_two_outputs_of_one_name_in_one_process(tmp_path: Path) -> None:
    refusal = f"is being written by process {os.getpid()}"
    with atomic_file(tmp_path / "out") as file, pytest.raises(Gpt2Error, match=refusal), atomic_file(tmp_path / "out"):
        file.write(b"never")
        raise AssertionError("must not begin")
    assert names(tmp_path) == ["out"]


def test_without_force_a_file_made_meanwhile_stays(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with pytest.raises(UsageFault, match="out exists"), atomic_file(final, force=False) as file:
        file.write(b"ours")
        final.write_bytes(b"theirs")
    assert (final.read_bytes(), names(tmp_path)) == (b"theirs", ["out"])


def test_a_worker_that_outlives_its_parent_holds_no_lock(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from gpt2cli.records.atomic import atomic_file
with atomic_file(Path(sys.argv[1])):
    if os.fork() == 0:
        print("begun", flush=True)
        sys.stdin.read()
        os._exit(0)
"""
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "out")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        process.wait()
        os.rename(tmp_path / "out", tmp_path / ".out.tmp-1")  # as a writer leaves it that is killed before the rename
        write_atomic(tmp_path / "out", b"")
    assert names(tmp_path) == ["out"]


def test_what_a_killed_writer_was_about_to_replace_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".set.tmp-1").mkdir()
    (tmp_path / ".set.tmp-1-old").mkdir()
    (tmp_path / ".set.tmp-1-old" / "file").write_bytes(b"last good")
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "set"):
        raise RuntimeError
    assert (tmp_path / "set" / "file").read_bytes() == b"last good"
    assert names(tmp_path) == ["set"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_old_directory(failing: int, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").write_bytes(b"")
    calls, rename = [], os.rename

    def rename_or_not(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(errno.EIO, "Input/output error", str(source))
        rename(source, target)

    monkeypatch.setattr("gpt2cli.records.atomic.os.rename", rename_or_not)
    with pytest.raises(OSError, match="Input/output"), atomic_directory(tmp_path / "set") as place:
        (place / "new").write_bytes(b"")
    assert names(tmp_path) == ["set"]
    assert names(tmp_path / "set") == ["old"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("gpt2cli.records.temporaries.fcntl.flock", no_locks)
    living = tmp_path / f".out.tmp-{os.getppid()}"
    living.write_bytes(b"")
    with pytest.raises(Gpt2Error, match=f"process {os.getppid()}"):
        write_atomic(tmp_path / "out", b"")
    living.rename(tmp_path / ".out.tmp-99999999")
    write_atomic(tmp_path / "out", b"")
    assert names(tmp_path) == ["out"]


def test_a_signal_while_the_old_directory_goes_away_leaves_nothing_of_it(tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set" / "inner").mkdir(parents=True)
    calls, rmdir = [], os.rmdir

    def stopped_once(*arguments: object, **keywords: object) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        rmdir(*arguments, **keywords)

    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "set") as place:
        (place / "new").write_bytes(b"")
        monkeypatch.setattr(os, "rmdir", stopped_once)
    assert names(tmp_path) == ["set"]
    assert names(tmp_path / "set") == ["new"]
