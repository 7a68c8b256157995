"""Validation inside a run: summed nll over a fixed token set, the same number for every batch size."""

from __future__ import annotations

import math
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from gpt2cli.errors import Interrupted, OutOfMemory, allocations_told
from gpt2cli.model.device import DTYPES
from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.nll import token_nll
from gpt2cli.reporter import Reporter
from gpt2cli.training.batches import ValidationSet
from gpt2cli.training.precision import autocast
from gpt2cli.training.ranks import ALONE, Ranks


def validate(
    model: GPT2, validation: ValidationSet, micro_batch: int, dtype: str, reporter: Reporter, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Return the fields of gpt2.eval/1 that a model and a token set determine. nll in nats a token.

    The ranks divide the windows among them. The standard error is over windows, since neighbouring tokens are not
    independent; null for a single window. Raises Interrupted when asked to stop, and OutOfMemory, on all ranks alike.
    """
    groups = list(validation.windows(micro_batch))
    lengths = [targets.shape[1] for _, targets in groups for _ in targets]
    nlls: dict[int, float] = {}
    fault: Interrupted | OutOfMemory | None = None
    try:
        with ranks.watched(), allocations_told():
            _score(model, groups, dtype, reporter, ranks, nlls)
    except (Interrupted, OutOfMemory) as error:
        fault = error
    sums = list(zip(ranks.settle(nlls, len(lengths), fault), lengths, strict=True))
    total, count = math.fsum(nll for nll, _ in sums), validation.n_tokens
    mean = total / count
    return {
        "nll_nats_per_token": mean,
        "stderr": _standard_error(sums, mean, count),
        "ppl": math.exp(mean) if mean < 700.0 else None,
        "bits_per_byte": total / math.log(2) / validation.n_bytes if validation.n_bytes else None,
        "n_tokens": count, "n_bytes": validation.n_bytes, "val_sha256": validation.sha256,
    }


def _score(
    model: GPT2, groups: list[tuple[Tensor, Tensor]], dtype: str, reporter: Reporter, ranks: Ranks,
    nlls: dict[int, float],
) -> None:
    """Put the summed nll of every window of this rank's share of `groups` into `nlls`, by the window's number."""
    device = next(model.parameters()).device
    mine = ranks.rounds(len(groups))
    first_rows = list(accumulate((len(targets) for _, targets in groups), initial=0))
    weight: Tensor | None = None
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            inputs = (groups[number][0].to(device) for number in mine)
            all_hidden = ranks.hidden_states(inputs, partial(_hidden, model, dtype), reporter.stopping)
            for done, (number, hidden) in enumerate(zip(mine, all_hidden, strict=True), 1):
                reporter.progress(done, len(mine), "validation batches")
                if hidden is None:
                    continue
                if weight is None:  # which a sharded model has only once it computes
                    weight = model.wte.weight.to(DTYPES[dtype])
                targets = groups[number][1].to(device)
                nll = token_nll(hidden.flatten(0, 1).to(weight.dtype), weight, targets.flatten())
                for row, total in enumerate(nll.view(targets.shape).double().sum(1), first_rows[number]):
                    nlls[row] = float(total)
    finally:
        model.train(was_training)
        ranks.after_evaluation(model)


def _hidden(model: GPT2, dtype: str, inputs_BT: Tensor) -> Tensor:
    with autocast(inputs_BT.device, dtype, model.wte.weight.dtype):
        hidden_BTC: Tensor = model(inputs_BT)
    return hidden_BTC


def _standard_error(sums: list[tuple[float, int]], mean: float, count: int) -> float | None:
    if len(sums) < 2:
        return None
    squares = math.fsum((nll - n * mean) ** 2 for nll, n in sums)
    return math.sqrt(squares * len(sums) / (len(sums) - 1)) / count
