"""llm.c's files against a reader written from llm.c's own, and every kind of damage."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_models import SHAPE, own_state, read_llmc_by_its_definition
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error
from gpt2cli.interchange.llmc_checkpoint import read_llmc, write_llmc

PLACES = {"ln1w": "ln_1.weight", "ln1b": "ln_1.bias", "qkvw": "attn.c_attn.weight", "qkvb": "attn.c_attn.bias",
          "attprojw": "attn.c_proj.weight", "attprojb": "attn.c_proj.bias", "ln2w": "ln_2.weight", "ln2b": "ln_2.bias",
          "fcw": "mlp.c_fc.weight", "fcb": "mlp.c_fc.bias", "fcprojw": "mlp.c_proj.weight",
          "fcprojb": "mlp.c_proj.bias"}


def write(path: Path, dtype: str = "fp32") -> Path:
    with open(path, "wb") as file:
        write_llmc(file, own_state(), SHAPE, dtype)
    return path


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_an_independent_reader_finds_every_number(tmp_path: Path, dtype: str) -> None:
    state = {name: tensor.to(torch.bfloat16).float() if dtype == "bf16" else tensor
             for name, tensor in own_state().items()}
    header, arrays = read_llmc_by_its_definition(write(tmp_path / "m.bin", dtype))
    assert header[:8].tolist() == [20240326, 3 if dtype == "fp32" else 5, 32, 500, 2, 2, 16, 512]
    assert not header[8:].any()
    assert np.array_equal(arrays["wte"][:500], state["wte.weight"]) and not arrays["wte"][500:].any()
    assert np.array_equal(arrays["wpe"], state["wpe.weight"])
    assert np.array_equal(arrays["lnfw"], state["ln_f.weight"]) and np.array_equal(arrays["lnfb"], state["ln_f.bias"])
    for theirs, ours in PLACES.items():
        for layer in range(2):
            wanted = state[f"h.{layer}.{ours}"].numpy()
            matrix = wanted.ndim == 2
            assert np.array_equal(arrays[theirs][layer], wanted.T if matrix else wanted), (theirs, layer)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_there_and_back(tmp_path: Path, dtype: str) -> None:
    model = read_llmc(write(tmp_path / "m.bin", dtype))
    assert model.shape == SHAPE
    for name, tensor in own_state().items():
        expected = tensor.to(torch.bfloat16).float() if dtype == "bf16" else tensor
        assert torch.equal(model.tensors[name], expected)
        assert model.tensors[name].dtype == torch.float32 and model.tensors[name].is_contiguous()


@pytest.mark.parametrize(("place", "number", "message"), [
    (0, 20240520, "begins with 20240520, not 20240326"), (1, 1, "version 1; 3"), (1, 9, "version 9"),
    (2, 0, "n_ctx is 0"), (3, -1, "n_vocab is -1"), (4, 2**31 - 1, "its header says"), (5, 3, "3 heads"),
    (6, 2**31 - 2, "its header says"), (7, 499, "pads 500 ids to 499"), (7, 640, "its header says"),
])
def test_a_changed_header(tmp_path: Path, place: int, number: int, message: str) -> None:
    path = write(tmp_path / "m.bin")
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, 4 * place, number)
    path.write_bytes(data)
    with pytest.raises(BadInput, match=message):
        read_llmc(path)


@pytest.mark.parametrize("cut", [0, 3, 1023, 1024, 30_000, -1])
def test_a_cut_file(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "m.bin")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadInput, match=r"no model of llm\.c's|cut short"):
        read_llmc(path)


def test_not_a_number_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.bin")
    data = bytearray(path.read_bytes())
    data[-4:] = struct.pack("<f", float("nan"))
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"ln_f.bias holds values that are not finite"):
        read_llmc(path)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=0, max_size=8), st.binary(max_size=64))
@settings(max_examples=60, deadline=None)
def test_only_our_errors_escape(numbers: list[int], rest: bytes) -> None:
    import tempfile

    known = [20240326, 3, *numbers]
    data = struct.pack(f"<{len(known)}i", *known).ljust(1024, b"\0") + rest
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with pytest.raises(Gpt2Error, match=r"tmp|m\.bin"):
            read_llmc(Path(file.name))


def test_writing_twice_gives_the_same_bytes() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    write_llmc(first, own_state(), SHAPE, "bf16")
    write_llmc(second, own_state(), SHAPE, "bf16")
    assert first.getvalue() == second.getvalue()


def test_verify_says_what_such_a_file_is(gpt2_here: Callable[..., Any], tmp_path: Path) -> None:
    result = gpt2_here("verify", write(tmp_path / "m.bin"))
    assert result.returncode == 65 and b"it is a model of llm.c's; `gpt2 import` makes a checkpoint" in result.stderr
