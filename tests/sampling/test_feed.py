"""Feeds with rows of different lengths give what `transformers` gives with left padding and each row alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tiny_models import lively_model

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.sampling.feed import CachedFeed, WholeFeed
from gpt2cli.sizes import ModelShape

SHAPE = ModelShape(2, 2, 16, 64, 500)
PROMPTS = [(5, 7, 11), (3,), (400, 20, 1, 2, 3, 4, 9), (5, 7, 11), (8, 8)]


@pytest.fixture(scope="module")
def model() -> GPT2:
    return lively_model(SHAPE, seed=2).requires_grad_(False)


def _alone(model: GPT2, ids: list[int]) -> torch.Tensor:
    return model.logits(model(torch.tensor([ids])))[0]


@pytest.mark.parametrize("feed", [CachedFeed, WholeFeed])
def test_any_walk_is_what_each_row_gives_alone(model: GPT2, feed: type[CachedFeed] | type[WholeFeed]) -> None:
    """Steps that keep, move and repeat rows, extensions and rewinds: lengths and logits stay those of the rows."""
    chance = random.Random(4)
    state, rows = feed(model, PROMPTS, 64), [list(prompt) for prompt in PROMPTS]
    for _ in range(40):
        kind = chance.choice(["step", "extend", "rewind"])
        if kind == "step":
            kept = [chance.randrange(len(rows)) for _ in range(chance.randint(1, 6))]
            ids = [chance.randrange(500) for _ in kept]
            state.step(ids, kept)
            rows = [[*rows[row], token] for row, token in zip(kept, ids, strict=True)]
        elif kind == "extend":
            new = torch.randint(500, (len(rows), chance.randint(1, 4)))
            found = state.extend(new)
            rows = [row + more for row, more in zip(rows, new.tolist(), strict=True)]
            for row, logits_TV in zip(rows, found, strict=True):
                expected = _alone(model, row)[-new.shape[1] :]
                torch.testing.assert_close(logits_TV, expected, rtol=1e-4, atol=1e-4)
            back = [len(row) - chance.randrange(new.shape[1]) for row in rows]
            state.rewind(back)
            rows = [row[:length] for row, length in zip(rows, back, strict=True)]
        else:
            back = [chance.randint(1, min(len(row), 20)) for row in rows]
            state.rewind(back)
            rows = [row[:length] for row, length in zip(rows, back, strict=True)]
            state.step([1] * len(rows), range(len(rows)))
            rows = [[*row, 1] for row in rows]
        assert state.lengths == [len(row) for row in rows]
        for row, logits_V in zip(rows, state.logits_BV, strict=True):
            torch.testing.assert_close(logits_V, _alone(model, row)[-1], rtol=1e-4, atol=1e-4)


def test_greedy_ids_and_logits_are_those_of_transformers_with_left_padding(model_directory: Path, model: GPT2) -> None:
    from transformers import GPT2LMHeadModel

    theirs = GPT2LMHeadModel.from_pretrained(model_directory)
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in PROMPTS])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    made = theirs.generate(ids, attention_mask=mask, max_new_tokens=40, do_sample=False, pad_token_id=0,
                           eos_token_id=None, output_logits=True, return_dict_in_generate=True)
    state = CachedFeed(model, PROMPTS, 64)
    for number, logits_BV in enumerate(made.logits):
        torch.testing.assert_close(state.logits_BV, logits_BV, rtol=1e-4, atol=1e-4)
        chosen = state.logits_BV.argmax(dim=1).tolist()
        assert chosen == made.sequences[:, width + number].tolist()
        state.step(chosen, range(len(chosen)))


def test_rewinding_beyond_what_was_read_last_has_no_logits_until_the_next_token(model: GPT2) -> None:
    state = CachedFeed(model, PROMPTS[:1], 64)
    state.extend(torch.tensor([[1, 2]]))
    state.rewind([2])
    with pytest.raises(ValueError, match="rewound beyond"):
        _ = state.logits_BV
    with pytest.raises(ValueError, match="cannot be rewound to"):
        state.rewind([3])
    state.step([9], [0])
    torch.testing.assert_close(state.logits_BV[0], _alone(model, [5, 7, 9])[-1], rtol=1e-4, atol=1e-4)


def test_a_feed_goes_on_where_it_was_rewound_to(model: GPT2) -> None:
    state = CachedFeed(model, PROMPTS[:2], 64)
    before = state.logits_BV.clone()
    found = state.extend(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    state.rewind([4, 2])
    torch.testing.assert_close(state.logits_BV, torch.stack([found[0, 0], found[1, 0]]))
    assert not torch.equal(state.logits_BV, before)
