from __future__ import annotations

import pytest
from tiny_models import one_thread


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    one_thread()
