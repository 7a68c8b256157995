"""What pip installs: the command, its pages, its completion, its data; and the Makefile that installs it."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gpt2cli
from gpt2cli.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "gpt2cli", "bin", "man", "completions")


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def lines(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if line.strip()]


def test_pyproject_only_names_the_build_backend() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text()).keys() == {"build-system"}


def test_every_man_page_and_completion_is_installed(setup: configparser.ConfigParser) -> None:
    installed = {path for patterns in setup["options.data_files"].values() for pattern in lines(patterns)
                 for path in ROOT.glob(pattern)}
    wanted = {*ROOT.glob("man/man*/*"), *ROOT.glob("completions/*")}
    assert installed == wanted
    for target, patterns in setup["options.data_files"].items():
        section = re.fullmatch(r"share/man/man(\d)", target)
        if section:
            assert patterns.strip() == f"man/man{section[1]}/*.{section[1]}"


def test_metadata(setup: configparser.ConfigParser) -> None:
    metadata = setup["metadata"]
    assert (metadata["name"], metadata["license"]) == ("gpt2cli", "MIT")
    assert metadata["version"] == "attr: gpt2cli.__version__"
    assert setup["options"]["scripts"] == "bin/gpt2"
    for name in [*lines(metadata["license_files"]), "README.md", "CHANGELOG.md", "CONTRIBUTING.md"]:
        assert (ROOT / name).is_file(), f"{name} is missing"
    assert f"## {gpt2cli.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_requirement_has_a_range_and_a_reason(setup: configparser.ConfigParser) -> None:
    text = (ROOT / "setup.cfg").read_text()
    groups = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    for line in (line for group in groups for line in lines(group) if not line.startswith("#")):
        requirement = Requirement(line)
        assert requirement.specifier, f"{line} accepts any version"
        assert re.search(rf"^# .*\b{requirement.name}\b", text, re.MULTILINE | re.IGNORECASE), f"why {line}?"


def test_constraints_pin_every_requirement(setup: configparser.ConfigParser) -> None:
    pins = [Requirement(line) for line in lines((ROOT / "constraints.txt").read_text()) if not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins), "exact, and without a local version"
    pinned = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pins}
    assert pinned["torch"] == "2.13.0"
    groups = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    for line in (line for group in groups for line in lines(group) if not line.startswith("#")):
        requirement = Requirement(line)
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{line} excludes the pinned {version}"


def test_make_help_is_the_default_and_lists_the_targets(tmp_path: Path) -> None:
    result = subprocess.run(["make", "--no-print-directory", "-C", str(ROOT)], capture_output=True, text=True,
                            check=True)
    listed = re.findall(r"^  ([a-z-]+) +\S", result.stdout, re.MULTILINE)
    assert {"help", "setup", "test", "test-fast", "test-faults", "fuzz", "lint", "bench", "clean", "demo",
            "ladder"} <= set(listed)


def test_make_refuses_an_old_python_with_a_sentence(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.8.1 && exit\nexit 1\n')
    old.chmod(0o755)
    result = subprocess.run(["make", "-C", str(tmp_path), "setup", f"PYTHON={old}"], capture_output=True, text=True,
                            check=False)
    assert result.returncode == 2
    assert "is Python 3.8.1, and gpt2 needs Python 3.11 or newer" in result.stderr
    missing = subprocess.run(["make", "-C", str(tmp_path), "setup", "PYTHON=python9"], capture_output=True,
                             text=True, check=False)
    assert "there is no python9 here" in missing.stderr
    assert not (tmp_path / ".venv").exists()


def test_command_in_a_bare_checkout_says_what_to_do(tmp_path: Path) -> None:
    """bin/gpt2 without .venv and without click: one sentence, no traceback."""
    for name in ("gpt2cli", "bin"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "data"))
    result = subprocess.run([sys.executable, "-I", "-S", str(tmp_path / "bin" / "gpt2"), "--version"],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "make -C" in result.stderr and "setup" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, with the setuptools that the test extra brings: no network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation",
                    "-w", str(target), str(source)], check=True, capture_output=True)
    (found,) = target.iterdir()
    return found


@pytest.mark.slow
def test_wheel_holds_everything(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    data = f"gpt2cli-{gpt2cli.__version__}.data"
    wanted = {f"{data}/scripts/gpt2", f"{data}/data/share/bash-completion/completions/gpt2.bash"}
    for page in ROOT.glob("man/man*/*"):
        wanted.add(f"{data}/data/share/man/{page.parent.name}/{page.name}")
    for path in (ROOT / "gpt2cli").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            wanted.add(str(path.relative_to(ROOT)))
    assert wanted - held == set()
    strays = [name for name in held if name.startswith(("tests", "demo", "bin/"))]
    assert strays == []


@pytest.mark.slow
def test_wheel_installs_and_runs(wheel: Path, tmp_path: Path) -> None:
    """In a virtual environment of its own, which sees this one's libraries but not this checkout."""
    home = tmp_path / "a venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                          capture_output=True, text=True, check=True).stdout.strip()
    ours = Path(click.__file__).parents[1]
    (Path(site) / "libraries.pth").write_text(f"{ours}\n")
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index",
                    str(wheel)], check=True, capture_output=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, home / "bin" / "gpt2", *arguments], capture_output=True, text=True,
                              check=False, cwd=tmp_path)

    assert run("--version").stdout == f"gpt2 {gpt2cli.__version__}\n"
    assert all(name in run("--help").stdout for name in COMMANDS)
    for topic in [*COMMANDS, "pipeline", "records", "shard", "checkpoint"]:
        shown = run("help", "--path", topic)
        assert shown.stdout.startswith(str(home)), f"{topic}: {shown.stderr}"
    code = "import gpt2cli; print(gpt2cli.__file__)"
    where = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert where.startswith(str(home))
    assert (home / "share" / "bash-completion" / "completions" / "gpt2.bash").is_file()
