"""CTranslate2 opens what we write: the same logits and the same greedy text, in every type."""

from __future__ import annotations

import json
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from foreign_models import SHAPE, own_state
from tiny_models import lively_model, small_vocabulary

from gpt2cli.interchange.ctranslate2_directory import DTYPES, FILES, write_ctranslate2
from gpt2cli.interchange.padded_tokens import token_names
from gpt2cli.sizes import ModelShape

NAMES = token_names(small_vocabulary(), 500, "")
PROMPT = torch.randint(499, (8,), generator=torch.Generator().manual_seed(0)).tolist()
COMPUTE = {"fp32": "float32", "fp16": "float32", "bf16": "float32", "int8": "int8"}


def opened(directory: Path, dtype: str = "fp32", shape: ModelShape = SHAPE) -> ctranslate2.Generator:
    write_ctranslate2(directory, own_state(shape), shape, small_vocabulary(), dtype)
    return ctranslate2.Generator(str(directory), compute_type=COMPUTE[dtype], intra_threads=1)


def greedy(shape: ModelShape, count: int) -> list[int]:
    model, ids = lively_model(shape), list(PROMPT)
    with torch.no_grad():
        while len(ids) < len(PROMPT) + count:
            ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
    return ids[len(PROMPT):]


def test_greedy_ids_are_ours(tmp_path: Path) -> None:
    result = opened(tmp_path).generate_batch([[NAMES[number] for number in PROMPT]], max_length=24, sampling_topk=1,
                                             include_prompt_in_result=False, end_token=[])
    assert result[0].sequences_ids[0] == greedy(SHAPE, 24)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("fp16", 2e-2), ("bf16", 2e-1), ("int8", 4e-1)])
def test_logits_are_ours(tmp_path: Path, dtype: str, tolerance: float) -> None:
    found = np.array(opened(tmp_path, dtype).forward_batch([[NAMES[number] for number in PROMPT]]))[0]
    model = lively_model(SHAPE)
    with torch.no_grad():
        away = np.abs(found - model.logits(model(torch.tensor([PROMPT])))[0].numpy()).max()
    assert away < tolerance and (dtype == "fp32" or away > 1e-4)


def test_the_files(tmp_path: Path) -> None:
    opened(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["bos_token"] == config["eos_token"] == config["unk_token"] == "<|endoftext|>"
    assert json.loads((tmp_path / "vocabulary.json").read_text()) == NAMES


def test_ids_past_the_vocabulary_and_the_same_bytes(tmp_path: Path) -> None:
    shape = ModelShape(1, 1, 8, 16, 503)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        opened(tmp_path / name, "int8", shape)
    assert json.loads((tmp_path / "a" / "vocabulary.json").read_text())[-1] == "madeupword0502"
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in FILES)


def test_every_type_is_one_of_theirs() -> None:
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

    assert set(DTYPES.values()) <= set(ACCEPTED_MODEL_TYPES)
