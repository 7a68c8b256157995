"""Checkpoint directories: a Hugging Face layout plus `training/`, proved by a manifest that is written last.

No tensors are read here (see model/weights.py); this module knows files, digests and which directory is meant.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.atomic import write_atomic
from gpt2cli.records.jsonl import parse_line
from gpt2cli.records.named_file import open_named
from gpt2cli.records.provenance import file_sha256, json_sha256
from gpt2cli.records.schemas import SCHEMAS, newer_format, parse_schema, schema_name

MANIFEST = "manifest.json"
MAX_JSON_BYTES = 16 << 20
_OWN_DIGEST = "manifest_sha256"
"""A manifest's last entry: the digest of all before it in canonical form. Older manifests end in files."""


@dataclass(frozen=True)
class ModelSource:
    """A directory with config.json and model.safetensors, and what is known of where it came from."""

    directory: Path
    run: str | None
    step: int | None
    tokens: int | None
    flops: int | None = None
    lr_phase: str | None = None


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`; raise BadInput for anything else, or for more than 16 MiB."""
    with open_named(path) as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise BadInput(f"{path} is larger than {MAX_JSON_BYTES} bytes, too large for what it should be")
    return parse_line(data, str(path))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object for machines and people, whole or not at all."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_manifest(directory: Path, kind: str, fields: dict[str, Any], names: list[str]) -> None:
    """Write manifest.json with size and sha256 of the named files: from then on the directory is done."""
    files = {
        name: {"bytes": (directory / name).stat().st_size, "sha256": file_sha256(directory / name)}
        for name in sorted(names)
    }
    manifest = {"schema": schema_name(kind), **fields, "files": files}
    write_json(directory / MANIFEST, {**manifest, _OWN_DIGEST: json_sha256(manifest)})


def list_files(directory: Path) -> list[str]:
    """Return the relative names of all files below `directory`, sorted, without its manifest."""
    found = [str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()]
    return sorted(name for name in found if name != MANIFEST)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return a checkpoint's or run's manifest; raise BadInput when it is malformed or newer than this program."""
    path = directory / MANIFEST
    manifest = read_json(path)
    parsed = parse_schema(manifest.get("schema"))
    if parsed is None or parsed[0] not in SCHEMAS:
        raise BadInput(f"{path} is no gpt2 manifest: its schema is {str(manifest.get('schema'))[:40]!r}")
    if parsed[1] > SCHEMAS[parsed[0]][0]:
        raise newer_format(str(path), *parsed)
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)
        for entry in files.values()
    ):
        raise BadInput(f"{path} does not list its files with bytes and sha256")
    for name in files:
        if os.path.isabs(name) or ".." in Path(name).parts:
            raise BadInput(f"{path} names a file outside its directory: {name!r}")
    own = manifest.pop(_OWN_DIGEST, None)
    if (own is None and next(reversed(manifest)) != "files") or own not in (None, json_sha256(manifest)):
        raise BadInput(f"{path} is damaged: what it says is not what its own digest is of")
    return manifest


def verify_checkpoint(directory: Path, *, only: Callable[[str], bool] = lambda name: True,
                      sha256: Callable[[Path], str] | None = file_sha256) -> list[str]:
    """Return what is wrong with a checkpoint or finished run, as sentences; empty when every digest holds.

    `only` chooses which listed files are looked at; `sha256` hashes one (None: sizes are enough).
    """
    if not (directory / MANIFEST).is_file():
        return [f"{directory} has no {MANIFEST}: it was never finished"]
    try:
        manifest = read_manifest(directory)
    except BadInput as error:
        return [str(error)]
    problems = []
    for name, entry in manifest["files"].items():
        path = directory / name
        if not only(name):
            continue
        if not path.is_file():
            problems.append(f"{path} is missing")
        elif path.stat().st_size != entry["bytes"]:
            problems.append(f"{path} has {path.stat().st_size} bytes, its manifest says {entry['bytes']}")
        elif sha256 is not None and sha256(path) != entry["sha256"]:
            problems.append(f"{path} is damaged: its sha256 is not the manifest's")
    return problems


def checkpoints_of(run: Path) -> list[Path]:
    """Return a run's finished checkpoint directories, newest step first."""
    found = [path for path in (run / "checkpoints").glob("step-*") if (path / MANIFEST).is_file()]
    return sorted(found, key=lambda path: path.name, reverse=True)


def newest_verified(run: Path, warn: Callable[[str], None], *, weights_only: bool,
                    among: Callable[[Path], bool] = lambda path: True) -> Path | None:
    """Return the newest checkpoint of `run` whose digests hold, warning of every damaged one passed over.

    Only those that `among` says yes to are looked at.
    """
    for path in filter(among, checkpoints_of(run)):
        problems = verify_checkpoint(path, only=lambda name: not (weights_only and name.startswith("training/")))
        if not problems:
            return path
        warn(f"{problems[0]}; falling back to the checkpoint before it")
    return None


def resolve_model(path: str | None, warn: Callable[[str], None], runs: Path = Path("runs")) -> ModelSource:
    """Return which model directory is meant by a run, a checkpoint, or a Hugging Face directory.

    None means the run under `runs/` whose newest checkpoint is the youngest. Raises UsageFault when there is no
    such thing, BadInput when what is there is damaged.
    """
    if path is None:
        candidates = [(checkpoints[0] / MANIFEST).stat().st_mtime_ns for checkpoints in _all_runs(runs)]
        if not candidates:
            raise UsageFault(f"no MODEL given, $GPT2_MODEL is not set and {runs}/ holds no run; train one or name one")
        newest = max(_all_runs(runs), key=lambda checkpoints: (checkpoints[0] / MANIFEST).stat().st_mtime_ns)
        return resolve_model(str(newest[0].parent.parent), warn)
    directory = Path(path)
    if not directory.is_dir():
        raise UsageFault(f"{directory} is no directory; a MODEL is a run, a checkpoint or a Hugging Face directory")
    if (directory / "checkpoints").is_dir():
        found = newest_verified(directory, warn, weights_only=True)
        if found is None:
            raise BadInput(f"{directory} has no usable checkpoint yet")
        return _source(found)
    if (directory / MANIFEST).is_file():
        problems = verify_checkpoint(directory, only=lambda name: not name.startswith("training/"))
        if problems:
            raise BadInput(problems[0])
        return _source(directory)
    if not (directory / "config.json").is_file():
        raise UsageFault(f"{directory} holds neither checkpoints/ nor config.json; it is no run and no model")
    return ModelSource(directory, None, None, None)


def _all_runs(runs: Path) -> list[list[Path]]:
    if not runs.is_dir():
        return []
    return [found for run in sorted(runs.iterdir()) if (found := checkpoints_of(run))]


def _source(directory: Path) -> ModelSource:
    manifest = read_manifest(directory)
    return ModelSource(directory, *(manifest.get(name) for name in ("run", "step", "tokens", "flops", "lr_phase")))
