"""What a run says before it starts: where it goes on, what a step and the whole of it will take."""

from __future__ import annotations

import torch

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.reporter import Reporter
from gpt2cli.training.batches import TrainingBatches
from gpt2cli.training.config import TrainConfig
from gpt2cli.training.noise_scale import extra_micro_batches
from gpt2cli.training.position import Position
from gpt2cli.training.ranks import Ranks
from gpt2cli.training.step import seconds_per_micro_batch


def announce(
    model: GPT2, batches: TrainingBatches, config: TrainConfig, step: int, ranks: Ranks, reporter: Reporter
) -> None:
    """Time one micro-batch and say how long a step and those after `step` will take."""
    count = config.micro_batches
    most = ranks.times_one(-(-count // ranks.replicas)) + extra_micro_batches(config) / ranks.replicas
    step_seconds = most * seconds_per_micro_batch(model, batches, config, step + 1, ranks)
    device = next(model.parameters()).device
    where = f"{device.type} by {ranks.world} ranks" if ranks.world > 1 else device
    reporter.note(
        f"{config.shape.n_params:,} parameters, {config.dtype} on {where}; a step of "
        f"{config.batch_tokens:,} tokens ({count} micro-batches of {config.micro_batch} sequences) takes about "
        f"{_duration(step_seconds)}, the {config.steps - step} steps about "
        f"{_duration(step_seconds * (config.steps - step))}"
    )


def compare_machine(
    position: Position, device: torch.device, config: TrainConfig, ranks: Ranks, reporter: Reporter
) -> None:
    """Warn when a checkpoint was written under other conditions, which may change bits."""
    there = [f"{position.threads} threads", f"on {position.device}", f"by torch {position.torch}"]
    here = [f"{torch.get_num_threads()} threads", f"on {device.type}", f"by torch {torch.__version__}"]
    if not config.deterministic:
        there[0] += f" on each of {position.ranks} ranks" if (position.ranks or 1) > 1 else ""
        here[0] += f" on each of {ranks.world} ranks" if ranks.world > 1 else ""
    if here != there:
        reporter.warn(f"bits may differ: the checkpoint was written with {' '.join(there)}, now it is {' '.join(here)}")


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
