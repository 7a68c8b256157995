"""The sampler: exact distribution, one stream a sample, and nothing that depends on the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from chi_square import chi_square, critical
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.sampling.picking import draw_weighted
from gpt2cli.sampling.streams import SampleStream


def numbers(seed: int, prompt: int, sample: int, count: int = 5) -> list[float]:
    stream = SampleStream(seed, prompt, sample)
    return [stream.uniform() for _ in range(count)]


def test_a_stream_is_a_function_of_seed_prompt_and_sample_alone() -> None:
    assert numbers(7, 3, 2) == numbers(7, 3, 2)
    streams = [tuple(numbers(seed, prompt, sample)) for seed in (0, 1, 2**63 - 1) for prompt in range(5)
               for sample in range(5)]
    assert len(set(streams)) == 75
    assert len({number for stream in streams for number in stream}) == 375


def test_the_numbers_do_not_change_with_versions() -> None:
    known = np.random.Philox(key=0, counter=np.full(4, 2**64 - 1, dtype=np.uint64))  # Random123's known answer
    assert [f"{int(known.random_raw()):x}" for _ in range(2)] == ["16554d9eca36314c", "db20fe9d672d0fdc"]
    assert [number.hex() for number in numbers(0, 0, 0, 2)] == ["0x1.7a5d3204726c0p-7", "0x1.eeb1585ce5460p-3"]
    assert [number.hex() for number in numbers(7, 3, 2, 2)] == ["0x1.06fa873788e9ap-1", "0x1.daeb2ad8dd61cp-3"]


def test_uniforms_are_uniform() -> None:
    drawn = np.array(numbers(1, 0, 0, 50_000))
    assert drawn.min() >= 0 and drawn.max() < 1
    counts = np.histogram(drawn, bins=50, range=(0, 1))[0]
    assert chi_square(counts, np.full(50, 1 / 50)) < critical(49)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


def test_tokens_are_drawn_with_their_probabilities() -> None:
    logits = torch.randn(40, generator=torch.Generator().manual_seed(3))
    logits[[4, 17]] = -torch.inf
    probabilities = logits.double().softmax(0).numpy()
    weights = logits.softmax(0)
    drawn = [draw_weighted(weights, number) for number in numbers(9, 0, 0, 20_000)]
    counts = np.bincount(drawn, minlength=40)
    assert counts[4] == counts[17] == 0
    kept = probabilities > 0
    assert chi_square(counts[kept], probabilities[kept]) < critical(int(kept.sum()) - 1)


def test_samples_of_one_step_are_independent_across_streams() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    firsts = [SampleStream(5, prompt, sample).uniform() for prompt in range(100) for sample in range(200)]
    drawn = [draw_weighted(probabilities, number) for number in firsts]
    assert chi_square(np.bincount(drawn, minlength=3), probabilities.numpy()) < critical(2)


@given(st.lists(st.floats(-60, 60), min_size=1, max_size=30), st.floats(0, 1, exclude_max=True),
       st.sets(st.integers(0, 29)))
def test_a_draw_is_always_a_token_of_positive_probability(values: list[float], u: float, banned: set[int]) -> None:
    logits = torch.tensor([values])
    for index in banned:
        if index < len(values) - 1:
            logits[0, index] = -torch.inf
    token = draw_weighted(logits[0].softmax(0), u)
    assert 0 <= token < len(values)
    assert float(logits.softmax(1)[0, token]) > 0


@pytest.mark.parametrize("u", [0.0, 1 - 2**-53])
def test_the_ends_of_the_interval_draw_the_ends_of_what_is_kept(u: float) -> None:
    logits = torch.full((50_257,), -torch.inf)
    logits[100:200] = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert draw_weighted(logits.softmax(0), u) == (100 if u == 0 else 199)
