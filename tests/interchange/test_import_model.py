"""`gpt2 import` as a person meets it: kinds told apart, sealed checkpoints, one sentence for what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import SHAPE, nanogpt_checkpoint, own_state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_models import lively_model, save_model, small_vocabulary

from gpt2cli.cli.import_model import KINDS as CLI_KINDS
from gpt2cli.errors import Gpt2Error, UsageFault
from gpt2cli.interchange.import_model import KINDS, ImportConfig, detect_kind, import_model
from gpt2cli.interchange.llmc_checkpoint import write_llmc
from gpt2cli.interchange.openai_checkpoint import write_openai
from gpt2cli.model.weights import load_model
from gpt2cli.records.provenance import file_sha256
from gpt2cli.reporter import Silent
from gpt2cli.sizes import ModelShape


@pytest.fixture
def sources(tmp_path: Path, model_directory: Path) -> dict[str, Path]:
    """The same model (nanoGPT's is another) in each kind, beside the vocabulary."""
    place = tmp_path / "sources"
    place.mkdir()
    shutil.copytree(model_directory, place / "hf")
    (place / "openai").mkdir()
    write_openai(place / "openai", own_state(), SHAPE, small_vocabulary())
    with open(place / "m.bin", "wb") as file:
        write_llmc(file, own_state(), SHAPE, "fp32")
    torch.save(nanogpt_checkpoint()[1], place / "ckpt.pt")
    return {"huggingface": place / "hf", "openai": place / "openai", "llm.c": place / "m.bin",
            "nanogpt": place / "ckpt.pt", "vocab": place / "hf" / "tokenizer.json"}


def test_kinds_are_told_apart(sources: dict[str, Path], tmp_path: Path) -> None:
    assert {kind: detect_kind(sources[kind]) for kind in KINDS} == {kind: kind for kind in KINDS}
    assert detect_kind(sources["openai"] / "model.ckpt.index") == "openai"
    assert detect_kind(sources["openai"] / "model.ckpt") == "openai"
    (tmp_path / "out").mkdir()
    shutil.copy(sources["nanogpt"], tmp_path / "out" / "ckpt.pt")
    assert detect_kind(tmp_path / "out") == "nanogpt"
    assert CLI_KINDS == KINDS


@pytest.mark.parametrize(("content", "name", "message"), [
    (b"hello", "x.txt", "is none of openai"), (b"", "empty", "is none of openai"),
    (b"PK\3\4", "pytorch_model.bin", "needs the config.json beside it"), (b"x", "m.safetensors", "name the directory"),
])
def test_other_files_are_not_guessed(tmp_path: Path, content: bytes, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageFault, match=message):
        detect_kind(tmp_path / name)


def test_other_directories_are_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match=r"holds no config.json, hparams.json"):
        detect_kind(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UsageFault, match="a MODEL as it is"):
        detect_kind(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sealed_checkpoint_that_every_command_takes(
    gpt2_here: Callable[..., Any], sources: dict[str, Path], tmp_path: Path, kind: str, model_directory: Path
) -> None:
    extra = {"llm.c": ["--vocab", sources["vocab"]], "nanogpt": ["--vocab", sources["vocab"], "--allow-pickle"]}
    out = tmp_path / "m"
    result = gpt2_here("import", sources[kind], *extra.get(kind, []), "-o", out, check=True)
    assert result.stdout == b"" and b"2 layers, 2 heads, width 16, context 32, 500 ids" in result.stderr
    assert (b"exact GELU" in result.stderr) == (kind == "nanogpt")
    verdict = gpt2_here("verify", out, check=True)
    assert b"sound checkpoint" in verdict.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["run"], manifest["step"], manifest["tokens"]) == (None, None, None)
    assert manifest["imported"]["from"] == kind
    place = sources[kind] if sources[kind].is_dir() else sources[kind].parent
    assert all(file_sha256(place / name) == digest for name, digest in manifest["imported"]["sha256"].items())
    if kind != "nanogpt":
        assert (out / "model.safetensors").read_bytes() == (model_directory / "model.safetensors").read_bytes()
    (tmp_path / "text").write_text("to be or not to be")
    assert b'"ppl"' in gpt2_here("eval-ppl", out, tmp_path / "text", check=True).stdout


