"""Validation inside a run: summed nll over a fixed token set, the same number for every batch size."""

from __future__ import annotations

import math
from typing import Any

import torch

from gpt2cli.errors import Interrupted
from gpt2cli.model.device import DTYPES
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.nll import token_nll
from gpt2cli.reporter import Reporter
from gpt2cli.training.batches import ValidationSet
from gpt2cli.training.precision import autocast


def validate(
    model: GPT2, validation: ValidationSet, micro_batch: int, dtype: str, reporter: Reporter
) -> dict[str, Any]:
    """Return the fields of gpt2.eval/1 that a model and a token set determine. nll in nats a token.

    The standard error is over windows, since neighbouring tokens are not independent; null for a single window.
    Raises Interrupted when asked to stop.
    """
    device = model.wte.weight.device
    was_training = model.training
    model.eval()
    sums: list[tuple[float, int]] = []
    try:
        with torch.no_grad():
            weight = model.wte.weight.to(DTYPES[dtype])
            for inputs, targets in validation.windows(micro_batch):
                if reporter.stopping():
                    raise Interrupted
                with autocast(device, dtype):
                    hidden = model(inputs.to(device))
                nll = token_nll(hidden.flatten(0, 1).to(weight.dtype), weight, targets.to(device).flatten())
                rows = nll.view(targets.shape).double().sum(1)
                sums += [(float(total), targets.shape[1]) for total in rows]
                reporter.progress(sum(n for _, n in sums), validation.n_tokens, "validation tokens")
    finally:
        model.train(was_training)
    total, count = math.fsum(nll for nll, _ in sums), validation.n_tokens
    mean = total / count
    return {
        "nll_nats_per_token": mean,
        "stderr": _standard_error(sums, mean, count),
        "ppl": math.exp(min(mean, 700.0)),
        "bits_per_byte": total / math.log(2) / validation.n_bytes if validation.n_bytes else None,
        "n_tokens": count, "n_bytes": validation.n_bytes, "val_sha256": validation.sha256,
    }


def _standard_error(sums: list[tuple[float, int]], mean: float, count: int) -> float | None:
    if len(sums) < 2:
        return None
    squares = math.fsum((nll - n * mean) ** 2 for nll, n in sums)
    return math.sqrt(squares * len(sums) / (len(sums) - 1)) / count
