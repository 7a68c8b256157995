"""Checkpoints in and out: transformers reads ours, we read theirs, and what is hostile is one sentence."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import lively_model
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2cli.cli.console import harmless
from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.model.weights import load_model, read_config, save_weights, weights_sha256
from gpt2cli.records.provenance import file_sha256
from gpt2cli.records.safetensors_layout import MAX_WEIGHTS_HEADER
from gpt2cli.sizes import ModelShape

SHAPE = ModelShape(2, 2, 16, 12, 300)
IDS = torch.randint(300, (2, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "m"
    directory.mkdir()
    save_weights(lively_model(SHAPE).state_dict(), SHAPE, 299, directory)
    return directory


def edit_config(directory: Path, **changes: Any) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changes))


def edit_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def logits(directory: Path) -> torch.Tensor:
    loaded = load_model(directory)
    return loaded.model.logits(loaded.model(IDS))


def test_transformers_computes_our_logits_from_our_files(checkpoint: Path) -> None:
    theirs, report = GPT2LMHeadModel.from_pretrained(checkpoint, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    torch.testing.assert_close(logits(checkpoint), theirs.eval()(IDS).logits.detach(), rtol=1e-4, atol=1e-4)
    assert theirs.generation_config.eos_token_id == 299


def test_weights_come_back_bit_for_bit(checkpoint: Path) -> None:
    loaded = load_model(checkpoint)
    assert (loaded.shape, loaded.eot) == (SHAPE, 299)
    state = lively_model(SHAPE).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.model.state_dict().items())
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_saving_twice_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    save_weights(lively_model(SHAPE).state_dict(), SHAPE, 299, tmp_path / "again")
    for path in checkpoint.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_names_without_prefix_mask_buffers_and_a_tied_head_load_the_same(checkpoint: Path) -> None:
    expected = logits(checkpoint)

    def as_published(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(SHAPE.n_layer):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 12, 12).tril()
            tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)

    edit_tensors(checkpoint, as_published)
    assert torch.equal(logits(checkpoint), expected)
    edit_tensors(checkpoint, lambda tensors: tensors.update({"lm_head.weight": tensors["wte.weight"].clone()}))
    assert torch.equal(logits(checkpoint), expected)


def test_a_directory_saved_by_transformers_gives_its_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=12, vocab_size=300)).eval()
    theirs.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(tmp_path), theirs(IDS).logits.detach(), rtol=1e-5, atol=1e-6)
    assert load_model(tmp_path).eot == 299  # transformers' 50256 does not fit 300 ids


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_floating_point_types_are_read(checkpoint: Path, dtype: torch.dtype) -> None:
    expected = logits(checkpoint)
    edit_tensors(checkpoint, lambda tensors: tensors.update({n: t.to(dtype) for n, t in tensors.items()}))
    torch.testing.assert_close(logits(checkpoint), expected, rtol=0.1, atol=0.2)


def test_bf16_models_run_in_bf16(checkpoint: Path) -> None:
    assert load_model(checkpoint, dtype=torch.bfloat16).model.wte.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(("changes", "words"), [
    ({"model_type": "llama"}, "'llama' model, not gpt2"),
    ({"activation_function": "relu"}, "'relu' is not GPT-2's tanh GELU"),
    ({"activation_function": "gelu"}, "'gelu' is not GPT-2's tanh GELU"),
    ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn"),
    ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings"),
    ({"n_inner": 100}, "n_inner is 100"),
    ({"n_embd": 0}, "n_embd is 0"),
    ({"n_embd": True}, "n_embd is True"),
    ({"n_layer": 10**12}, "n_layer is 1000000000000"),
    ({"n_layer": "2"}, "n_layer is '2'"),
    ({"n_head": 3}, "does not divide"),
    ({"n_embd": 32}, "has shape"),
    ({"n_layer": 1}, "h.1."),
    ({"n_layer": 3}, "lacks h.2."),
    ({"n_layer": 2**31 - 1}, "asks for 2147483647 layers"),
    ({"n_embd": 2**30}, "no machine holds"),
])
def test_a_configuration_that_we_do_not_compute_is_refused(checkpoint: Path, changes: dict, words: str) -> None:
    edit_config(checkpoint, **changes)
    with pytest.raises(BadInput) as raised:
        load_model(checkpoint)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "nan", '{"n_layer": NaN}', "[" * 100_000])
def test_a_config_that_is_no_json_object_is_bad_input(checkpoint: Path, text: str) -> None:
    (checkpoint / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match=r"config\.json"):
        read_config(checkpoint)


def poison(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.h.1.mlp.c_fc.weight"][3, 4] = value

    return change


@pytest.mark.parametrize(("change", "words"), [
    (poison(float("nan")), "h.1.mlp.c_fc.weight holds values that are not finite"),
    (poison(float("-inf")), "not finite"),
    (lambda tensors: tensors.pop("transformer.ln_f.bias"), "lacks ln_f.bias"),
    (lambda tensors: tensors.update({"transformer.h.0.extra": torch.zeros(1)}), "a tensor that GPT-2 has not"),
    (lambda tensors: tensors.update({"h.0.ln_1.bias\x1b[31m": torch.zeros(1)}), "a tensor that GPT-2 has not"),
    (lambda tensors: tensors.update({"transformer.ln_f.bias": torch.zeros(16, dtype=torch.int64)}), "'I64'"),
    (lambda tensors: tensors.update({"transformer.wpe.weight": torch.zeros(16, 12)}), "[16, 12]"),
    (lambda tensors: tensors.update({"transformer.ln_f.bias": torch.zeros(0)}), "has shape [0]"),
])
def test_weights_that_do_not_fit_are_one_harmless_sentence(checkpoint: Path, change: Callable, words: str) -> None:
    edit_tensors(checkpoint, change)
    with pytest.raises(BadInput) as raised:
        load_model(checkpoint)
    message = harmless(str(raised.value))
    assert words in message
    assert "\n" not in message and "\x1b" not in message


def with_header(header: bytes, length: int | None = None, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + rest


@pytest.mark.parametrize("data", [
    b"", b"\x10\0\0", with_header(b"{}", 2**63), with_header(b"{" * 50), with_header(b"[1]"), with_header(b'{"a":3}'),
    with_header(b"\xff\xfe"), with_header(b"[" * 5000), with_header(b"{}", 100), b"PK\x03\x04" + bytes(300),
    with_header(b" " * (MAX_WEIGHTS_HEADER + 1)),
    with_header(b'{"wte.weight":{"dtype":"F32","shape":[300,16],"data_offsets":[0,99999999]}}'),
    with_header(b'{"wte.weight":{"dtype":"F32","shape":"x","data_offsets":[0,4]}}', None, bytes(4)),
])
def test_a_file_that_is_no_sound_safetensors_is_bad_input(checkpoint: Path, data: bytes) -> None:
    (checkpoint / "model.safetensors").write_bytes(data)
    with pytest.raises(BadInput) as raised:
        load_model(checkpoint)
    assert "\n" not in str(raised.value)


def test_truncated_weights_and_lying_offsets_are_bad_input(checkpoint: Path) -> None:
    whole = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(whole[:-5])
    with pytest.raises(BadInput, match="no sound safetensors"):
        load_model(checkpoint)
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    header["transformer.ln_f.bias"]["data_offsets"] = [0, 64]
    text = json.dumps(header).encode()
    (checkpoint / "model.safetensors").write_bytes(with_header(text, None, whole[8 + size :]))
    with pytest.raises(BadInput, match="no sound safetensors"):
        load_model(checkpoint)


def test_one_name_twice_under_both_spellings_is_refused(checkpoint: Path) -> None:
    edit_tensors(checkpoint, lambda tensors: tensors.update({"ln_f.bias": torch.ones(16)}))
    with pytest.raises(BadInput, match=r"ln_f\.bias"):
        load_model(checkpoint)


def test_pickled_weights_are_never_read(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(UsageFault, match="gpt2 import --allow-pickle makes a checkpoint of its pickled"):
        load_model(checkpoint)
    (checkpoint / "pytorch_model.bin").unlink()
    with pytest.raises(UsageFault, match=r"has no model\.safetensors$"):
        load_model(checkpoint)


def test_the_digest_of_weights_is_the_files(checkpoint: Path) -> None:
    assert weights_sha256(checkpoint) == file_sha256(checkpoint / "model.safetensors")
