"""Outputs that can't be written, or that are inputs too, are refused before a command begins its work."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import click

from gpt2cli.cli.options import AnyPath, OutputPath
from gpt2cli.errors import UsageFault

_STDIN, _STDOUT = 0, 1


def check_outputs(ctx: click.Context) -> None:
    """Look at every output that the options of a command name.

    Raises UsageFault for one that exists and is not to be replaced, is of the wrong kind, or is an input too, and
    OSError for one whose directory refuses it.
    """
    force = bool(ctx.params.get("force", True))
    inputs = [path for _, path in _paths(ctx, output=False)]
    for option, path in _paths(ctx, output=True):
        kind = option.type
        assert isinstance(kind, OutputPath)
        if not kind.directory:
            check_file_name(path)
        if path != "-":
            _check_place(Path(path), kind, force)
        _refuse_input(option.opts[0], path, inputs, replaced=force and not kind.parents)
    _refuse_doubles([path for _, path in _paths(ctx, output=True)])


def check_file_name(path: str) -> None:
    """Raise UsageFault where a file is to be written under the name of a directory, with a slash at its end."""
    if path.endswith(os.sep):
        raise UsageFault(f"{path} is the name of a directory; name a file")


def _paths(ctx: click.Context, *, output: bool) -> Iterator[tuple[click.Parameter, str]]:
    """Yield the paths that were given as outputs, or as inputs."""
    for option in ctx.command.params:
        value = ctx.params.get(option.name or "")
        if isinstance(option.type, AnyPath) and isinstance(option.type, OutputPath) == output and value is not None:
            yield from ((option, str(path)) for path in (value if isinstance(value, (tuple, list)) else (value,)))


def _check_place(path: Path, kind: OutputPath, force: bool) -> None:
    final = Path(os.path.realpath(path)) if path.is_symlink() else path
    if final.is_dir() and not kind.directory:
        raise UsageFault(f"{path} is a directory; choose another -o")
    if final.exists() and not final.is_dir() and kind.directory and not kind.file:
        raise UsageFault(f"{path} exists and is no directory; choose another -o")
    if final.is_file() and not force:
        raise UsageFault(f"{path} exists; give --force to replace it, or another name")
    if final.exists() and not final.is_file() and not final.is_dir():
        return
    place = Path(os.path.abspath(final)).parent
    while kind.parents and not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise UsageFault(f"{place} is no directory, so {path} can't be in it; choose another -o" if place.exists() else
                         f"the directory of {path} does not exist; make it first")
    if not os.access(place, os.W_OK | os.X_OK):
        refusal = errno.EROFS if os.statvfs(place).f_flag & os.ST_RDONLY else errno.EACCES
        raise OSError(refusal, os.strerror(refusal), str(path))


def _refuse_input(option: str, output: str, inputs: list[str], *, replaced: bool) -> None:
    written = _stat(output, _STDOUT)
    if written is None or not (stat.S_ISREG(written.st_mode) or stat.S_ISDIR(written.st_mode)):
        return
    for path in [*inputs, "-"]:
        read = _stat(path, _STDIN)
        if read is None:
            continue
        if os.path.samestat(read, written):
            source, target = "standard input" if path == "-" else path, "standard output" if output == "-" else output
            raise UsageFault(f"{target} is also what is read: it is the same file as {source}; choose another {option}"
                             if source != target else f"{path} is also what is read; choose another {option}")
        if replaced and path != "-" and Path(os.path.realpath(output)) in Path(os.path.realpath(path)).parents:
            raise UsageFault(f"{path} is to be read, and lies in {output}, which would be replaced; choose another "
                             f"{option}")


def _refuse_doubles(outputs: list[str]) -> None:
    seen: set[str] = set()
    for path in outputs:
        if path == "-":
            continue
        real = os.path.realpath(path)
        if real in seen and not _is_device(real):
            raise UsageFault(f"{path} is given for two outputs; choose another name for one")
        seen.add(real)


def _is_device(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _stat(path: str, standard: int) -> os.stat_result | None:
    """Return what is known of a file, or, for `-`, of a standard stream that a file was given as."""
    try:
        return os.fstat(standard) if path == "-" else os.stat(path)
    except (OSError, ValueError):
        return None
