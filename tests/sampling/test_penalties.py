"""Penalties against transformers (repetition) and OpenAI's published formula (presence, frequency)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from gpt2cli.errors import BadInput
from gpt2cli.sampling.choose import Chooser
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.penalties import penalise_counts, penalise_repetition
from gpt2cli.sampling.streams import SampleStream

LOGITS = torch.randn(100, generator=torch.Generator().manual_seed(0)) * 3
SAID = [3, 99, 3, 0, 41, 3, 0]


@dataclass
class Text:
    given: list[int]
    made: list[int]
    stream: SampleStream = field(default_factory=lambda: SampleStream(0, 0, 0))


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.2, 3.0])
def test_repetition(penalty: float) -> None:
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([SAID]), LOGITS[None])[0]
    assert torch.equal(penalise_repetition(LOGITS, SAID, penalty), theirs)


@pytest.mark.parametrize(("presence", "frequency"), [(0.5, 0.0), (0.0, 0.7), (1.5, -0.2)])
def test_presence_and_frequency_are_openais_formula(presence: float, frequency: float) -> None:
    found = penalise_counts(LOGITS, SAID, presence, frequency)
    for token in range(100):
        count = SAID.count(token)
        expected = float(LOGITS[token]) - count * frequency - float(count > 0) * presence
        assert float(found[token]) == pytest.approx(expected, abs=1e-6)


def test_repetition_counts_the_prompt_and_the_others_the_continuation_alone() -> None:
    decoding = Decoding(repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2)
    scores = Chooser(decoding, 100, 99).scores(LOGITS[None], [Text([5, 6], [7, 7])])[0]
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([[5, 6, 7]]), LOGITS[None])[0].clone()
    expected[7] -= 0.4 + 2 * 0.2
    assert torch.allclose(scores, expected, atol=1e-6)


def test_each_row_has_its_own_past_and_logits_are_left_as_they_were() -> None:
    before, rows = LOGITS.clone(), [Text([1], [2, 3]), Text([4, 5], []), Text([1], [9])]
    chooser = Chooser(Decoding(repetition_penalty=1.3, frequency_penalty=0.2, min_tokens=1), 100, 99)
    together = chooser.scores(LOGITS.expand(3, -1), rows)
    assert torch.equal(together, torch.cat([chooser.scores(LOGITS[None], [row]) for row in rows]))
    assert torch.equal(LOGITS, before)
    assert together[:, 99].isfinite().tolist() == [True, False, True], "end-of-text is banned where there is no token"


def test_greedy_takes_the_best_that_is_left() -> None:
    best, second = LOGITS.topk(2).indices.tolist()
    chooser = Chooser(Decoding(temperature=0.0, presence_penalty=50.0), 100, 99)
    assert chooser.choose(LOGITS.expand(2, -1), [Text([], []), Text([], [best])]) == [best, second]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused(broken: float, temperature: float) -> None:
    logits = LOGITS.clone()
    logits[50] = broken
    with pytest.raises(BadInput, match="not finite"):
        Chooser(Decoding(temperature=temperature), 100, 99).choose(logits[None], [Text([], [])])
