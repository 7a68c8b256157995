"""A disk that takes no more, a limit of file size, a standard output that is full or closed: one sentence and 74, what
was there before is whole, and with room again the same command makes the right bytes.

Every command on some of these, chosen by a seed; `make test-faults` takes all.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.failing_calls import SQLITE_WORDS, WHOLE, Faults, Stage, Trial, some_of
from faults.stages import STAGES, TO_STDOUT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD, /proc and /dev/full")
FILES = [name for name, stage in STAGES.items() if stage.arguments[-2] == "-o" and Path(stage.outputs[0]).suffix
         and name != "plot"]  # whose format the suffix tells
NO_ROOM, TOO_LARGE, CLOSED = (os.strerror(number) for number in (errno.ENOSPC, errno.EFBIG, errno.EBADF))
PAGE = 4096


def assert_one_sentence(done: dict, words: str) -> None:
    lines = done["stderr"].splitlines()
    assert done["status"] == 74, done
    assert [line for line in lines if words in line] == lines[-1:], done["stderr"]
    assert "Traceback" not in done["stderr"] and re.match(r"gpt2( [a-z-]+)?: ", lines[-1])


def tells(said: str, words: str) -> bool:
    return any(reason in said for reason in (words, *SQLITE_WORDS))


@pytest.mark.parametrize("name", some_of(TO_STDOUT, 6, "full"))
def test_a_full_standard_output(name: str, faults: Faults, work: Path) -> None:
    done = faults.run(Stage(TO_STDOUT[name], ()), work, stdout="/dev/full")
    assert_one_sentence(done, f"standard output: {NO_ROOM}")


@pytest.mark.parametrize("name", some_of(TO_STDOUT, 6, "closed"))
def test_a_closed_standard_output(name: str, faults: Faults, work: Path) -> None:
    done = faults.run(Stage(TO_STDOUT[name], ()), work, stdout=None)
    assert_one_sentence(done, f"standard output: {CLOSED} (a standard stream is closed)")


@pytest.mark.parametrize("name", some_of(STAGES, 1, "closed"))
def test_no_output_takes_the_place_of_a_closed_stream(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    trial = Trial(STAGES[name], faults, inputs, tmp_path)
    work = trial.begin()
    done = faults.run(STAGES[name], work, stdout=None, stdin=None)
    assert done["status"] in (0, 74), done["stderr"]
    assert trial.is_right(work) or (done["status"] == 74 and not list(trial.wrong_again(work)))


@pytest.mark.parametrize("name", some_of(FILES, 3, "device"))
def test_a_full_device_is_named(name: str, faults: Faults, work: Path) -> None:
    stage = STAGES[name]
    done = faults.run(Stage((*stage.arguments[:-1], "/dev/full"), ()), work)
    assert_one_sentence(done, f"/dev/full: {NO_ROOM}")


@pytest.mark.parametrize("name", some_of(STAGES, 2, "limit"))
def test_a_limit_of_file_size(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    stage = STAGES[name]
    trial = Trial(stage, faults, inputs, tmp_path)
    sizes = sorted(path.stat().st_size for path in trial.clean_files())
    for limit in sorted({0, 1, sizes[-1] // 2, sizes[-1] - 1} if WHOLE else {0, sizes[-1] // 2}):
        work = trial.begin()
        done = faults.run(stage, work, file_bytes=limit)
        assert done["status"] == 74 or (done["status"] == 0 and trial.is_right(work)), (limit, done)
        assert done["status"] == 0 or tells(done["stderr"], TOO_LARGE), done
        assert [*trial.wrong_now(work, False), *trial.wrong_again(work)] == [], limit


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("no disk can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("name", some_of(STAGES, 1, "disk"))
def test_a_full_disk(name: str, faults: Faults, inputs: Path, disk: Path) -> None:
    stage = STAGES[name]
    trial = Trial(stage, faults, inputs, disk)
    needed = sum(path.stat().st_size // PAGE + 1 for path in trial.clean_files())
    for pages in sorted({0, 1, needed // 2} if WHOLE else {needed // 2}):
        work = trial.begin()
        fill(disk, pages)
        done = faults.run(stage, work)
        (disk / "filler").unlink()
        assert done["status"] == 74 or (done["status"] == 0 and trial.is_right(work)), (pages, done)
        assert done["status"] == 0 or tells(done["stderr"], NO_ROOM), done
        assert [*trial.wrong_now(work, False), *trial.wrong_again(work)] == [], pages


def fill(disk: Path, pages: int) -> None:
    """Leave `pages` pages of room."""
    with open(disk / "filler", "wb", buffering=0) as file:
        room = os.statvfs(disk).f_bavail - pages
        for _ in range(room):
            file.write(bytes(PAGE))


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("name", some_of(TO_STDOUT, 1, "buffered"))
def test_buffers_of_python_make_no_difference(
    name: str, unbuffered: str, bash: Callable[..., subprocess.CompletedProcess[bytes]], work: Path
) -> None:
    """A process of its own, to its very end."""
    words = " ".join(f"'{word}'" for word in TO_STDOUT[name])
    for target, said in ((">/dev/full", NO_ROOM), (">&-", CLOSED)):
        done = bash(f"gpt2 {words} {target}", work, PYTHONUNBUFFERED=unbuffered)
        assert_one_sentence({"status": done.returncode, "stderr": done.stderr.decode()}, f"standard output: {said}")
