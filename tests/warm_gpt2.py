"""A shell whose `gpt2` is a fork of a process with its libraries loaded: for tests that run a hundred commands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent
Completed = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="session")
def warm_bash(bash: Callable[..., Completed], tmp_path_factory: pytest.TempPathFactory
              ) -> Iterator[Callable[..., Completed]]:
    """Run a script as conftest's `bash` does; see warm_server.py for what its gpt2 differs in."""
    directory = tmp_path_factory.mktemp("warm")
    script = directory / "gpt2"
    script.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {shlex.quote(f'{TESTS}/warm_client.py')} "
                      '"$@"\n')
    script.chmod(0o755)
    (directory / "python3").symlink_to(sys.executable)
    environment = {"PYTHONPATH": str(TESTS.parent), "OMP_WAIT_POLICY": "PASSIVE"}
    with tempfile.TemporaryDirectory(prefix="g") as short:  # a socket's address may have a hundred bytes
        address = f"{short}/s"
        with subprocess.Popen([sys.executable, "-P", str(TESTS / "warm_server.py"), address], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, env=os.environ | environment) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"

            def run(script: str, cwd: Path, **keywords: Any) -> Completed:
                path = f"{directory}{os.pathsep}{os.environ['PATH']}"
                return bash(script, cwd, PATH=path, WARM_SERVER=address, **keywords)

            yield run
            server.terminate()  # a fork of this process may hold the other end of its standard input
