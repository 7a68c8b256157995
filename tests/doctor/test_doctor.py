"""Each thing the doctor looks at, well and ill: what is wrong is really wrong here, or handed in."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from in_process import gpt2_here as gpt2_here

from gpt2cli.cli.environment import known_variables, unread
from gpt2cli.doctor import compiler, disk, limits, memory, processor, software
from gpt2cli.doctor.finding import Finding, binary_size
from gpt2cli.model.small_network import small_network_library

Command = Callable[..., subprocess.CompletedProcess[bytes]]


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def test_this_installation_is_sound(gpt2_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPT2_VOCAB", raising=False)
    done = gpt2_here("doctor", "--quick", "--json", tmp_path, check=True)
    *records, end = [json.loads(line) for line in done.stdout.splitlines()]
    assert end["schema"] == "gpt2.end/1" and end["count"] == len(records)
    assert {record["topic"] for record in records} == {
        "software", "processor", "memory", "disk", "limits", "compiler", "environment"}
    found = {record["name"]: record for record in records}
    assert found["torch"]["value"] == torch.__version__ and found["torch"]["state"] == "good"
    assert found["vocabulary"]["value"].startswith("GPT-2's own, 50,257 tokens")
    assert all(bool(record["advice"]) == (record["state"] != "good") for record in records)
    assert list(tmp_path.iterdir()) == []


def test_lines_for_people_and_a_status(gpt2_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "not\x1b[31mhere"
    monkeypatch.setenv("GPT2_TRIAN_SEED", "1")
    monkeypatch.setenv("GPT2_VOCAB", str(tmp_path / "none"))
    done = gpt2_here("doctor", "--quick", missing)
    lines = done.stdout.decode()
    assert done.returncode == 1 and b"2 findings marked BAD" in done.stderr
    assert "\x1b" not in lines and r"not\x1b[31mhere does not exist" in lines
    assert " BAD  vocabulary" in lines and "GPT2_TRIAN_SEED" in lines and "was GPT2_TRAIN_SEED meant?" in lines


@pytest.mark.slow
def test_speed_and_compiler_are_measured(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in [*processor.processor(True), *disk.disk(str(tmp_path), True)]}
    assert {"matrix products, fp32", "matrix products, bf16", "load", "writing", "fsync"} <= set(found)
    assert found["writing"].value.endswith("MB/s with fsync")
    assert list(tmp_path.iterdir()) == []


def test_packages_that_are_missing_or_too_old_are_named() -> None:
    found = {finding.name: finding for finding in software.packages([
        "numpy>=1", "numpy>=99", "no-such-package-here>=2", 'numpy>=1; python_version < "3"', "not a requirement !",
        'pytest; extra == "one"', 'no-such-package-here; extra == "two"', 'nor-this-one; extra == "test"'])}
    assert (found["numpy"].state, found["no-such-package-here"].state) == ("bad", "bad")
    assert ">=99 needed" in found["numpy"].value and found["numpy"].advice == "pip install 'numpy>=99'"
    assert (found["extra one"].state, found["extra two"].state) == ("good", "note")
    assert found["extra two"].advice.endswith("pip install 'gpt2cli[two]'") and "extra test" not in found


def test_threads_and_load_beside_the_cpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [processor.threads(count, 4).state for count in (1, 2, 4, 5)] == ["note", "good", "good", "note"]
    assert processor.threads(1, 1).state == "good" and processor.threads(1, 0.5).state == "good"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS" in processor.threads(1, 8).value
    assert processor.load(0.5, 2).state == "good" and processor.load(7.0, 2).state == "note"


def test_a_containers_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_QUOTA", tmp_path / "cpu.max")
    whole = processor.usable_cpus()
    assert whole >= 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert processor.usable_cpus() == whole
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert processor.usable_cpus() == 0.5


def test_sizes_are_told_how_they_fit() -> None:
    plenty = list(memory.trainable(1 << 40))
    assert [finding.name for finding in plenty] == ["train small", "train medium", "train large", "train xl"]
    assert set(states(plenty).values()) == {"good"}
    assert all(finding.value.endswith("--micro-batch 1") for finding in plenty)
    some = {finding.name: finding for finding in memory.trainable(23 << 30)}
    assert some["train xl"].state == "good" and "--weights bf16 --moments bf16" in some["train xl"].value
    assert set(states(list(memory.trainable(1 << 29))).values()) == {"note"}


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    assert [finding.state for finding in disk.disk(str(file), False)] == ["bad"]
    assert [disk.room("x", free).state for free in (1 << 40, 1 << 29, 1 << 20)] == ["good", "note", "bad"]
    assert [disk.sync(seconds).state for seconds in (0.001, 1.0)] == ["good", "note"]
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        assert list(disk.disk(str(tmp_path), False))[-1].state == "bad"
        tmp_path.chmod(0o700)


def test_a_disk_that_ends(tmp_path: Path) -> None:
    program = ("import resource, signal, sys; from gpt2cli.doctor.disk import disk\n"
               "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
               "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
               "last = list(disk(sys.argv[1], True))[-1]; print(last.state, last.value)")
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("bad fails: File too large")
    assert list(tmp_path.iterdir()) == []


def test_limits_of_open_files() -> None:
    unlimited = resource.RLIM_INFINITY
    found = [limits.open_files(*pair).state for pair in
             ((unlimited, unlimited), (256, unlimited), (256, 4096), (256, 1024))]
    assert found == ["good", "good", "good", "note"]
    assert "below 924" in limits.open_files(256, 1024).advice


def test_no_compiler_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    (found,) = compiler.compiler(True)
    assert found.state == "note" and "g++" in found.advice and "no C++ compiler" in found.value


def test_a_compiler_that_fails_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'disk on fire' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setattr(compiler, "_PROGRAM", "import sys; sys.exit('no Python.h')")
    small_network_library.cache_clear()
    try:
        there, native, compiled = compiler.compiler(True)
    finally:
        small_network_library.cache_clear()
    assert (there.value, native.state, compiled.state) == (str(broken), "note", "note")
    assert "disk on fire" in native.value and "fails: no Python.h" in compiled.value


def test_variables_that_nothing_reads() -> None:
    known = known_variables()
    assert {"GPT2_MODEL", "GPT2_VOCAB", "GPT2_TRAIN_SEED", "GPT2_BPE_TRAIN_VOCAB_SIZE",
            "GPT2_FIT_SCALING_MINUTES", "GPT2_WEBTEXT_SCRAPE_CONCURRENCY"} <= known
    assert unread({"GPT2_TRAIN_SEED": "1", "PATH": "x", "GPT2_TRAIN_SED": "1", "GPT2_QQ": ""}, known) == {
        "GPT2_QQ": None, "GPT2_TRAIN_SED": "GPT2_TRAIN_SEED"}


def test_sizes_are_binary() -> None:
    assert [binary_size(number) for number in (512 << 20, 3 << 29, 5 << 40)] == ["512 MiB", "1.5 GiB", "5.0 TiB"]
