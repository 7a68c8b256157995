"""Whatever the bytes, a parser gives what it promises or a Gpt2Error of one sentence; the table is fuzz_targets.py.

Some files for each; `make test-faults` tries 500, and `make fuzz` goes on for as long as it is told to.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from faults.fuzz_seeds import make_seeds
from faults.fuzz_targets import PARSERS, judge
from faults.hostile_edits import edited
from hypothesis import HealthCheck, given, settings
from tiny_models import one_thread

EXAMPLES = 500 if os.environ.get("FAULTS") == "all" else 6


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a sound file of every form."""
    one_thread()
    return make_seeds(tmp_path_factory.mktemp("parsers") / "seeds")


@pytest.mark.parametrize("name", PARSERS)
def test_only_our_errors_escape(name: str, seeds: Path) -> None:
    parser = PARSERS[name]
    path = seeds / parser.seed
    sound = path.read_bytes()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))
    @given(edited(sound))
    def check(data: bytes) -> None:
        judge(parser, path, data)

    try:
        parser.read(path)
        check()
    finally:
        path.write_bytes(sound)
