"""A small model that several packages' tests evaluate, and one thread to do it: fixtures for their conftest.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import lively_model, one_thread, save_model, small_vocabulary

from gpt2cli.sizes import ModelShape


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 2 layers, context 32 and 500 ids."""
    model = lively_model(ModelShape(2, 2, 16, 32, 500))
    return save_model(tmp_path_factory.mktemp("model") / "m", model, small_vocabulary())


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    one_thread()
