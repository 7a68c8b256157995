"""`gpt2 export` as a person meets it: whole outputs or none, the same bytes, round trips, sentences."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt2cli.cli.export import KINDS as CLI_KINDS
from gpt2cli.errors import UsageFault
from gpt2cli.interchange.export_model import DTYPES, ExportConfig, export_model
from gpt2cli.reporter import Silent

FILE_KINDS = ("gguf", "llm.c")


def contents(path: Path) -> dict[str, bytes]:
    return {"": path.read_bytes()} if path.is_file() else {file.name: file.read_bytes() for file in path.iterdir()}


def test_the_cli_offers_every_kind() -> None:
    assert set(CLI_KINDS) == set(DTYPES)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("kind", "dtype"), [(kind, dtype) for kind in DTYPES for dtype in DTYPES[kind]])
def test_a_weight_that_the_type_cannot_hold(
    gpt2_here: Callable[..., Any], model_directory: Path, tmp_path: Path, kind: str, dtype: str
) -> None:
    """The largest number of fp32 is in no narrower float; int8 has a scale in fp32, in GGUF one in fp16."""
    shutil.copytree(model_directory, tmp_path / "m")
    (tmp_path / "m" / "manifest.json").unlink(missing_ok=True)
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    name = next(name for name in tensors if name.endswith("h.1.mlp.c_fc.weight"))
    tensors[name][2, 5] = torch.finfo(torch.float32).max
    save_file(tensors, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    result = gpt2_here("export", tmp_path / "m", "--to", kind, "--dtype", dtype, "-o", tmp_path / "x")
    if dtype == "fp32" or (kind, dtype) == ("ctranslate2", "int8"):
        assert result.returncode == 0, result.stderr
    else:
        assert result.returncode == 2 and result.stderr.endswith(
            f"gpt2 export: h.1.mlp.c_fc.weight holds 3.4e+38, too large for {dtype}; choose another --dtype\n".encode())
        assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("kind", DTYPES)
def test_the_same_bytes_again_and_no_path_in_them(
    gpt2_here: Callable[..., Any], model_directory: Path, tmp_path: Path, kind: str
) -> None:
    for name in ("a", "b"):
        result = gpt2_here("export", model_directory, "--to", kind, "-o", tmp_path / name, check=True)
        assert result.stdout == b"" and f"15,104 parameters, to {kind} in fp32".encode() in result.stderr
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert not any(str(tmp_path).encode() in data or str(model_directory).encode() in data for data in first.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("kind", ["openai", "llm.c"])
def test_there_and_back_the_weights_are_the_same_bytes(
    gpt2_here: Callable[..., Any], model_directory: Path, tmp_path: Path, kind: str
) -> None:
    gpt2_here("export", model_directory, "--to", kind, "-o", tmp_path / "x", check=True)
    gpt2_here("import", tmp_path / "x", "--vocab", model_directory, "-o", tmp_path / "m", check=True)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "vocab.json", "merges.txt"):
        assert (tmp_path / "m" / name).read_bytes() == (model_directory / name).read_bytes()


def test_a_directory_of_other_spelling_and_type(gpt2_here: Callable[..., Any], model_directory: Path, tmp_path: Path
                                                ) -> None:
    """As the published gpt2: no `transformer.`, mask buffers, here in fp16."""
    shutil.copytree(model_directory, tmp_path / "m")
    tensors = {name.removeprefix("transformer."): tensor.half()
               for name, tensor in load_file(tmp_path / "m" / "model.safetensors").items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 32, 32).tril()
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    gpt2_here("export", tmp_path / "m", "--to", "openai", "-o", tmp_path / "x", check=True)
    gpt2_here("import", tmp_path / "x", "-o", tmp_path / "y", check=True)
    found = load_file(tmp_path / "y" / "model.safetensors")
    assert torch.equal(found["transformer.wte.weight"], tensors["wte.weight"].float())


@pytest.mark.parametrize(("kind", "dtype"), [("onnx", "fp16"), ("openai", "bf16"), ("llm.c", "fp16"),
                                             ("llm.c", "int8")])
def test_types_that_a_kind_has_not(gpt2_here: Callable[..., Any], model_directory: Path, tmp_path: Path, kind: str,
                                   dtype: str) -> None:
    result = gpt2_here("export", model_directory, "--to", kind, "--dtype", dtype, "-o", tmp_path / "x")
    assert result.returncode == 2 and f"{kind} takes {', '.join(DTYPES[kind])}, not {dtype}".encode() in result.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", DTYPES)
def test_an_output_that_exists(gpt2_here: Callable[..., Any], model_directory: Path, tmp_path: Path, kind: str) -> None:
    export = ("export", model_directory, "--to", kind, "-o", tmp_path / "x")
    gpt2_here(*export, check=True)
    before = contents(tmp_path / "x")
    again = gpt2_here(*export)
    assert again.returncode == 2 and b"exists; give --force" in again.stderr
    gpt2_here(*export, "--force", check=True)
    assert contents(tmp_path / "x") == before
    if kind not in FILE_KINDS:
        (tmp_path / "x" / "mine").touch()
        strange = gpt2_here(*export, "-f")
        assert strange.returncode == 2 and b"holds 'mine', which is no part of this export" in strange.stderr


@pytest.mark.parametrize(("kind", "module", "words"), [
    ("gguf", "gguf", b"GGUF needs the gguf package"), ("onnx", "onnx", b"ONNX needs the onnx package"),
    ("ctranslate2", "ctranslate2.specs", b"this needs ctranslate2"),
])
def test_a_missing_library_is_one_sentence(gpt2_here: Callable[..., Any], model_directory: Path, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch, kind: str, module: str, words: bytes
                                           ) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = gpt2_here("export", model_directory, "--to", kind, "-o", tmp_path / "x")
    assert result.returncode == 1 and words in result.stderr
    assert b"which is not installed: pip install 'gpt2cli[export]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_a_full_device(gpt2_here: Callable[..., Any], model_directory: Path, kind: str) -> None:
    result = gpt2_here("export", model_directory, "--to", kind, "-o", "/dev/full", "-f")
    assert result.returncode == 74 and b"Traceback" not in result.stderr, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", DTYPES)
def test_a_disk_that_fills_up_leaves_nothing(model_directory: Path, tmp_path: Path, kind: str,
                                             bash: Callable[..., Any]) -> None:
    """A limit on the size of files is met in the middle of the weights."""
    result = bash(f"ulimit -f 40; gpt2 export '{model_directory}' -q --to {kind} -o x", tmp_path)
    assert result.returncode == 74, result.stderr
    assert result.stderr.count(b"\n") == 1 and b"Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "message"), [
    (["--to", "gguf", "-o", "-"], b"a model can't be written to standard output"), (["--to", "gguf"], b"'-o'"),
    (["-o", "x"], b"'--to'"), (["--to", "hf", "-o", "x"], b"Invalid value for '--to'"),
    (["--to", "gguf", "-o", "no/such/x"], b"the directory of no/such/x does not exist"),
    (["--to", "onnx", "-o", "no/such/x"], b"the directory of no/such/x does not exist"),
    (["--to", "gguf", "-o", "."], b"is a directory; choose another -o"),
])
def test_wrong_words(gpt2_here: Callable[..., Any], model_directory: Path, tmp_path: Path,
                     monkeypatch: pytest.MonkeyPatch, words: list[str], message: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    result = gpt2_here("export", model_directory, *words)
    assert result.returncode == 2 and message in result.stderr, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_kind_by_the_environment(gpt2_here: Callable[..., Any], model_directory: Path, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT2_EXPORT_TO", "openai")
    gpt2_here("export", model_directory, "-o", tmp_path / "x", check=True)
    monkeypatch.setenv("GPT2_IMPORT_FROM", "llm.c")
    wrong = gpt2_here("import", tmp_path / "x", "-o", tmp_path / "y")
    assert wrong.returncode == 2 and b"of kind llm.c" in wrong.stderr
    gpt2_here("import", tmp_path / "x", "--from", "openai", "-o", tmp_path / "y", check=True)


def test_no_model(gpt2_here: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GPT2_MODEL", raising=False)
    for words in (["export"], ["export", "absent"]):
        result = gpt2_here(*words, "--to", "gguf", "-o", "x")
        assert result.returncode == 2 and result.stderr.count(b"\n") == 1
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    result = gpt2_here("export", "m", "--to", "gguf", "-o", "x")
    assert result.returncode == 65 and b"names no model_type" in result.stderr


def test_the_model_itself_is_no_output(model_directory: Path) -> None:
    before = sorted(os.listdir(model_directory))
    for kind in DTYPES:
        with pytest.raises(UsageFault, match=r"is a directory|holds '|is the model itself|exists"):
            export_model(ExportConfig(str(model_directory), kind, str(model_directory), force=True), Silent())
    assert sorted(os.listdir(model_directory)) == before


def test_a_run_is_exported_under_its_name(model_directory: Path, tmp_path: Path) -> None:
    """general.name of a GGUF file is the run's, from the manifest of its checkpoint."""
    import gguf

    from gpt2cli.records.checkpoint import list_files, write_manifest

    shutil.copytree(model_directory, tmp_path / "m")
    write_manifest(tmp_path / "m", "gpt2.checkpoint", {"run": "l2-e16-abc", "step": 1, "tokens": 2},
                   list_files(tmp_path / "m"))
    export_model(ExportConfig(str(tmp_path / "m"), "gguf", str(tmp_path / "x")), Silent())
    assert gguf.GGUFReader(tmp_path / "x").get_field("general.name").contents() == "l2-e16-abc"
