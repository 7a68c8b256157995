"""Hugging Face's directories as transformers saves them: whole, in shards, pickled, in other types and spellings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import own_state
from safetensors.torch import load_file, save_file

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.interchange.huggingface_directory import read_huggingface

INDEX = "model.safetensors.index.json"


@pytest.fixture
def model(tmp_path: Path, model_directory: Path) -> Path:
    """The session's small model in a directory of its own; its tensors are own_state()'s."""
    directory = tmp_path / "hf"
    directory.mkdir()
    for path in model_directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


def same(directory: Path, allow_pickle: bool = False) -> bool:
    found = read_huggingface(directory, allow_pickle)
    return all(torch.equal(found.tensors[name], tensor) for name, tensor in own_state().items())


def into_shards(directory: Path, pickled: bool = False) -> Path:
    """Split the weights over two files and an index, as save_pretrained does above max_shard_size."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names, suffix = sorted(tensors), "bin" if pickled else "safetensors"
    table = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        stem = "pytorch_model" if pickled else "model"
        file = f"{stem}-{number:05d}-of-00002.{suffix}"
        some = {name: tensors[name] for name in part}
        torch.save(some, directory / file) if pickled else save_file(some, directory / file)
        table |= dict.fromkeys(part, file)
    index = directory / ("pytorch_model.bin.index.json" if pickled else INDEX)
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))
    return index


def test_whole(model: Path) -> None:
    assert same(model)
    assert read_huggingface(model, False).vocabulary is not None


@pytest.mark.parametrize("pickled", [False, True])
def test_shards(model: Path, pickled: bool) -> None:
    into_shards(model, pickled)
    assert same(model, allow_pickle=pickled)


def test_a_pickled_state_dict_needs_the_flag(model: Path) -> None:
    """As the published gpt2 of 2019: no prefix, mask buffers, the old form of pickle, a head beside its embedding."""
    state = {name.removeprefix("transformer."): tensor
             for name, tensor in load_file(model / "model.safetensors").items()}
    state |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32).tril() for layer in (0, 1)}
    state["lm_head.weight"] = state["wte.weight"]
    (model / "model.safetensors").unlink()
    torch.save(state, model / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(UsageFault, match=r"pytorch_model.bin is a pickle; --allow-pickle"):
        read_huggingface(model, False)
    assert same(model, allow_pickle=True)
    torch.save([1], model / "pytorch_model.bin")
    with pytest.raises(BadInput, match="is no state dict but a list"):
        read_huggingface(model, True)


@pytest.mark.slow
def test_what_transformers_saves(tmp_path: Path, model: Path) -> None:
    from transformers import GPT2LMHeadModel

    theirs = GPT2LMHeadModel.from_pretrained(model)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs" / INDEX).is_file()
    assert same(tmp_path / "theirs")
    assert read_huggingface(tmp_path / "theirs", False).vocabulary is None
    theirs.half().save_pretrained(tmp_path / "half")
    found = read_huggingface(tmp_path / "half", False).tensors["wpe.weight"]
    assert torch.equal(found, own_state()["wpe.weight"].half().float())


@pytest.mark.parametrize(("table", "message"), [
    ({}, "does not say which file"), ([1], "does not say which file"), ({"a": 5}, "does not say which file"),
    ({"a": "../../etc/passwd"}, "names a file outside"), ({"a": "/etc/passwd"}, "names a file outside"),
    ({"a": "absent.safetensors"}, "which is not there"), ({"a": "\x1b[31m"}, "which is not there"),
    ({str(number): f"f{number}" for number in range(1001)}, "or too many"),
])
def test_hostile_indexes(model: Path, table: object, message: str) -> None:
    into_shards(model).write_text(json.dumps({"weight_map": table}))
    with pytest.raises(BadInput, match=message) as caught:
        read_huggingface(model, False)
    assert "\x1b" not in str(caught.value)


def test_damage_in_a_shard(model: Path) -> None:
    into_shards(model)
    shard = model / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(BadInput, match="was cut short or changed"):
        read_huggingface(model, False)
    for length in (1 << 60, 99_000_000):
        shard.write_bytes(length.to_bytes(8, "little") + whole[8:])
        with pytest.raises(BadInput, match=f"its header claims {length} of"):
            read_huggingface(model, False)
    shard.write_bytes((model / "model-00001-of-00002.safetensors").read_bytes())
    with pytest.raises(BadInput, match="which an earlier shard holds too"):
        read_huggingface(model, False)


def test_quantised_weights_are_refused_by_name(gpt2_here: Callable[..., Any], model: Path) -> None:
    """What `gpt2 quantize` made is no longer the model: neither import nor export takes it for one."""
    out = model.parent / "x"
    gpt2_here("quantize", model, "--bits", 8, "-o", model.parent / "q", check=True)
    for words in (["import"], ["export", "--to", "llm.c"]):
        result = gpt2_here(*words, model.parent / "q", "-o", out)
        assert result.returncode == 2 and b"holds quantised weights" in result.stderr
        assert not out.exists()


def test_nothing_to_read(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UsageFault, match=r"holds no config.json"):
        read_huggingface(tmp_path, False)
    with pytest.raises(UsageFault, match="is no directory"):
        read_huggingface(model / "config.json", False)
    (model / "model.safetensors").unlink()
    with pytest.raises(UsageFault, match=r"holds neither model.safetensors nor pytorch_model.bin"):
        read_huggingface(model, False)
