"""The command line run inside the test's own process: the same parser, streams and statuses without torch's start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt2cli.cli import main


@pytest.fixture
def gpt2_here(
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run `gpt2 ARGUMENTS...` here; keywords as conftest's gpt2: input (stdin; default: nothing) and check."""

    def run(*arguments: object, input: bytes = b"", check: bool = False) -> subprocess.CompletedProcess[bytes]:
        source = tmp_path_factory.mktemp("stdin") / "stdin"
        source.write_bytes(input)
        words = [str(argument) for argument in arguments]
        capsysbinary.readouterr()
        with open(source, encoding="utf-8") as stdin, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            try:
                status = main._complete_or_run(words)
            except Exception as error:
                status = main._explain(main._command_name(words), error)
            sys.stdout.flush()
        captured = capsysbinary.readouterr()
        if check:
            assert status == 0, f"gpt2 {words}: {status}: {captured.err.decode()}"
        return subprocess.CompletedProcess(words, status, captured.out, captured.err)

    return run


def plain_environment(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Work in `directory` without a default model."""
    monkeypatch.chdir(directory)
    monkeypatch.delenv("GPT2_MODEL", raising=False)
