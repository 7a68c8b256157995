"""--init-from: a run that begins with another model's weights, saved by transformers or left by a run of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from in_process import gpt2_here  # noqa: F401  (a fixture)
from runs_here import records_of
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2cli.errors import Gpt2Error, UsageFault
from gpt2cli.model.weights import read_config
from gpt2cli.records.provenance import file_sha256
from gpt2cli.records.shard_set import load_shard_set
from gpt2cli.sizes import SIZES
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.order import data_order
from gpt2cli.tokens.vocabulary import vocabulary_from_canonical
from gpt2cli.training.config import TrainOptions, resolve
from gpt2cli.training.initial_weights import InitialWeights

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
HOW = ("--batch-tokens", 128, "--dtype", "fp32", "--threads", 1, "--steps", 3, "--eval-tokens", 256)


@pytest.fixture(scope="module")
def theirs(shard_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that transformers made and saved, of 64 positions and some ids more than the vocabulary has."""
    torch.manual_seed(7)
    shards = load_shard_set(shard_directory)
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=64, vocab_size=shards.n_vocab + 8,
                                       bos_token_id=shards.eot, eos_token_id=shards.eot))
    directory = tmp_path_factory.mktemp("theirs") / "m"
    model.save_pretrained(directory)
    assert shards.vocabulary is not None
    write_tokenizer_files(vocabulary_from_canonical(shards.vocabulary, "shards"), directory)
    return directory


def test_the_first_loss_is_that_of_the_model_begun_with(
    gpt2_here: Run, shard_directory: Path, theirs: Path, tmp_path: Path  # noqa: F811
) -> None:
    run = tmp_path / "run"
    command = ("train", shard_directory, "--init-from", theirs, "--context", 32, *HOW, "-o", run)
    gpt2_here(*command, check=True)
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["init_from"] == file_sha256(theirs / "model.safetensors")
    assert (record["n_layer"], record["n_embd"], record["n_head"], record["n_ctx"]) == (2, 16, 2, 32)
    shards = load_shard_set(shard_directory)
    windows = data_order(0, shards.n_tokens("train"), 32).windows(0, 4)
    with shards.open("train") as tokens:
        rows = torch.stack([torch.tensor(tokens.read(w * 32, w * 32 + 33).astype("int64")) for w in windows.tolist()])
    model = GPT2LMHeadModel.from_pretrained(theirs).eval()
    with torch.no_grad():
        logits = model(rows[:, :-1]).logits[..., : shards.n_vocab]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
    assert records_of(run, "gpt2.step")[0]["loss_nats"] == pytest.approx(float(expected), rel=1e-5)
    again = gpt2_here(*command, check=True)
    assert b"already done" in again.stderr
    weights = load_file(run / "checkpoints/step-00000003/model.safetensors")
    assert weights["transformer.wpe.weight"].shape == (32, 16)


def test_bf16_weights_begin_with_all_bits_of_the_model(
    gpt2_here: Run, shard_directory: Path, theirs: Path, tmp_path: Path  # noqa: F811
) -> None:
    runs = tmp_path / "fp32", tmp_path / "bf16"
    command = ("train", shard_directory, "--init-from", theirs, *HOW, "--lr", 1e-30, "--weight-decay", 0)
    gpt2_here(*command, "-o", runs[0], check=True)
    gpt2_here(*command, "--dtype", "bf16", "--weights", "bf16", "-o", runs[1], check=True)
    first = [records_of(run, "gpt2.step")[0]["loss_nats"] for run in runs]
    assert first[1] == pytest.approx(first[0], rel=1e-3)
    kept, begun = (load_file(at / "model.safetensors") for at in (runs[1] / "checkpoints/step-00000003", theirs))
    for name, tensor in kept.items():
        assert torch.allclose(tensor, begun[name][: len(tensor)], rtol=0, atol=1e-20), name


def test_a_run_of_ours_is_begun_with_too_and_other_weights_are_another_run(
    gpt2_here: Run, shard_directory: Path, theirs: Path, tmp_path: Path  # noqa: F811
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    gpt2_here("train", shard_directory, "--init-from", theirs, "--context", 32, *HOW, "-o", first, check=True)
    gpt2_here("train", shard_directory, "--init-from", first, *HOW, "-o", second, check=True)
    runs = [json.loads((run / "run.json").read_text()) for run in (first, second)]
    assert runs[1]["n_ctx"] == 32 and runs[0]["run"] != runs[1]["run"]
    other = gpt2_here("train", shard_directory, "--init-from", theirs, "--context", 32, *HOW, "-o", second)
    assert other.returncode == 2 and b"init_from: '" in other.stderr


@pytest.mark.parametrize(("words", "says"), [
    (("--context", 128), b"knows 64 positions, and the context would be 128"),
    (("--layers", 3, "--embd", 16), b"holds a model of 2 layers, 16 wide, with 2 heads, and the options ask for 3, 16"),
    (("--size", "small"), b"the options ask for 12, 768 and 12; leave them out"),
])
def test_what_does_not_fit_is_refused_in_a_sentence(
    gpt2_here: Run, shard_directory: Path, theirs: Path, tmp_path: Path, words: tuple[object, ...],  # noqa: F811
    says: bytes,
) -> None:
    refused = gpt2_here("train", shard_directory, "--init-from", theirs, *words, *HOW, "-o", tmp_path / "run")
    assert refused.returncode == 2 and says in refused.stderr and not (tmp_path / "run").exists()


def test_another_tokenizer_is_refused(
    gpt2_here: Run, shard_directory: Path, theirs: Path, tmp_path: Path  # noqa: F811
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((theirs / name).read_bytes())
    from tiny_models import small_vocabulary

    write_tokenizer_files(small_vocabulary(), tmp_path)
    refused = gpt2_here("train", shard_directory, "--init-from", tmp_path, *HOW, "-o", tmp_path / "run")
    assert refused.returncode == 2 and b"encode the text with the model's own vocabulary" in refused.stderr


def test_a_published_size_keeps_its_name_and_learning_rate() -> None:
    initial = InitialWeights(Path("m"), SIZES["medium"], "f" * 64)
    made = resolve(TrainOptions(), n_vocab=50_257, train_tokens=10**8, native_bf16=False, initial=initial)
    assert (made.size, made.lr, made.n_ctx, made.init_from) == ("medium", 3e-4, 1024, "f" * 64)
    with pytest.raises(UsageFault, match="the options ask for 12"):
        resolve(TrainOptions(size="small"), n_vocab=50_257, train_tokens=10**8, native_bf16=False, initial=initial)


def test_a_checkpoint_that_its_run_let_go_of_meanwhile_is_told_so(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (checkpoint,) = (run / "checkpoints").iterdir()
    shape, _ = read_config(checkpoint)
    begun = InitialWeights(checkpoint, shape, "0" * 64)
    shutil.rmtree(checkpoint)
    with pytest.raises(Gpt2Error, match=r"step-00000010 is gone: the run that it was of has let go of it since"):
        begun.read(shape)
