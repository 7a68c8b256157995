"""The ONNX graph run by onnxruntime: our logits, whole or in pieces through the cache it hands back."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import manpages
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from foreign_models import SHAPE, own_state
from tiny_models import lively_model

from gpt2cli.interchange.onnx_graph import MODEL, WEIGHTS, write_onnx
from gpt2cli.sizes import ModelShape

IDS = np.random.default_rng(0).integers(0, SHAPE.n_vocab, (3, SHAPE.n_ctx))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("onnx")
    write_onnx(place, own_state(), SHAPE)
    return place


def session_of(directory: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(directory / MODEL, options)


def start(batch: int) -> dict[str, np.ndarray]:
    return {f"past_key_values.{layer}.{kind}": np.zeros((batch, 2, 0, 8), np.float32)
            for layer in range(2) for kind in ("key", "value")}


def ours(ids: np.ndarray) -> np.ndarray:
    model = lively_model(SHAPE)
    with torch.no_grad():
        return model.logits(model(torch.from_numpy(ids))).numpy()


def test_the_format_is_sound(directory: Path) -> None:
    onnx.checker.check_model(directory / MODEL, full_check=True)
    assert sorted(path.name for path in directory.iterdir()) == [MODEL]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [1, 7, 32])
def test_logits_of_whole_texts(directory: Path, batch: int, length: int) -> None:
    ids = IDS[:batch, :length]
    logits, *_ = session_of(directory).run(None, {"input_ids": ids, **start(batch)})
    assert logits.shape == (batch, length, 500)
    assert np.abs(logits - ours(ids)).max() < 1e-4


@pytest.mark.parametrize("pieces", [[16, 16], [5, 1, 1, 10, 15], [1] * 32])
def test_logits_through_the_cache(directory: Path, pieces: list[int]) -> None:
    session = session_of(directory)
    past, found, done = start(2), [], 0
    names = [output.name for output in session.get_outputs()]
    for length in pieces:
        logits, *present = session.run(None, {"input_ids": IDS[:2, done : done + length], **past})
        past = {name.replace("present", "past_key_values"): value
                for name, value in zip(names[1:], present, strict=True)}
        found.append(logits)
        done += length
        assert past["past_key_values.1.value"].shape == (2, 2, done, 8)
    assert np.abs(np.concatenate(found, 1) - ours(IDS[:2])).max() < 1e-4


def test_the_lines_on_the_man_page(directory: Path, tmp_path: Path) -> None:
    """As a person would copy them, in a Python of their own."""
    page = manpages.sections(manpages.MAN / "man1" / "gpt2-export.1")["EXAMPLES"]
    (code,) = [block for block in re.findall(r"^\.EX\n(.*?)^\.EE", page, re.MULTILINE | re.DOTALL) if "import" in block]
    (tmp_path / "tiny-onnx").symlink_to(directory)
    result = subprocess.run([sys.executable, "-c", manpages.plain(code) + "print(logits.shape, len(present))"],
                            cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout == "(1, 2, 500) 4\n", result.stderr


def test_large_weights_lie_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr("gpt2cli.interchange.onnx_graph._MOST_INSIDE", 1000)
    write_onnx(tmp_path, own_state(), SHAPE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [MODEL, WEIGHTS]
    assert (tmp_path / MODEL).stat().st_size < (directory / MODEL).stat().st_size / 2
    feed = {"input_ids": IDS[:1, :9], **start(1)}
    assert np.array_equal(session_of(tmp_path).run(None, feed)[0], session_of(directory).run(None, feed)[0])


def test_the_same_bytes_and_nothing_of_this_machine(tmp_path: Path, directory: Path) -> None:
    write_onnx(tmp_path, own_state(), SHAPE)
    data = (tmp_path / MODEL).read_bytes()
    assert data == (directory / MODEL).read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in data and b".py" not in data


def test_one_head_and_one_layer(tmp_path: Path) -> None:
    shape = ModelShape(1, 1, 8, 8, 50)
    write_onnx(tmp_path, own_state(shape), shape)
    model = lively_model(shape)
    past = {f"past_key_values.0.{kind}": np.zeros((1, 1, 0, 8), np.float32) for kind in ("key", "value")}
    logits = session_of(tmp_path).run(["logits"], {"input_ids": IDS[:1, :8] % 50, **past})[0]
    with torch.no_grad():
        assert np.abs(logits - model.logits(model(torch.from_numpy(IDS[:1, :8] % 50))).numpy()).max() < 1e-4
