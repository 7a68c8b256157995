"""gpt2 quantize as a person runs it: a sealed model that sample and eval-ppl take, and an honest table."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import gpt2_here  # noqa: F401 (a fixture)
from tiny_models import lively_model, save_model, small_vocabulary

from gpt2cli.cli.quantize import table
from gpt2cli.errors import Interrupted
from gpt2cli.evaluation.quantise_model import QuantiseConfig, QuantiseSummary, Version, quantise_model
from gpt2cli.model.quantised import Quantisation
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice
from gpt2cli.sizes import ModelShape

Run = Callable[..., subprocess.CompletedProcess[bytes]]
TEXT = "The king is dead, long live the king. " * 20


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose width takes groups of 32 and 64."""
    model = lively_model(ModelShape(2, 2, 64, 32, 500))
    return save_model(tmp_path_factory.mktemp("wide") / "m", model, small_vocabulary())


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(("options", "dtype"), [(["--bits", 8], "int8"), (["--bits", 4], "int4"),
                                                (["--bits", 4, "--group-size", 64], "int4")])
def test_a_quantised_model_is_sealed_smaller_compared_and_taken(
    gpt2_here: Run, wide: Path, text: Path, tmp_path: Path, options: list[object], dtype: str  # noqa: F811
) -> None:
    made = tmp_path / "q"
    done = gpt2_here("quantize", wide, *options, "--text", text, "-o", made, check=True)
    table = {line.split("  ")[0].strip(): re.split(r"  +", line.strip()) for line in done.stdout.decode().splitlines()}
    original, quantised = (int(word.replace(",", "")) for word in table["bytes"][1:3])
    assert original == (wide / "model.safetensors").stat().st_size
    assert quantised == (made / "quantised.safetensors").stat().st_size < original / 2.5
    assert table["decodes in"][2] == dtype
    assert all(float(word) > 0 for word in table["tokens/s"][1:])
    for place, column in ((wide, 1), (made, 2)):
        record = json.loads(gpt2_here("eval-ppl", place, text, check=True).stdout.splitlines()[0])
        assert table["perplexity"][column] == f"{record['ppl']:.4f}"
        assert record["dtype"] == "fp32"
    sampled = gpt2_here("sample", made, "--prompt", "The king", "--max-tokens", 8, "--json", check=True)
    assert json.loads(sampled.stdout.splitlines()[0])["n_tokens"] <= 8
    assert gpt2_here("verify", made).returncode == 0
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["quantised"]["bits"] == int(str(options[1])) and len(manifest["quantised"]["from_sha256"]) == 64


def test_the_same_model_gives_the_same_bytes(gpt2_here: Run, wide: Path, tmp_path: Path) -> None:  # noqa: F811
    for name in ("a", "b"):
        gpt2_here("quantize", wide, "--bits", 4, "-o", tmp_path / name, check=True)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(("options", "words"), [
    (["--bits", "8", "--group-size", "32"], b"--group-size is for --bits 4"),
    (["--bits", "4", "--group-size", "128"], b"do not divide the model's width of 64"),
    (["--bits", "3"], b"'3' is not one of '8', '4'"),
    ([], b"--bits"),
    (["--bits", "8", "--text", "absent.txt"], b"there is no absent.txt"),
    (["--bits", "8", "--text", "-"], b"it can't be standard input"),
])
def test_options_that_do_not_fit_are_refused(
    gpt2_here: Run, wide: Path, tmp_path: Path, options: list[str], words: bytes  # noqa: F811
) -> None:
    result = gpt2_here("quantize", wide, *options, "-o", tmp_path / "q")
    assert (result.returncode, result.stdout) == (2, b"")
    assert words in result.stderr and not (tmp_path / "q").exists()


def test_what_cannot_be_quantised_is_one_sentence(
    gpt2_here: Run, wide: Path, model_directory: Path, tmp_path: Path  # noqa: F811
) -> None:
    narrow = gpt2_here("quantize", model_directory, "--bits", 4, "-o", tmp_path / "q")
    assert narrow.returncode == 2 and b"4 bits need a width divisible by 32; the model's is 16" in narrow.stderr
    gpt2_here("quantize", wide, "--bits", 8, "-o", tmp_path / "q", check=True)
    twice = gpt2_here("quantize", tmp_path / "q", "--bits", 4, "-o", tmp_path / "r")
    assert twice.returncode == 2 and b"holds quantised weights" in twice.stderr
    again = gpt2_here("quantize", wide, "--bits", 8, "-o", tmp_path / "q")
    assert again.returncode == 2 and b"--force" in again.stderr
    gpt2_here("quantize", wide, "--bits", 4, "-o", tmp_path / "q", "--force", check=True)
    itself = gpt2_here("quantize", wide, "--bits", 4, "-o", wide, "--force")
    assert itself.returncode == 2 and (wide / "model.safetensors").is_file()


def test_a_damaged_digest_is_seen_before_anything_is_read(
    gpt2_here: Run, wide: Path, tmp_path: Path  # noqa: F811
) -> None:
    made = tmp_path / "q"
    gpt2_here("quantize", wide, "--bits", 8, "-o", made, check=True)
    data = bytearray((made / "quantised.safetensors").read_bytes())
    data[-1] ^= 1
    (made / "quantised.safetensors").write_bytes(data)
    result = gpt2_here("sample", made, "--prompt", "x", "--max-tokens", 2)
    assert result.returncode == 65 and b"its sha256 is not the manifest's" in result.stderr


def test_stopped_while_quantising_leaves_nothing(wide: Path, tmp_path: Path) -> None:
    class Impatient(Silent):
        def stopping(self) -> bool:
            return True

    with pytest.raises(Interrupted):
        quantise_model(QuantiseConfig(ModelChoice(str(wide)), 4, str(tmp_path / "q")), Impatient())
    assert not os.listdir(tmp_path)


def test_a_text_that_cannot_be_scored_is_told_before_anything_is_written(
    gpt2_here: Run, wide: Path, tmp_path: Path  # noqa: F811
) -> None:
    (tmp_path / "empty.txt").touch()
    done = gpt2_here("quantize", wide, "--bits", 8, "--text", tmp_path / "empty.txt", "-o", tmp_path / "q")
    assert done.returncode == 65 and b"there is no text to score" in done.stderr
    assert not (tmp_path / "q").exists()


def test_a_perplexity_beyond_all_numbers_is_said_and_not_made_up() -> None:
    form = Quantisation(8, None)

    def lines(before: float, after: float) -> dict[str, list[str]]:
        original, quantised = (Version(100, nll, "fp32", 10.0) for nll in (before, after))
        summary = QuantiseSummary(Path("q"), form, ModelShape(1, 1, 32, 16, 300), original, quantised, 10)
        return {line[:15].strip(): line[15:].split() for line in table(summary)}

    assert lines(3.0, 3.1)["perplexity"] == ["20.0855", "22.1980", "1.10517"]
    assert lines(700.5, 701.5)["perplexity"] == ["beyond", "count", "beyond", "count", "2.71828"]
    assert lines(3.0, 1e4)["perplexity"] == ["20.0855", "beyond", "count", "-"]
    assert lines(600.0, 3.0)["perplexity"] == ["3.773e+260", "20.0855", "0.00000"]