def test_the_same_again_is_the_same_bytes(sources: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        import_model(ImportConfig(str(sources["openai"]), str(tmp_path / name)), Silent())
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_force_and_what_it_does_not_replace(
    gpt2_here: Callable[..., Any], sources: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "m"
    gpt2_here("import", sources["openai"], "-o", out, check=True)
    again = gpt2_here("import", sources["openai"], "-o", out)
    assert again.returncode == 2 and b"give --force to replace it" in again.stderr
    gpt2_here("import", sources["huggingface"], "-o", out, "--force", check=True)
    assert json.loads((out / "manifest.json").read_text())["imported"]["from"] == "huggingface"
    itself = gpt2_here("import", out, "-o", out, "--force")
    assert itself.returncode == 2 and b"is also what is read" in itself.stderr
    (out / "notes.txt").write_text("mine")
    strange = gpt2_here("import", sources["openai"], "-o", out, "-f")
    assert strange.returncode == 2 and b"holds 'notes.txt'" in strange.stderr


@pytest.mark.parametrize(("words", "message"), [
    (["absent"], b"there is no absent"), (["hf", "--from", "llm.c"], b"is not what a model of kind llm.c"),
    (["m.bin", "--from", "huggingface"], b"is no directory"), (["m.bin"], b"its 500 ids are not GPT-2's 50,257"),
    (["m.bin", "--from", "nanogpt", "--allow-pickle"], b"no file of PyTorch's"),
    (["ckpt.pt"], b"--allow-pickle"), (["openai", "--from", "llama"], b"Invalid value for '--from'"),
    (["openai", "--vocab", "nothing"], b"there is no vocabulary at nothing"),
])
def test_wrong_words(gpt2_here: Callable[..., Any], sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch,
                     words: list[str], message: bytes) -> None:
    monkeypatch.chdir(sources["openai"].parent)
    result = gpt2_here("import", *words, "-o", "out")
    assert result.returncode in (2, 65) and message in result.stderr, result.stderr
    assert not Path("out").exists() and result.stderr.count(b"\n") <= 2


def test_a_vocabulary_larger_than_the_model(gpt2_here: Callable[..., Any], sources: dict[str, Path], tmp_path: Path
                                            ) -> None:
    state = own_state()
    state["wte.weight"] = state["wte.weight"][:300]
    with open(tmp_path / "m.bin", "wb") as file:
        write_llmc(file, state, ModelShape(2, 2, 16, 32, 300), "fp32")
    result = gpt2_here("import", tmp_path / "m.bin", "--vocab", sources["vocab"], "-o", tmp_path / "out")
    assert result.returncode == 65 and b"has 500 ids, its model only 300" in result.stderr


def test_gpt2s_own_ids_need_no_vocabulary(tmp_path: Path) -> None:
    """Padded to 50,304, as nanoGPT trains: the ids past the vocabulary stay in the model."""
    shape = ModelShape(1, 1, 2, 4, 50_304)
    state = {name: tensor.detach() for name, tensor in lively_model(shape).state_dict().items()}
    with open(tmp_path / "m.bin", "wb") as file:
        write_llmc(file, state, shape, "fp32")
    reporter = Silent()
    summary = import_model(ImportConfig(str(tmp_path / "m.bin"), str(tmp_path / "out")), reporter)
    loaded = load_model(summary.directory)
    assert loaded.shape == shape and loaded.eot == 50_256
    assert any("GPT-2's own is taken" in note for note in reporter.notes)


def test_a_full_disk_leaves_nothing(gpt2_here: Callable[..., Any], sources: dict[str, Path], tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / ".out.tmp-1"))

    monkeypatch.setattr("gpt2cli.interchange.import_model.write_manifest", full)
    (tmp_path / "work").mkdir()
    result = gpt2_here("import", sources["openai"], "-o", tmp_path / "work" / "out")
    assert result.returncode == 74 and b"No space left on device" in result.stderr
    assert list((tmp_path / "work").iterdir()) == []


def hostile(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t.update({"transformer.wpe.weight": torch.full((32, 16), torch.nan)}), b"not finite"),
    (lambda t: t.pop("transformer.ln_f.bias"), b"lacks ln_f.bias"),
    (lambda t: t.update({"\x1b[2Jx": torch.ones(1)}), b"GPT-2 has not"),
    (lambda t: t.update({"transformer.wpe.weight": torch.ones(16, 32)}), b"has shape [16, 32]"),
])
def test_hostile_directories(gpt2_here: Callable[..., Any], sources: dict[str, Path], tmp_path: Path,
                             change: Callable[[dict[str, torch.Tensor]], None], message: bytes) -> None:
    hostile(sources["huggingface"], change)
    result = gpt2_here("import", sources["huggingface"], "-o", tmp_path / "out")
    assert result.returncode == 65 and message in result.stderr and b"\x1b" not in result.stderr
    assert not (tmp_path / "out").exists()


@given(st.sampled_from(["m.bin", "openai/model.ckpt.index", "openai/model.ckpt.data-00000-of-00001",
                        "openai/hparams.json", "openai/vocab.bpe", "openai/checkpoint", "hf/config.json",
                        "hf/model.safetensors", "hf/tokenizer.json", "ckpt.pt"]), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_our_errors_escape(whole: Path, name: str, data: Any) -> None:
    """Any file of any kind with bytes changed, or cut: a checkpoint or a sentence, and never a directory half made."""
    original = (whole / name).read_bytes()
    content = bytearray(original)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, min(len(content) - 1, 3000)))] = data.draw(st.integers(0, 255))
    (whole / name).write_bytes(content[: data.draw(st.integers(0, len(content)))])
    first = name.partition("/")[0]
    out = whole / "out"
    try:
        import_model(ImportConfig(str(whole / first), str(out), vocab=str(whole / "v.json"), allow_pickle=True),
                     Silent())
    except Gpt2Error as error:
        assert not out.exists() and "\n" not in str(error)
    finally:
        (whole / name).write_bytes(original)
        shutil.rmtree(out, ignore_errors=True)
    assert sorted(path.name for path in whole.iterdir()) == ["ckpt.pt", "hf", "m.bin", "openai", "v.json"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in every kind."""
    shape = ModelShape(1, 1, 4, 8, 300)
    place, vocabulary = tmp_path_factory.mktemp("whole"), small_vocabulary(43)
    model = lively_model(shape)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    save_model(place / "hf", model, vocabulary)
    (place / "openai").mkdir()
    write_openai(place / "openai", state, shape, vocabulary)
    with open(place / "m.bin", "wb") as file:
        write_llmc(file, state, shape, "fp32")
    torch.save(nanogpt_checkpoint(shape)[1], place / "ckpt.pt")
    shutil.copy(place / "hf" / "tokenizer.json", place / "v.json")
    return place
