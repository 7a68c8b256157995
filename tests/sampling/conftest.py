from __future__ import annotations

from pathlib import Path

import pytest
import torch
from in_process import gpt2_here  # noqa: F401 (a fixture)
from tiny_models import lively_model, one_thread, save_model, small_vocabulary

from gpt2cli.sizes import ModelShape


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    one_thread()


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 2 layers, context 64 and 500 ids."""
    model = lively_model(ModelShape(2, 2, 16, 64, 500), seed=2)
    return save_model(tmp_path_factory.mktemp("model") / "m", model, small_vocabulary())


@pytest.fixture(scope="session")
def eager_to_end(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with its end-of-text among the probable tokens."""
    model = lively_model(ModelShape(2, 2, 16, 64, 500), seed=2)
    with torch.no_grad():
        model.wte.weight[499] = model.wte.weight.abs().mean() * torch.sign(model.ln_f.bias) * 2.5
    return save_model(tmp_path_factory.mktemp("eager") / "m", model, small_vocabulary())
