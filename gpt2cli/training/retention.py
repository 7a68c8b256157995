"""Which checkpoints of a run stay: the newest few of the regular ones, and always two that are sound."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from gpt2cli.records.checkpoint import MANIFEST, checkpoints_of, verify_checkpoint
from gpt2cli.records.run_directory import CHECKPOINTS
from gpt2cli.records.temporaries import sweep_all


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint's name says."""
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isascii() and number.isdigit() else -1


def let_go(run: Path, keep: int, regular: Callable[[int], bool]) -> None:
    """Remove all but the newest `keep` checkpoints whose step is regular, and as many of what came after these.

    Those that an interruption left give way to the next regular one, so that a run leaves the same whether it was
    interrupted or not. Nothing is removed that would leave less than two whose digests hold.
    """
    for place in (run, run / CHECKPOINTS):
        sweep_all(place)  # a checkpoint that a signal asked for, and a kill cut short, is not written again
    for half_removed in (path for path in (run / CHECKPOINTS).glob("step-*") if not (path / MANIFEST).is_file()):
        if half_removed.is_dir() and not half_removed.is_symlink():  # what else has such a name is not ours
            shutil.rmtree(half_removed)
    paths = checkpoints_of(run)
    planned = [path for path in paths if regular(step_of(path))]
    since = [path for path in paths if not planned or path.name > planned[0].name]
    stay = {*planned[:keep], *since[:keep]}
    go = [path for path in paths if path not in stay]
    if not go:
        return
    # the newest was read back for its manifest just now
    second = next((path for path in paths[1:] if path in stay and not verify_checkpoint(path)), None)
    if second is None:
        second = next((path for path in go if not verify_checkpoint(path)), None)
    for path in go:
        if path != second:
            remove(path)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint; cut short anywhere, what is left is none."""
    (checkpoint / MANIFEST).unlink()
    shutil.rmtree(checkpoint)
