from __future__ import annotations

from pathlib import Path

import pytest
import torch
from in_process import gpt2_here  # noqa: F401 (a fixture)
from tiny_models import lively_model, one_thread, save_model, small_vocabulary

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.vocabulary import Vocabulary


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    one_thread()


@pytest.fixture(scope="session")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory of 2 layers, context 32 and 1,500 ids, some beyond each bound of ranks."""
    model = lively_model(ModelShape(2, 2, 16, 32, 1500))
    return save_model(tmp_path_factory.mktemp("lively") / "lively", model, small_vocabulary(1243))


@pytest.fixture(scope="session")
def orderly(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Vocabulary]:
    """A model directory that expects the same everywhere: token i has rank i + 1. And its vocabulary, of 1,500 ids."""
    model = GPT2(ModelShape(1, 1, 8, 32, 1500))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.ln_f.bias[0] = 1.0
        model.wte.weight[:, 0] = -0.01 * torch.arange(1500)
    vocabulary = small_vocabulary(1243)
    return save_model(tmp_path_factory.mktemp("orderly") / "orderly", model, vocabulary), vocabulary
