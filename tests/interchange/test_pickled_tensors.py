"""Pickles: tensors are read, and nothing that runs, bombs or was cut short gets further than one sentence."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.interchange.pickled_tensors import is_pickle, read_pickle

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


def saved(value: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_read(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(saved(OrderedDict(STATE), legacy))
    found = read_pickle(path, allowed=True)
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())
    assert is_pickle(path.read_bytes()[:4])
    with pytest.raises(UsageFault, match=r"x\.pt is a pickle; --allow-pickle"):
        read_pickle(path, allowed=False)


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_would_run_does_not(tmp_path: Path, legacy: bool) -> None:
    path, trace = tmp_path / "x.pt", tmp_path / "it-ran"
    path.write_bytes(saved({"a": Runs(trace)}, legacy))
    with pytest.raises(BadInput, match="holds more than tensors, or is damaged") as caught:
        read_pickle(path, allowed=True)
    assert not trace.exists() and "\n" not in str(caught.value)
    torch.load(path, weights_only=False)
    assert trace.exists(), "the pickle was a real one"


def test_a_bare_pickle_that_runs_something(tmp_path: Path) -> None:
    path, trace = tmp_path / "x.pt", tmp_path / "it-ran"
    path.write_bytes(pickle.dumps(Runs(trace)))
    with pytest.raises(BadInput):
        read_pickle(path, allowed=True)
    assert not trace.exists()


def test_deep_nesting(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(b"\x80\x02" + b"(" * 100_000 + b"l" * 100_000 + b".")
    with pytest.raises(BadInput):
        read_pickle(path, allowed=True)


def rezipped(data: bytes, change: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change.get(name.partition("/")[2], old.read(name)))
    return buffer.getvalue()


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    bomb = rezipped(saved(STATE), {"data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000, "50 MB in a hundred kB"
    path.write_bytes(bomb)
    with pytest.raises(BadInput, match="is compressed, which PyTorch never does"):
        read_pickle(path, allowed=True)


def test_a_pickle_of_20_mb_and_entries_over_one_another(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(rezipped(saved(STATE), {"data.pkl": bytes(20 << 20)}))
    with pytest.raises(BadInput, match="its pickle has 20,971,520 bytes"):
        read_pickle(path, allowed=True)
    data = rezipped(saved(STATE), {"data/0": bytes(1 << 16)})
    size = (1 << 16).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (1 << 30).to_bytes(4, "little")))
    with pytest.raises(BadInput, match=r"claim more bytes than the file has|cut short or is damaged"):
        read_pickle(path, allowed=True)


@pytest.mark.parametrize("data", [b"", b"PK", b"\x93NUMPY", b"\x80", b"hello", b"\x80\x09abc"])
def test_no_pickle_at_all(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"no file of PyTorch's: it begins with"):
        read_pickle(path, allowed=True)


WHOLE = {legacy: saved(STATE, legacy) for legacy in (False, True)}


@given(st.booleans(), st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_our_errors_escape(tmp_path: Path, legacy: bool, data: Any) -> None:
    content = bytearray(WHOLE[legacy])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.pt"
    path.write_bytes(content[: data.draw(st.integers(4, len(content)))])
    try:
        read_pickle(path, allowed=True)
    except Gpt2Error as error:
        assert "x.pt" in str(error) and "\n" not in str(error)
