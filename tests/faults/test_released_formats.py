"""What was written stays readable, and what a newer gpt2 wrote is refused with its name: of every format there is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.released_formats import RELEASED, WITHIN, formats_of_the_code, read, released, unpacked
from in_process import gpt2_here as gpt2_here
from in_process import plain_environment

from gpt2cli.errors import BadInput
from gpt2cli.webtext.crawl_tables import FORMAT

CONTENTS = RELEASED / "contents.json"
FILES = released()
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def plain(value: object) -> object:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))


def test_every_version_of_every_format_that_the_code_names_is_kept() -> None:
    missing = [f"{kind}/{number}" for kind, newest in formats_of_the_code().items() if kind not in WITHIN
               for number in range(min(newest, 1), newest + 1) if (kind, number) not in FILES]
    assert missing == []
    strange = {kind for kind, _ in FILES} - formats_of_the_code().keys()
    assert not strange
    assert sum(path.stat().st_size for path in RELEASED.rglob("*") if path.is_file()) < 200_000


@pytest.mark.parametrize(("kind", "number"), FILES)
def test_what_was_written_is_read_as_it_was(kind: str, number: int, tmp_path: Path) -> None:
    known = json.loads(CONTENTS.read_text()) if CONTENTS.exists() else {}
    path = FILES[kind, number]
    found = plain(read(kind, path, tmp_path))
    if os.environ.get("FAULTS_WRITE_CONTENTS") and path.name not in known:
        lines = [f'"{name}": {json.dumps(value)}' for name, value in sorted({**known, path.name: found}.items())]
        CONTENTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return
    assert found == known[path.name]


@pytest.mark.parametrize(("kind", "number"), FILES)
def test_a_newer_one_is_refused_with_its_name_and_the_one_that_is_read(kind: str, number: int, tmp_path: Path) -> None:
    own, source = formats_of_the_code()[kind], FILES[kind, number]
    if kind == FORMAT:
        newer = unpacked(source, tmp_path)
        with contextlib.closing(sqlite3.connect(newer)) as database:
            database.execute("PRAGMA user_version = 9")
    else:
        newer = tmp_path / "newer"
        shutil.copytree(source, newer) if source.is_dir() else shutil.copy(source, newer)
        changed = 0
        for path in [newer] if newer.is_file() else [path for path in newer.rglob("*") if path.is_file()]:
            data = path.read_bytes()
            path.write_bytes(data.replace(f"{kind}/{number}".encode(), f"{kind}/9".encode()))
            changed += path.read_bytes() != data
        assert changed
        if kind == "gpt2.quantised":  # its digests would be those of a newer gpt2 as well
            (newer / "manifest.json").unlink()
    with pytest.raises(BadInput, match=f"{kind}/9 was written by a newer gpt2; this one reads up to {kind}/{own}, "):
        read_newer(kind, newer, tmp_path)


def read_newer(kind: str, path: Path, place: Path) -> None:
    """As read(), but a run's manifest is what says its version, and the state lies unpacked."""
    if kind == FORMAT:
        from gpt2cli.webtext.crawl_state import CrawlState

        CrawlState(path)
    elif kind == "gpt2.checkpoint":
        from gpt2cli.records.checkpoint import read_manifest

        read_manifest(path)
    else:
        read(kind, path, place)


@pytest.mark.parametrize(("arguments", "input_of"), [
    (("bpe-tokenize", "-o", "out.tok.zst"), "gpt2.document"), (("webtext-scrape", "links"), "gpt2.link"),
    (("webtext-scrape", "extract"), "gpt2.page"), (("webtext-scrape", "filter"), "gpt2.document"),
    (("webtext-scrape", "dedup"), "gpt2.document"), (("plot",), "gpt2.step"), (("fit-scaling",), "gpt2.eval"),
    (("fit-scaling", "predict", "--n", "1M", "--d", "1M", "--fit", "-"), "gpt2.fit"), (("eval-text",), "gpt2.sample"),
    (("overlap", "--test", "-"), "gpt2.document"), (("verify",), "gpt2.item"),
])
def test_commands_refuse_newer_records(arguments: tuple[str, ...], input_of: str, gpt2_here: Run, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    plain_environment(monkeypatch, tmp_path)
    (tmp_path / "train.txt").write_text("the sea was calm that morning, and it was cold\n")
    data = FILES[input_of, 1].read_bytes().replace(f"{input_of}/1".encode(), f"{input_of}/9".encode())
    done = gpt2_here(*arguments, *(("train.txt",) if arguments[0] == "overlap" else ()), input=data)
    said = (done.stderr + done.stdout).decode()
    assert done.returncode == 65 and f"{input_of}/9 was written by a newer gpt2" in said, said
    assert f"this one reads up to {input_of}/1, so update it" in said and not (tmp_path / "out.tok.zst").exists()


def test_a_kept_run_is_known_as_finished_and_goes_on(gpt2_here: Run, tmp_path: Path) -> None:
    """With its kept shards: all of it is read, the optimizer's state too; and other flags list the differences."""
    run = shutil.copytree(FILES["gpt2.checkpoint", 1], tmp_path / "run")
    how = ("train", FILES["gpt2.shards", 1], "--layers", 1, "--embd", 8, "--heads", 1, "--context", 16,
           "--batch-tokens", 64, "--checkpoint-every", 4, "--eval-every", 2, "--eval-tokens", 64, "--layers-every", 2,
           "--noise-every", 2, "--dtype", "fp32", "--compile", "off", "-o", run)
    done = gpt2_here(*how, "--steps", 4, check=True)
    assert b"done" in done.stderr or b"finished" in done.stderr
    other = gpt2_here(*how, "--steps", 6, "--seed", 1)
    assert other.returncode == 2
    assert b"steps: 4 there, 6 asked" in other.stderr and b"seed: 0 there, 1 asked" in other.stderr
    gpt2_here(*how, "--steps", 6, "--override", check=True)
    assert b'"step":6' in (run / "metrics.jsonl").read_bytes()


def test_a_run_of_another_torch_and_machine_is_told_so(gpt2_here: Run, tmp_path: Path) -> None:
    """The torch, threads and device of its checkpoint; it goes on all the same."""
    from gpt2cli.records.checkpoint import list_files, read_json, write_json, write_manifest

    run = shutil.copytree(FILES["gpt2.checkpoint", 1], tmp_path / "run")
    (run / "manifest.json").unlink()
    checkpoint, = (run / "checkpoints").iterdir()
    state = read_json(checkpoint / "training/state.json")
    write_json(checkpoint / "training/state.json", {**state, "torch": "1.0.0", "threads": 99})
    fields = {name: value for name, value in read_json(checkpoint / "manifest.json").items()
              if name not in ("schema", "files", "manifest_sha256")}
    write_manifest(checkpoint, "gpt2.checkpoint", fields, list_files(checkpoint))
    done = gpt2_here("train", FILES["gpt2.shards", 1], "--layers", 1, "--embd", 8, "--heads", 1, "--context", 16,
                     "--batch-tokens", 64, "--checkpoint-every", 4, "--eval-every", 2, "--eval-tokens", 64,
                     "--layers-every", 2, "--noise-every", 2, "--dtype", "fp32", "--compile", "off", "--steps", 4,
                     "-o", run)
    assert done.returncode == 0, done.stderr.decode()
    assert b"1.0.0" in done.stderr and b"99" in done.stderr, done.stderr.decode()
