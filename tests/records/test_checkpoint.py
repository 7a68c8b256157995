"""Checkpoint directories as files: manifests, what verifies, and which directory a MODEL is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.checkpoint import (
    MANIFEST,
    MAX_JSON_BYTES,
    checkpoints_of,
    list_files,
    newest_verified,
    read_json,
    read_manifest,
    resolve_model,
    verify_checkpoint,
    write_json,
    write_manifest,
)


def quiet(text: str) -> None:
    raise AssertionError(f"nothing should be said: {text}")


def make_checkpoint(directory: Path, step: int = 1) -> Path:
    (directory / "training").mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights of step %d" % step)
    (directory / "training" / "state.json").write_text("{}")
    fields = {"run": "r", "step": step, "tokens": 10 * step, "flops": 100 * step}
    write_manifest(directory, "gpt2.checkpoint", fields, list_files(directory))
    return directory


def make_run(run: Path, steps: tuple[int, ...] = (10, 200)) -> Path:
    for step in steps:
        make_checkpoint(run / "checkpoints" / f"step-{step:08d}", step)
    return run


def test_a_manifest_lists_every_file_with_size_and_digest(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "c")
    manifest = read_manifest(directory)
    assert sorted(manifest["files"]) == ["config.json", "model.safetensors", "training/state.json"]
    assert manifest["files"]["config.json"]["bytes"] == 2
    assert manifest["schema"] == "gpt2.checkpoint/1"
    assert verify_checkpoint(directory) == []


def test_a_flipped_bit_in_any_byte_of_any_file_is_found(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "c")
    for name in (*list_files(directory), MANIFEST):
        sound = (directory / name).read_bytes()
        for position in range(0, 8 * len(sound), 7):  # each bit of a byte in its turn
            damaged = bytearray(sound)
            damaged[position // 8] ^= 1 << position % 8
            (directory / name).write_bytes(damaged)
            assert verify_checkpoint(directory), f"{name}: bit {position} may flip"
        (directory / name).write_bytes(sound)
    assert verify_checkpoint(directory) == []


def test_a_manifest_of_before_it_had_a_digest_of_its_own_is_read(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "c")
    manifest = json.loads((directory / MANIFEST).read_text())
    assert list(manifest)[-1] == "manifest_sha256"
    del manifest["manifest_sha256"]
    write_json(directory / MANIFEST, manifest)
    assert verify_checkpoint(directory) == []
    (directory / MANIFEST).write_text(json.dumps({**manifest, "run": "\ud800", "manifest_sha256": "0" * 64}))
    assert "its own digest" in verify_checkpoint(directory)[0]


@pytest.mark.parametrize(("damage", "words"), [
    (lambda d: (d / "config.json").write_text("[]"), "config.json is damaged"),
    (lambda d: (d / "config.json").write_text("{ }"), "has 3 bytes, its manifest says 2"),
    (lambda d: (d / "config.json").unlink(), "config.json is missing"),
    (lambda d: (d / MANIFEST).unlink(), "never finished"),
    (lambda d: (d / MANIFEST).write_text("{}"), "no gpt2 manifest"),
    (lambda d: (d / MANIFEST).write_text('{"schema":"gpt2.checkpoint/2"}'), "newer gpt2"),
    (lambda d: (d / MANIFEST).write_text('{"schema":"gpt2.checkpoint/1"}'), "does not list its files"),
    (lambda d: (d / MANIFEST).write_text('{"schema":"gpt2.checkpoint/1","files":{"a":{"bytes":1}}}'), "does not list"),
])
def test_every_damage_is_one_sentence(tmp_path: Path, damage, words: str) -> None:
    directory = make_checkpoint(tmp_path / "c")
    damage(directory)
    problems = verify_checkpoint(directory)
    assert len(problems) == 1
    assert words in problems[0]


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "training/../../x"])
def test_a_manifest_may_not_name_files_outside(tmp_path: Path, name: str) -> None:
    entry = {"bytes": 1, "sha256": "0" * 64}
    write_json(tmp_path / MANIFEST, {"schema": "gpt2.checkpoint/1", "files": {name: entry}})
    with pytest.raises(BadInput, match="outside its directory"):
        read_manifest(tmp_path)


def test_read_json_is_bounded_and_demands_an_object(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b" " * (MAX_JSON_BYTES + 1))
    with pytest.raises(BadInput, match="larger than"):
        read_json(path)
    path.write_text("3")
    with pytest.raises(BadInput, match="object was expected"):
        read_json(path)


def test_a_run_means_its_newest_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    source = resolve_model(str(run), quiet)
    assert source.directory.name == "step-00000200"
    assert (source.run, source.step, source.tokens, source.flops) == ("r", 200, 2000, 20_000)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    run, said = make_run(tmp_path / "run"), []
    (run / "checkpoints" / "step-00000200" / "model.safetensors").write_bytes(b"weights of step 2_0")
    assert resolve_model(str(run), said.append).step == 10
    assert len(said) == 1
    assert "step-00000200" in said[0] and "falling back" in said[0]


def test_damaged_training_state_matters_to_training_alone(tmp_path: Path) -> None:
    run, said = make_run(tmp_path / "run"), []
    (run / "checkpoints" / "step-00000200" / "training" / "state.json").write_text("[]")
    assert resolve_model(str(run), quiet).step == 200
    found = newest_verified(run, said.append, weights_only=False)
    assert found is not None
    assert found.name == "step-00000010"


def test_an_unfinished_checkpoint_does_not_count(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "checkpoints" / "step-00000300").mkdir()
    assert [path.name for path in checkpoints_of(run)] == ["step-00000200", "step-00000010"]


def test_a_run_without_a_sound_checkpoint_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(BadInput, match="no usable checkpoint"):
        resolve_model(str(tmp_path / "run"), quiet)


def test_a_checkpoint_directory_is_itself_and_must_verify(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "c", 7)
    assert resolve_model(str(directory), quiet).step == 7
    (directory / "model.safetensors").write_bytes(b"other")
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        resolve_model(str(directory), quiet)


def test_a_hugging_face_directory_has_no_history(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    source = resolve_model(str(tmp_path), quiet)
    assert (source.directory, source.run, source.step) == (tmp_path, None, None)


def test_what_is_no_model_is_a_usage_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in ("file", "missing"):
        with pytest.raises(UsageFault, match="no directory"):
            resolve_model(str(tmp_path / path), quiet)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageFault, match="no run and no model"):
        resolve_model(str(tmp_path / "empty"), quiet)


def test_without_a_model_the_youngest_run_is_taken(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for age, name in enumerate(("b", "c", "a")):
        manifest = make_run(runs / name, (10,)) / "checkpoints" / "step-00000010" / MANIFEST
        os.utime(manifest, (1000 - age, 1000 - age))
    (runs / "d" / "checkpoints").mkdir(parents=True)
    assert resolve_model(None, quiet, runs).directory.parent.parent.name == "b"


def test_without_any_run_the_fault_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="train one or name one"):
        resolve_model(None, quiet, tmp_path / "runs")


def test_json_files_are_written_for_people_too(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": "é", "a": [1]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"b": "é", "a": [1]}
    assert "é" in text and text.endswith("}\n") and text.startswith('{\n  "b"')
