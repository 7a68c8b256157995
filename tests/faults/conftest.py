"""What the fault tests share: a warm process that runs commands with a fault, and all that their stages read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.failing_calls import Faults, failing_calls
from faults.stages import make_inputs
from webtext.local_site import serving


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """A warm process for all stages."""
    with failing_calls(tmp_path_factory.mktemp("library") / "faulty_calls.so") as found:
        yield found


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory, artefacts: Path) -> Iterator[Path]:
    """A directory with what the stages read, while the site that its links lead to answers."""
    with serving(address="0.0.0.0") as site:
        yield make_inputs(tmp_path_factory.mktemp("inputs"), artefacts, site)


@pytest.fixture
def work(inputs: Path, tmp_path: Path) -> Path:
    """A directory with all that the stages read."""
    place = tmp_path / "place" / "work"
    (place / "tmp").mkdir(parents=True)
    for path in inputs.iterdir():
        (place / path.name).symlink_to(path)
    return place
