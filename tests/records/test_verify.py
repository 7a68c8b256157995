"""gpt2 verify: sound things pass, each kind of damage is named, and one bad file doesn't hide the next."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from gpt2cli.records.jsonl import encode_record


def records(stdout: bytes) -> list[dict]:
    *found, end = [json.loads(line) for line in stdout.splitlines()]
    assert end["schema"] == "gpt2.end/1" and end["count"] == len(found)
    return found


def test_what_the_commands_make_is_sound(gpt2, shard: Path, shard_directory: Path, vocabulary_file: Path,
                                         documents: Path) -> None:
    paths = [shard, shard_directory, shard_directory / "index.json", vocabulary_file, documents]
    found = records(gpt2("verify", *paths, check=True).stdout)
    assert [record["path"] for record in found] == [str(path) for path in paths]
    assert [record["kind"] for record in found] == ["shard", "shard set", "shard set", "vocabulary", "records"]
    assert all(record["ok"] and record["problems"] == [] for record in found)
    assert found[0]["facts"]["tokens"] == found[1]["facts"]["train_tokens"] + found[1]["facts"]["val_tokens"]
    assert found[3]["facts"]["n_vocab"] == 512


def test_standard_input_and_output_file(gpt2, shard: Path, documents: Path, tmp_path: Path) -> None:
    two = records(gpt2("verify", input=shard.read_bytes() * 2, check=True).stdout)[0]
    one = records(gpt2("verify", "-", input=shard.read_bytes(), check=True).stdout)[0]
    assert two["facts"]["tokens"] == 2 * one["facts"]["tokens"]
    assert records(gpt2("verify", input=documents.read_bytes(), check=True).stdout)[0]["kind"] == "records"
    assert gpt2("verify", input=b"neither").returncode == 65
    gpt2("verify", shard, "-o", tmp_path / "v.jsonl", check=True)
    (line,) = (tmp_path / "v.jsonl").read_text().splitlines()
    assert json.loads(line)["ok"] is True


def test_damage_is_told_and_the_rest_still_checked(gpt2, shard: Path, shard_directory: Path, tmp_path: Path) -> None:
    shutil.copytree(shard_directory, tmp_path / "set")
    name = "train-00000.tok.zst"
    data = bytearray((tmp_path / "set" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "set" / name).write_bytes(data)
    (tmp_path / "cut.tok.zst").write_bytes(shard.read_bytes()[:-1])
    result = gpt2("verify", "set", "cut.tok.zst", shard, cwd=tmp_path)
    assert result.returncode == 65
    bad, cut, good = records(result.stdout)
    assert f"set/{name}: frame 0 at byte" in bad["problems"][0]
    assert "cut short" in cut["problems"][0]
    assert (bad["ok"], cut["ok"], good["ok"]) == (False, False, True)
    assert b"2 of 3 did not pass: set, cut.tok.zst" in result.stderr


@pytest.mark.parametrize(("lines", "words"), [
    (encode_record("gpt2.document", {"id": "0" * 64, "text": "a"}) * 3, "the id of record 1 is not the sha256"),
    (b'{"text":"a"}\nnonsense\n', "line 2: not JSON"),
    (b'{"schema":"gpt2.step/9"}\n', "newer gpt2"),
    (encode_record("gpt2.end", {"count": 5, "sha256": "0" * 64}), "does not match"),
])
def test_damaged_records(gpt2, tmp_path: Path, lines: bytes, words: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(lines)
    result = gpt2("verify", tmp_path / "x.jsonl")
    assert result.returncode == 65
    assert words in records(result.stdout)[0]["problems"][0]


def test_sound_records_of_others(gpt2, tmp_path: Path) -> None:
    good = encode_record("gpt2.document", {"id": hashlib.sha256(b"a").hexdigest(), "text": "a"})
    (tmp_path / "x.jsonl").write_bytes(good + b'{"loss": 3}\n')
    assert records(gpt2("verify", tmp_path / "x.jsonl", check=True).stdout)[0]["facts"] == {"records": 2}


def test_other_files_and_missing_ones(gpt2, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    for name in ("photo.jpg", "empty", "directory"):
        assert gpt2("verify", tmp_path / name).returncode == 65
    assert gpt2("verify", tmp_path / "gone").returncode == 2


@pytest.mark.slow
def test_runs_and_checkpoints(gpt2, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (checkpoint,) = list((tmp_path / "run" / "checkpoints").iterdir())[-1:]
    run, one = records(gpt2("verify", tmp_path / "run", checkpoint, check=True).stdout)
    assert (run["kind"], one["kind"], run["facts"]["finished"]) == ("run", "checkpoint", True)
    weights = bytearray((checkpoint / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (checkpoint / "model.safetensors").write_bytes(weights)
    result = gpt2("verify", tmp_path / "run", checkpoint)
    assert result.returncode == 65
    assert all("model.safetensors is damaged" in record["problems"][0] for record in records(result.stdout))
