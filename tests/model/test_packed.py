"""Sequences end to end give what the network gives on each."""

from __future__ import annotations

import torch
from tiny_models import lively_model

from gpt2cli.model.packed import hidden_states
from gpt2cli.sizes import ModelShape

MODEL = lively_model(ModelShape(3, 2, 16, 32, 500))


def test_sequences_end_to_end_are_the_model_on_each() -> None:
    generator = torch.Generator().manual_seed(1)
    runs = [(2, 32), (3, 7), (1, 1)]
    sequences = [torch.randint(0, 500, (length,), generator=generator) for count, length in runs for _ in range(count)]
    expected = torch.cat([MODEL(sequence[None])[0] for sequence in sequences])
    ids = torch.cat(sequences)
    torch.testing.assert_close(hidden_states(MODEL, ids, runs), expected, rtol=1e-4, atol=1e-4)
    wanted = torch.tensor([0, 31, 40, 64, 85])
    torch.testing.assert_close(hidden_states(MODEL, ids, runs, wanted), expected[wanted], rtol=1e-4, atol=1e-4)
