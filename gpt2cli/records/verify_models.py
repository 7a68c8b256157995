"""Whether checkpoints, runs and other people's model directories are sound."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from gpt2cli.errors import Gpt2Error
from gpt2cli.records.artefact_kind import CHECKPOINT, MODEL, RUN_DIRECTORY, WEIGHTS
from gpt2cli.records.checkpoint import MANIFEST, checkpoints_of, list_files, read_json, read_manifest, verify_checkpoint
from gpt2cli.records.jsonl import ReadTally, parse_records
from gpt2cli.records.named_file import open_named
from gpt2cli.records.run_directory import METRICS, RUN, digest_of_log, read_run
from gpt2cli.records.safetensors_layout import check_safetensors
from gpt2cli.records.verify import Reading, Verdict

_TRIES = 5
"""A run that removes its newest checkpoint faster than a log is read does nothing else."""
Sha256 = Callable[[Path], str]


def verify_one_checkpoint(path: Path, reading: Reading, *, quick: bool = False) -> Verdict:
    """Check size and sha256 (`quick`: size only) of every file that the manifest lists."""
    reading.total = _size(path)
    return Verdict(CHECKPOINT, verify_checkpoint(path, sha256=None if quick else reading.sha256), _identity(path))


def verify_run(path: Path, reading: Reading, *, quick: bool = False) -> Verdict:
    """Check a run's record, its finished checkpoints, its metrics and, when it is done, its manifest."""
    found, finished = checkpoints_of(path), (path / MANIFEST).is_file()
    reading.total = sum(map(_size, found))
    sha256: Sha256 | None = None if quick else reading.sha256
    problems = []
    for checkpoint in found:
        problems += _unless_let_go(checkpoint, verify_checkpoint(checkpoint, sha256=sha256))
    if finished:
        problems += verify_checkpoint(path, sha256=sha256)
    else:
        problems += _check_log(path, quick)
    try:
        read_run(path)
    except FileNotFoundError:
        problems.append(f"{path / RUN} is missing")
    except Gpt2Error as error:
        problems.append(str(error))
    # A finished run's manifest lists files of its last checkpoint again.
    return Verdict(RUN_DIRECTORY, list(dict.fromkeys(problems)), {"checkpoints": len(found), "finished": finished})


def _unless_let_go(checkpoint: Path, problems: list[str]) -> list[str]:
    """Return the problems of a checkpoint, none where a run that is being trained removed it meanwhile."""
    return problems if (checkpoint / MANIFEST).is_file() else []


def _check_log(path: Path, quick: bool) -> list[str]:
    """Check the log of an unfinished run by its newest checkpoint; by the next one where that was removed meanwhile."""
    for _ in range(_TRIES):
        found = checkpoints_of(path)
        problems = _check_metrics(path / METRICS, found[0], quick) if found else []
        if not problems or (found[0] / MANIFEST).is_file():
            return problems
    return problems


def _check_metrics(path: Path, newest: Path, quick: bool) -> list[str]:
    """The log of an unfinished run is sound up to the length that its newest checkpoint tells; more may follow."""
    try:
        state = read_json(newest / "training" / "state.json")
        length, sha256 = state.get("metrics_bytes"), state.get("metrics_sha256")
        if type(length) is not int or length < 0:
            return []
        with open_named(path) as file:
            found = _complaint(lambda: digest_of_log(path, length, None if quick else sha256))
            return found + _complaint(lambda: [None for _ in parse_records(
                _First(file, length), str(path), ReadTally())])  # type: ignore[arg-type]
    except FileNotFoundError as error:
        return [f"{error.filename} is missing"]
    except Gpt2Error as error:
        return [str(error)]


def _complaint(read: Callable[[], object]) -> list[str]:
    """Return what is wrong with what read() reads."""
    try:
        read()
    except Gpt2Error as error:
        return [str(error)]
    return []


class _First:
    """The first `length` bytes of a file, by lines."""

    def __init__(self, file: Any, length: int) -> None:
        self._file = file
        self._left = length

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(min(limit, self._left))
        self._left -= len(line)
        return line


def verify_model(path: Path) -> Verdict:
    """Check the layout of a model directory without a manifest: nothing in it proves the numbers themselves."""
    problems, tensors = [], 0
    try:
        read_json(path / "config.json")
    except FileNotFoundError:
        problems.append(f"{path / 'config.json'} is missing")
    except Gpt2Error as error:
        problems.append(str(error))
    for file in sorted(path.glob("*.safetensors")):
        with open_named(file) as stream:
            verdict = verify_weights(stream, str(file), file.stat().st_size)
        problems += verdict.problems
        tensors += verdict.facts.get("tensors", 0)
    return Verdict(MODEL, problems, {"tensors": tensors, "digests": False})


def verify_weights(stream: BinaryIO, name: str, size: int | None) -> Verdict:
    """Check the layout of one safetensors file, which carries no digest. size: in bytes, None when unknown."""
    try:
        return Verdict(WEIGHTS, facts={"tensors": check_safetensors(stream, name, size), "digests": False})
    except Gpt2Error as error:
        return Verdict(WEIGHTS, [str(error)])


def _identity(path: Path) -> dict[str, Any]:
    try:
        manifest = read_manifest(path)
    except (Gpt2Error, OSError):
        return {}
    return {name: manifest[name] for name in ("run", "step", "tokens") if manifest.get(name) is not None}


def _size(directory: Path) -> int:
    try:
        return sum(os.path.getsize(directory / name) for name in list_files(directory))
    except FileNotFoundError:  # removed meanwhile by the run that is being trained
        return 0
