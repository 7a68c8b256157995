"""--help answers before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gpt2cli.cli.main import COMMANDS

HEAVY = ("torch", "numpy", "rich", "tiktoken", "tokenizers", "transformers", "aiohttp", "trafilatura", "matplotlib")
PROGRAM = """
import sys
sys.argv = ["gpt2", *sys.argv[1:]]
from gpt2cli.cli import main
try:
    main.entry()
except SystemExit as stop:
    assert not stop.code, stop.code
sys.stderr.write(" ".join(name for name in {heavy!r} if name in sys.modules))
"""


def heavy_imports(*arguments: str) -> str:
    result = subprocess.run([sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *arguments], text=True,
                            capture_output=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "Usage: gpt2" in result.stdout or "version" in arguments[0]
    return result.stderr


@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_gpt2_itself_imports_nothing_heavy(option: str) -> None:
    assert heavy_imports(option) == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    assert heavy_imports(command, "--help") == ""


def test_the_check_would_see_one() -> None:
    program = PROGRAM.replace("from gpt2cli.cli import main", "import numpy; from gpt2cli.cli import main")
    result = subprocess.run([sys.executable, "-c", program.format(heavy=HEAVY), "--help"], text=True,
                            capture_output=True, check=False, timeout=60)
    assert result.stderr == "numpy"
