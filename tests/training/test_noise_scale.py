"""Gradient noise: against gradients made one by one by transformers, and a run that does not notice the measuring."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import gpt2_here  # noqa: F401  (a fixture)
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2cli.errors import Interrupted, UsageFault
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.scaling.critical_batch import FIELDS, estimate
from gpt2cli.tokens.order import data_order
from gpt2cli.training.batches import TrainingBatches
from gpt2cli.training.branch import branch_config
from gpt2cli.training.config import TrainConfig, TrainOptions, resolve
from gpt2cli.training.noise_scale import SEQUENCES, extra_micro_batches, measurement, sequence_norm_squared
from gpt2cli.training.step import batch_gradient

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
T = 16
SETTINGS = ("--layers", 1, "--embd", 16, "--context", 32, "--batch-tokens", 256, "--dtype", "fp32", "--threads", 1,
            "--eval-tokens", 512, "--eval-every", 100)


class Stream:
    """Tokens in memory, of unequal difficulty along the way."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.ids = (rng.integers(0, 3, 8_000).cumsum() % 61).astype(np.uint16)
        self.ids[5_000:] = rng.integers(0, 61, 3_000)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.ids[start:stop]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def config(**options: object) -> TrainConfig:
    asked = {"layers": 2, "embd": 16, "heads": 2, "context": T, "batch_tokens": 12 * T, "steps": 50, "noise_every": 2}
    return resolve(TrainOptions(**{**asked, **options}), n_vocab=61, train_tokens=8_000, native_bf16=False)  # type: ignore[arg-type]


def started(settings: TrainConfig) -> tuple[GPT2, TrainingBatches]:
    model = GPT2(settings.shape, settings.dropout)
    model.initialise(settings.seed)
    return model.train(), TrainingBatches(Stream(), n_ctx=T, batch=settings.batch, micro_batch=settings.micro_batch,
                                          seed=settings.seed, device=torch.device("cpu"))


def never() -> bool:
    return False


def gradients_one_by_one(model: GPT2, settings: TrainConfig, step: int) -> np.ndarray:
    """Return (B, parameters) in fp64: of each sequence of the step its mean nll's gradient, by transformers."""
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=61, n_positions=T, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0,
                                        embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0))
    theirs.transformer.load_state_dict(model.state_dict())
    theirs.double()
    stream, rows = Stream(), []
    for i in data_order(settings.seed, 8_000, T).windows((step - 1) * settings.batch, settings.batch):
        ids = torch.from_numpy(stream.ids[i * T : i * T + T + 1].astype(np.int64))
        theirs.zero_grad()
        torch.nn.functional.cross_entropy(theirs(ids[None, :-1]).logits[0], ids[1:]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in theirs.parameters()]).numpy())
    return np.stack(rows)


def test_it_is_the_variance_of_gradients_made_one_by_one() -> None:
    """Where every sequence of the batch is measured, the estimates are those of a sample of vectors, exactly."""
    settings = config()
    model, batches = started(settings)
    expected = gradients_one_by_one(model, settings, 3)
    assert (expected**2).sum(1).std() > 0.05 * (expected**2).sum(1).mean(), "the sequences differ"
    squared = sequence_norm_squared(model, batches, 3, settings, never)
    batch_gradient(model, batches, 3, settings, lambda tokens, nll: False)
    norm = float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
    found = measurement(settings, squared, norm)
    assert tuple(found.as_fields()) == FIELDS
    assert (found.batch_tokens_small, found.batch_tokens_large) == (T, 12 * T)
    assert found.grad_sq_small == pytest.approx((expected**2).sum(1).mean(), rel=1e-5)
    assert found.grad_sq_large == pytest.approx((expected.mean(0) ** 2).sum(), rel=1e-5)
    true_squared, trace = estimate(*(float(value) for value in found.as_fields().values()))
    variance = expected.var(axis=0, ddof=1).sum()
    assert trace == pytest.approx(T * variance, rel=1e-4)
    assert true_squared == pytest.approx((expected.mean(0) ** 2).sum() - variance / 12, rel=1e-4)


