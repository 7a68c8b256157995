"""Shell cases, as zstd has them: cases/NAME.sh and what it must say.

    NAME.sh              run with `bash -u -o pipefail` in an empty directory, `gpt2` on PATH, stdin /dev/null
    NAME.exit            its exit status (no file: 0)
    NAME.stdout.exact    its standard output, byte for byte
    NAME.stdout.glob     the same by lines: `*` within a line is anything, a line `...` is any number of lines
    NAME.stdout.ignore   it may say anything; with none of the three it must say nothing
    NAME.stderr.*        likewise for standard error

A script that mentions $DOCUMENTS, $SHARD and so on (see ARTEFACTS) finds conftest.py's artefact there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"
SUFFIXES = ("exact", "glob", "ignore")
ARTEFACTS = {"PLAYS": "plays", "DOCUMENTS": "documents", "VOCABULARY": "vocabulary_file", "SHARD": "shard",
             "SHARDS": "shard_directory", "RUN": "tiny_run", "METRICS": "ladder_metrics"}


def matches(pattern: str, text: str) -> bool:
    """Whether `text` fits a .glob file: `*` is anything within a line, a line `...` any number of lines."""
    expression = ""
    for line in pattern.splitlines():
        if line == "...":
            expression += r"(?:[^\n]*\n)*"
        else:
            expression += "[^\n]*".join(re.escape(part) for part in line.split("*")) + "\n"
    return re.fullmatch(expression, text) is not None


def assert_stream(case: Path, stream: str, data: bytes) -> None:
    found = [suffix for suffix in SUFFIXES if case.with_suffix(f".{stream}.{suffix}").exists()]
    assert len(found) <= 1, f"{case.stem}: more than one expectation for {stream}"
    if not found:
        assert data == b"", f"{case.stem}: {stream} should be empty"
    elif found[0] == "exact":
        assert data == case.with_suffix(f".{stream}.exact").read_bytes()
    elif found[0] == "glob":
        pattern, text = case.with_suffix(f".{stream}.glob").read_text(), data.decode()
        assert matches(pattern, text), f"{case.stem}: {stream} does not fit\n{pattern}--- it is\n{text}"


@pytest.mark.parametrize("name", sorted(case.stem for case in CASES.glob("*.sh")))
def test_case(name: str, shell_environment: dict[str, str], tmp_path: Path, request) -> None:
    case = CASES / f"{name}.sh"
    environment = dict(shell_environment)
    for variable in sorted(set(re.findall(r"\$\{?([A-Z]+)", case.read_text())) & set(ARTEFACTS)):
        environment[variable] = str(request.getfixturevalue(ARTEFACTS[variable]))
    result = subprocess.run(["bash", "-u", "-o", "pipefail", str(case)], cwd=tmp_path, env=environment,
                            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=120)
    expected = case.with_suffix(".exit")
    status = int(expected.read_text()) if expected.exists() else 0
    assert result.returncode == status, result.stderr.decode()
    assert_stream(case, "stdout", result.stdout)
    assert_stream(case, "stderr", result.stderr)


def test_every_expectation_has_its_script() -> None:
    stray = [path.name for path in CASES.iterdir() if not (CASES / f"{path.name.split('.')[0]}.sh").exists()]
    assert stray == []
    unknown = [path.name for path in CASES.iterdir()
               if not re.fullmatch(r"[a-z0-9-]+\.(sh|exit|(stdout|stderr)\.(exact|glob|ignore))", path.name)]
    assert unknown == []


def test_glob_language() -> None:
    assert matches("a*c\n", "abc\n")
    assert matches("one\n...\nlast\n", "one\ntwo\nthree\nlast\n")
    assert matches("one\n...\n", "one\n")
    assert not matches("a*c\n", "a\nc\n")
    assert not matches("one\n", "one\ntwo\n")
    assert not matches("a.c\n", "abc\n")


def test_bash_is_there() -> None:
    assert shutil.which("bash")
