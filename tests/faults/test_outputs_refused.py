"""An output that can't be written, or is an input too, is refused before the work: what would be read is nonsense here,
and none of it is met.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.failing_calls import WHOLE, Faults, Stage, digests, some_of
from faults.stages import STAGES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD")
NONSENSE = b"\0nonsense\xff"
WITH_OUTPUT = {name: stage for name, stage in STAGES.items() if "-o" in stage.arguments}
PLACES = {
    "missing/out": (2, "does not exist; make it first"),
    "file/out": (2, "is no directory"),
    "locked/out": (74, "locked/out: Read-only file system"),
}


@pytest.fixture
def work(inputs: Path, tmp_path: Path) -> Iterator[Path]:
    """A directory where every input is nonsense, with a file and, where it can be had, a disk only to read."""
    place = tmp_path / "place" / "work"
    (place / "locked").mkdir(parents=True)
    (place / "tmp").mkdir()
    for path in inputs.iterdir():
        (place / path.name).write_bytes(NONSENSE)
    (place / "file").write_bytes(b"")
    disk = ["mount", "-t", "tmpfs", "-o", "ro", "none", place / "locked"]
    mounted = subprocess.run(disk, capture_output=True, check=False).returncode == 0
    try:
        yield place
    finally:
        if mounted:
            subprocess.run(["umount", "-l", place / "locked"], check=True)


def with_output(stage: Stage, output: str) -> Stage:
    words = list(stage.arguments)
    words[words.index("-o") + 1] = output
    return Stage(tuple(words), ())


@pytest.mark.parametrize("name", some_of(WITH_OUTPUT, 5, "refused"))
def test_where_no_output_can_be(name: str, faults: Faults, work: Path) -> None:
    suffix = Path(STAGES[name].outputs[0]).suffix
    for place, (status, words) in PLACES.items():
        if name == "train" and place.startswith("missing"):
            continue  # which makes the directories above its own
        if place.startswith("locked") and not Path.is_mount(work / "locked"):
            continue
        done = faults.run(with_output(STAGES[name], place + suffix), work)
        assert done["status"] == status and words.replace("out", f"out{suffix}") in done["stderr"], (place, done)
        assert done["calls"] == 0 and not (work / place).parent.joinpath(f"out{suffix}").exists()


@pytest.mark.parametrize("name", some_of(WITH_OUTPUT, 4, "a directory's name"))
def test_a_file_under_a_directorys_name(name: str, faults: Faults, work: Path) -> None:
    """A directory may be called so; a file is not made of it under another name."""
    stage = STAGES[name]
    suffix = Path(stage.outputs[0]).suffix
    if not suffix or "onnx" in stage.arguments or "hf" in stage.arguments:
        return
    done = faults.run(with_output(stage, f"made{suffix}/"), work)
    assert done["status"] == 2 and f"made{suffix}/ is the name of a directory; name a file" in done["stderr"], done
    assert not (work / f"made{suffix}").exists()


@pytest.mark.parametrize("name", some_of(WITH_OUTPUT, 4, "over inputs"))
def test_an_output_that_is_an_input(name: str, faults: Faults, inputs: Path, tmp_path: Path) -> None:
    work = tmp_path / "place" / "work"
    (work / "tmp").mkdir(parents=True)
    for path in inputs.iterdir():
        (work / path.name).symlink_to(path)
    given = [word for word in STAGES[name].arguments[1:] if (work / word).exists()]
    assert given
    for word in given if WHOLE else given[:1]:
        before = digests(work, [word])
        for output in (word, f"./{word}", str(work / word)):
            done = faults.run(with_output(STAGES[name], output), work)
            assert done["status"] == 2, (output, done)
            assert "is also what is read" in done["stderr"] or "choose another -o" in done["stderr"], (output, done)
            assert digests(work, [word]) == before


def test_what_comes_and_goes_by_standard_streams(faults: Faults, work: Path) -> None:
    tokenize = ("bpe-tokenize", "-f")
    (work / "text").write_bytes(b"some text\n")
    onto = faults.run(Stage((*tokenize, "-o", "text"), ()), work, stdin="text")
    assert onto["status"] == 2 and "text is also what is read: it is the same file as standard input" in onto["stderr"]
    (work / "link").symlink_to("text")
    into = faults.run(Stage((*tokenize, "text"), ()), work, stdout="link")
    assert into["status"] == 2 and "standard output is also what is read" in into["stderr"]


def test_a_directory_that_holds_an_input(faults: Faults, inputs: Path, tmp_path: Path) -> None:
    work = tmp_path / "place" / "work"
    (work / "tmp").mkdir(parents=True)
    (work / "set").mkdir()
    shard = work / "set" / "x.tok.zst"
    shard.write_bytes((inputs / "x.tok.zst").read_bytes())
    done = faults.run(Stage(("pack", "set/x.tok.zst", "--force", "-o", "set"), ()), work)
    assert done["status"] == 2 and "set/x.tok.zst is to be read, and lies in set, which would be" in done["stderr"]
    assert shard.exists()