@pytest.mark.parametrize("micro_batch", [1, 5, 12])
def test_the_micro_batch_has_no_say(micro_batch: int) -> None:
    model, batches = started(config())
    reference = sequence_norm_squared(model, batches, 2, config(), never)
    settings = config(micro_batch=micro_batch)
    model, batches = started(settings)
    assert sequence_norm_squared(model, batches, 2, settings, never) == reference


def test_the_batch_that_follows_is_whole_and_its_gradient_the_same() -> None:
    settings = config(micro_batch=5, dropout=0.1)
    plain, batches = started(settings)
    loss = batch_gradient(plain, batches, 1, settings, lambda tokens, nll: False)
    model, batches = started(settings)
    sequence_norm_squared(model, batches, 1, settings, never)
    assert all(p.grad is None for p in model.parameters())
    assert batch_gradient(model, batches, 1, settings, lambda tokens, nll: False) == loss
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(model.parameters(), plain.parameters(), strict=True))
    assert sequence_norm_squared(model, batches, 2, settings, never) == sequence_norm_squared(
        *started_like(model, settings), 2, settings, never), "dropout's masks come from the seed and the step"


def started_like(model: GPT2, settings: TrainConfig) -> tuple[GPT2, TrainingBatches]:
    copy, batches = started(settings)
    copy.load_state_dict(model.state_dict())
    torch.manual_seed(99)
    return copy, batches


def test_of_a_large_batch_a_sample_is_measured() -> None:
    settings = config(batch_tokens=40 * T, micro_batch=3)
    model, batches = started(settings)
    seen: list[None] = []
    squared = sequence_norm_squared(model, batches, 1, settings, lambda: seen.append(None) is not None)
    assert len(seen) == SEQUENCES == 16
    expected = (gradients_one_by_one(model, settings, 1)[:16] ** 2).sum(1).mean()
    assert squared == pytest.approx(expected, rel=1e-5)
    assert extra_micro_batches(settings) == pytest.approx(16 / 3 / 2)


def test_a_wish_to_stop_is_obeyed_within_one_sequence() -> None:
    settings = config()
    model, batches = started(settings)
    with pytest.raises(Interrupted):
        sequence_norm_squared(model, batches, 1, settings, lambda: True)
    assert all(p.grad is None for p in model.parameters())


def test_a_batch_of_one_sequence_is_refused() -> None:
    with pytest.raises(UsageFault, match=f"one sequence; that needs --batch-tokens of at least {2 * T}"):
        config(batch_tokens=T)
    alone = config(batch_tokens=T, noise_every=0, schedule="wsd", decay_tokens=0)
    with pytest.raises(UsageFault, match="one sequence"):
        branch_config(alone, 10, None, noise_every=5)


def metrics(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]


def weights(run: Path, step: int) -> list[bytes]:
    place = run / "checkpoints" / f"step-{step:08d}"
    return [(place / name).read_bytes() for name in ("model.safetensors", "training/optimizer.safetensors")]


