"""gpt2 verify: sound things pass, each kind of damage is named, and one bad file doesn't hide the next."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy
import zstandard
from in_process import gpt2_here  # noqa: F401 (a fixture)
from numpy import arange, float32

from gpt2cli.records import verify_models
from gpt2cli.records.jsonl import encode_record
from gpt2cli.records.verify import Reading
from gpt2cli.reporter import Silent


def records(stdout: bytes) -> list[dict]:
    *found, end = [json.loads(line) for line in stdout.splitlines()]
    assert end["schema"] == "gpt2.end/1" and end["count"] == len(found)
    return found


def test_what_the_commands_make_is_sound(gpt2, shard: Path, shard_directory: Path, vocabulary_file: Path,
                                         documents: Path) -> None:
    paths = [shard, shard_directory, shard_directory / "index.json", vocabulary_file, documents]
    for options in ((), ("--quick",)):
        result = gpt2("verify", *paths, *options, check=True)
        found = records(result.stdout)
        assert [record["path"] for record in found] == [str(path) for path in paths]
        assert [record["kind"] for record in found] == ["shard", "shard set", "shard set", "vocabulary", "records"]
        assert all(record["ok"] and record["problems"] == [] for record in found)
        assert found[0]["facts"]["tokens"] == found[1]["facts"]["train_tokens"] + found[1]["facts"]["val_tokens"]
        assert found[3]["facts"]["n_vocab"] == 512
        assert result.stderr.splitlines()[-1] == b"gpt2 verify: all 5 are sound"


def test_standard_input_and_output_file(gpt2, shard: Path, documents: Path, vocabulary_file: Path,
                                        tmp_path: Path) -> None:
    two = records(gpt2("verify", input=shard.read_bytes() * 2, check=True).stdout)[0]
    one = records(gpt2("verify", "-", input=shard.read_bytes(), check=True).stdout)[0]
    assert two["facts"]["tokens"] == 2 * one["facts"]["tokens"]
    assert records(gpt2("verify", input=documents.read_bytes(), check=True).stdout)[0]["kind"] == "records"
    piped = records(gpt2("verify", "--quick", input=vocabulary_file.read_bytes(), check=True).stdout)[0]
    assert (piped["kind"], piped["facts"]["n_vocab"]) == ("vocabulary", 512)
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
    (tmp_path / "set" / "val-00000.tok.zst").write_bytes(b"")
    (tmp_path / "cut.tok.zst").write_bytes(shard.read_bytes()[:-1])
    result = gpt2("verify", "set", "gone", "cut.tok.zst", shard, cwd=tmp_path)
    assert result.returncode == 65
    bad, gone, cut, good = records(result.stdout)
    assert f"set/{name}: frame 0 at byte" in bad["problems"][0]
    assert "set/val-00000.tok.zst has 0 bytes" in bad["problems"][1]
    assert (gone["kind"], gone["problems"]) == ("missing", ["there is no gone"])
    assert "cut short" in cut["problems"][0]
    assert [record["ok"] for record in (bad, gone, cut, good)] == [False, False, False, True]
    assert result.stderr.splitlines()[-1] == b"gpt2 verify: 3 of 4 did not pass: set, gone, cut.tok.zst"


def test_quick_sees_structure_and_not_contents(gpt2, shard: Path, shard_directory: Path, tmp_path: Path) -> None:
    shutil.copytree(shard_directory, tmp_path / "set")
    path = tmp_path / "set" / "train-00000.tok.zst"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    assert gpt2("verify", path.parent).returncode == 65
    assert gpt2("verify", "--quick", path.parent).returncode == 0
    targets = []
    for number, damage in enumerate((whole[:-1], whole[:40] + b"X" + whole[41:], whole[:-20] + b"X" + whole[-19:])):
        broken = shutil.copytree(shard_directory, tmp_path / f"{number}") / path.name
        broken.write_bytes(damage)
        targets += [broken, broken.parent]
    found = records(gpt2("verify", "--quick", *targets).stdout)
    assert len(found) == 6
    for record in found:
        assert not record["ok"] and path.name in record["problems"][0]


@pytest.mark.parametrize(("lines", "words"), [
    (encode_record("gpt2.document", {"id": "0" * 64, "text": "a"}) * 3, "the id of record 1 is not the sha256"),
    (b'{"text":"a"}\nnonsense\n', "line 2: not JSON"),
    (b'{"schema":"gpt2.step/9"}\n', "newer gpt2"),
    (encode_record("gpt2.end", {"count": 5, "sha256": "0" * 64}), "does not match"),
    (zstandard.compress(b'{"text":"a"}\n')[:-2], "cut short"),
])
def test_damaged_records(gpt2, tmp_path: Path, lines: bytes, words: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(lines)
    result = gpt2("verify", tmp_path / "x.jsonl")
    assert result.returncode == 65
    assert words in records(result.stdout)[0]["problems"][0]


def test_sound_records_of_others(gpt2, tmp_path: Path) -> None:
    good = encode_record("gpt2.document", {"id": hashlib.sha256(b"a").hexdigest(), "text": "a"})
    (tmp_path / "x.jsonl").write_bytes(good + b'{"loss": 3}\n\n{"schema": "other/1"}\n')
    found = records(gpt2("verify", tmp_path / "x.jsonl", check=True).stdout)[0]["facts"]
    assert found == {"records": 2, "skipped": {"blank line": 1, "unknown schema 'other/1'": 1}}


FOREIGN = {
    "photo.png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is no artefact of gpt2's: it is a PNG image"),
    "docs.jsonl.gz": (b"\x1f\x8b\x08" + bytes(30), "compressed by gzip, which is not read; pipe it through `zcat`"),
    "model.pt": (b"\x80\x02}q\x00.", "a Python pickle"),
    "notes": (b"Call me Ishmael.\nSome years ago\n", "plain text"),
    "noise": (bytes(range(256)), "binary data"),
    "config.json": (b'{\n  "n_embd": 8\n}\n', "one JSON object over several lines"),
    "empty": (b"", "is empty"),
    "broken.tiktoken": (b"IQ== 0\nIg== one\n", "line 2 is no"),
    "encoder.json": (b'{"a": 0, "<|endoftext|>": 1}', "lacks the byte"),
    "vocab.json": (b'{"a": 0, "b": true}', "no table of byte-level tokens"),
}


def test_other_peoples_files_are_named(gpt2, tmp_path: Path) -> None:
    for name, (data, _) in FOREIGN.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "directory").mkdir()
    result = gpt2("verify", *FOREIGN, "directory", cwd=tmp_path)
    assert result.returncode == 65
    found = records(result.stdout)
    for record, (name, (_, words)) in zip(found, FOREIGN.items(), strict=False):
        assert words in record["problems"][0] and name in record["problems"][0], record
    assert "holds no vocabulary" in found[-1]["problems"][0]


@pytest.mark.parametrize(("name", "words"), [
    ("model.ckpt.index", "a TensorFlow checkpoint"), ("model.onnx", "an ONNX model"),
    ("model.bin", "a CTranslate2 model"), ("pytorch_model-00001-of-00002.bin", "a pickled model"),
    ("ckpt.pt", "a pickled model"),
])
def test_another_programs_model_is_not_sound_for_its_vocabulary(gpt2_here, tmp_path: Path, name: str,  # noqa: F811
                                                                words: str) -> None:
    gpt2_here("vocab", "--export", "hf", "-o", tmp_path / "m", check=True)
    gpt2_here("verify", tmp_path / "m", check=True)
    (tmp_path / "m" / name).write_bytes(b"not looked at")
    result = gpt2_here("verify", tmp_path / "m")
    assert result.returncode == 65
    record = records(result.stdout)[0]
    assert (record["kind"], record["ok"]) == ("unknown", False)
    assert f"it holds {words}" in record["problems"][0]


def test_the_status_is_that_of_the_gravest(gpt2, shard: Path, tmp_path: Path) -> None:
    os.symlink("nowhere", tmp_path / "link")
    (tmp_path / "bad").write_bytes(b"bad\n")
    unreadable = "/proc/self/mem"  # reading its first byte fails, also for root
    for paths, status in ((["gone", shard], 2), (["link"], 2), (["gone", unreadable, shard], 74),
                          ([unreadable, "bad", "gone"], 65)):
        result = gpt2("verify", *paths, cwd=tmp_path)
        assert result.returncode == status, paths
        assert len(records(result.stdout)) == len(paths)
    kinds = [record["kind"] for record in records(gpt2("verify", "link", unreadable, cwd=tmp_path).stdout)]
    assert kinds == ["missing", "unreadable"]


def test_safetensors(gpt2, tmp_path: Path) -> None:
    path = tmp_path / "hub" / "model.safetensors"
    path.parent.mkdir()
    (path.parent / "config.json").write_text("{}")
    safetensors.numpy.save_file({"a": arange(6, dtype=float32).reshape(2, 3), "b": arange(2)}, path)
    data = path.read_bytes()
    model, file, _ = records(gpt2("verify", path.parent, path, path, check=True).stdout)
    assert (model["kind"], file["kind"], file["facts"]) == ("model", "weights", {"tensors": 2, "digests": False})
    assert records(gpt2("verify", input=data, check=True).stdout)[0]["facts"]["tensors"] == 2
    targets = []
    for number, damage in enumerate((data[:-1], data + b"\0", data.replace(b"[2,3]", b"[2,4]"), data[:20],
                                     data.replace(b'"F32"', b'"F99"'), data.replace(b'"shape"', b'"shade"'))):
        broken = shutil.copytree(path.parent, tmp_path / f"{number}") / path.name
        broken.write_bytes(damage)
        targets += [broken, broken.parent]
    result = gpt2("verify", *targets)
    assert result.returncode == 65
    for record in records(result.stdout):
        assert "model.safetensors" in record["problems"][0]


@pytest.mark.slow
def test_runs_and_checkpoints(gpt2, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    checkpoint = sorted((run / "checkpoints").iterdir())[-1]
    paths = [run, checkpoint, run / "manifest.json", checkpoint / "manifest.json", run / "run.json"]
    found = records(gpt2("verify", *paths, check=True).stdout)
    assert [record["kind"] for record in found] == ["run", "checkpoint", "run", "checkpoint", "run"]
    assert found[0]["facts"] == {"checkpoints": 1, "finished": True}
    assert found[1]["facts"]["step"] == 10
    weights = bytearray((checkpoint / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (checkpoint / "model.safetensors").write_bytes(weights)
    assert gpt2("verify", "--quick", run, checkpoint).returncode == 0
    result = gpt2("verify", run, checkpoint)
    assert result.returncode == 65
    for record in records(result.stdout):  # once, though the run's manifest lists the file too
        assert len(record["problems"]) == 1 and "model.safetensors is damaged" in record["problems"][0]


@pytest.mark.slow
def test_an_unfinished_run(gpt2, tiny_run: Path, tmp_path: Path) -> None:
    """Its log may go on after the newest checkpoint, even in the middle of a line; before that it must be whole."""
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "manifest.json").unlink()
    metrics = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(metrics + b'{"schema":"gpt2.st')
    assert records(gpt2("verify", run, check=True).stdout)[0]["facts"]["finished"] is False
    for damage, words in ((metrics[:100], "it was cut since"), (metrics.replace(b"{", b"[", 1), "line 1"),
                          (metrics.replace(b'"loss_nats":', b'"loss_nats":1', 1), "is damaged: its first"),
                          (None, "is missing")):
        (run / "metrics.jsonl").unlink()
        if damage:
            (run / "metrics.jsonl").write_bytes(damage)
        (record,) = records(gpt2("verify", run).stdout)
        assert words in " ".join(record["problems"])
    (run / "run.json").write_text("{}")
    assert any("run.json" in text for text in records(gpt2("verify", run).stdout)[0]["problems"])


def test_a_checkpoint_that_its_run_lets_go_of_meanwhile_is_no_damage(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (run / "manifest.json").unlink()
    (newest,) = (run / "checkpoints").iterdir()
    real = verify_models.verify_checkpoint
    for name in ("model.safetensors", "training/state.json"):  # both as remove() begins, and one damaged but there
        older = Path(shutil.copytree(newest, run / "checkpoints" / "step-00000005"))

        def let_go(path: Path, *, name: str = name, **how: Any) -> list[str]:
            if path.name == "step-00000005":
                (path / "manifest.json").unlink()
                (path / name).unlink()
            return real(path, **how)

        monkeypatch.setattr(verify_models, "verify_checkpoint", let_go)
        assert verify_models.verify_run(run, Reading(Silent(), "run")).problems == []
        shutil.rmtree(older)
    later = Path(shutil.copytree(newest, run / "checkpoints" / "step-00000011"))
    digest = verify_models.digest_of_log

    def of_log(path: Path, length: int, sha256: str | None) -> Any:
        if later.exists():
            shutil.rmtree(later)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(later / "training/state.json"))
        return digest(path, length, sha256)

    monkeypatch.setattr(verify_models, "digest_of_log", of_log)
    assert verify_models.verify_run(run, Reading(Silent(), "run")).problems == [] and not later.exists()
    monkeypatch.undo()
    (newest / "model.safetensors").unlink()
    assert len(verify_models.verify_run(run, Reading(Silent(), "run")).problems) == 1


def test_ctrl_c_stops_it(gpt2_popen, shard: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    process = gpt2_popen("verify", tmp_path / "pipe", "-o", tmp_path / "v.jsonl", stderr=subprocess.PIPE)
    with open(tmp_path / "pipe", "wb") as pipe:
        pipe.write(shard.read_bytes())
        pipe.flush()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert os.listdir(tmp_path) == ["pipe"]