def test_a_run_does_not_notice_the_measuring(gpt2_here: Run, shard_directory: Path, tmp_path: Path) -> None:  # noqa: F811
    """Stopped and gone on with, it has the bytes of one that was not, and the training of one that did not measure."""
    plain, whole, parts = tmp_path / "plain", tmp_path / "whole", tmp_path / "parts"
    command = ("train", shard_directory, *SETTINGS, "--steps", 8, "--dropout", 0.1)
    gpt2_here(*command, "-o", plain, check=True)
    gpt2_here(*command, "--noise-every", 3, "-o", whole, check=True)
    assert gpt2_here(*command, "--noise-every", 3, "-o", parts, "--max-time", 1e-9).returncode == 75
    assert gpt2_here(*command, "--noise-every", 3, "-o", parts).returncode == 0
    for name in ("metrics.jsonl", "run.json", "manifest.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert weights(plain, 8) == weights(whole, 8) == weights(parts, 8)
    measured = [record for record in metrics(whole) if FIELDS[0] in record]
    assert [record["step"] for record in measured] == [3, 6]
    assert all(record["grad_sq_large"] == float(str(record["grad_norm"])) ** 2 for record in measured)
    without = [{name: value for name, value in record.items() if name not in FIELDS} for record in metrics(whole)]
    assert without[0].pop("config")["noise_every"] == 3
    bare = metrics(plain)
    assert bare[0].pop("config")["noise_every"] == 0
    assert without == bare, "the run's name too"


def test_another_interval_is_another_metrics_file(gpt2_here: Run, shard_directory: Path, tmp_path: Path) -> None:  # noqa: F811
    run = tmp_path / "run"
    command = ("train", shard_directory, *SETTINGS, "--steps", 6, "-o", run)
    assert gpt2_here(*command, "--max-time", 1e-9).returncode == 75
    refused = gpt2_here(*command, "--noise-every", 2)
    assert refused.returncode == 2 and b"noise_every: 0 there, 2 asked" in refused.stderr
    record = json.loads((run / "run.json").read_bytes())
    del record["config"]["noise_every"]
    (run / "run.json").write_text(json.dumps(record) + "\n")
    assert gpt2_here(*command, "--max-time", 1e-9).returncode == 75, "what earlier versions began"
    assert gpt2_here(*command, "--noise-every", 2, "--override").returncode == 0
    assert [record["step"] for record in metrics(run) if FIELDS[0] in record] == [4, 6]


def test_from_training_to_the_critical_batch(gpt2_here: Run, shard_directory: Path, tmp_path: Path) -> None:  # noqa: F811
    """A trunk and its branch measure; `fit-scaling batch` reads the run's directory and tells both runs apart."""
    trunk, branch = tmp_path / "trunk", tmp_path / "branch"
    gpt2_here("train", shard_directory, *SETTINGS, "--steps", 12, "--schedule", "wsd", "--decay-tokens", 0,
              "--checkpoint-every", 8, "--noise-every", 1, "-o", trunk, check=True)
    gpt2_here("train", shard_directory, "--branch-from", trunk, "--at", 8, "--decay-tokens", 512, "--noise-every", 2,
              "--threads", 1, "-o", branch, check=True)
    result = gpt2_here("fit-scaling", "batch", trunk, branch, "--batch-tokens", 256, check=True)
    first, second, _ = map(json.loads, result.stdout.splitlines())
    assert (first["measurements"], second["measurements"]) == (12, 1)
    assert first["run"] != second["run"] and (first["step"], second["step"]) == (12, 10)
    pairs = [estimate(*(float(str(record[name])) for name in FIELDS)) for record in metrics(trunk)
             if FIELDS[0] in record]
    age = 0.5 ** np.arange(11, -1, -1.0)  # a run so short has a half-life of one measurement
    squared, trace = (float(np.average(column, weights=age)) for column in zip(*pairs, strict=True))
    assert first["critical_batch_tokens"] == pytest.approx(trace / squared)
    assert first["batches"][0]["steps_factor"] == pytest.approx(1 + trace / squared / 256)


def test_dry_run_says_what_measuring_costs(gpt2_here: Run, shard_directory: Path, tmp_path: Path) -> None:  # noqa: F811
    command = ("train", shard_directory, "--context", 64, "--batch-tokens", 32_768, "--steps", 9, "--dry-run")
    text = gpt2_here(*command, "--noise-every", 4, "-o", tmp_path / "run", check=True).stdout.decode()
    assert "every 4 steps by 16 sequences that are computed twice: 0.78% more work" in text
    assert "noise" not in gpt2_here(*command, "-o", tmp_path / "run", check=True).stdout.decode()
