"""Speculative decoding says what plain decoding says: the same text, or where a draft draws, the same distribution."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from chi_square import chi_square, critical
from tiny_models import lively_model, small_vocabulary

from gpt2cli.model.gpt2 import GPT2
from gpt2cli.model.weights import load_model
from gpt2cli.reporter import Silent
from gpt2cli.sampling.context import read_prompt
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.generate import Generator
from gpt2cli.sampling.producer import tell_speculation
from gpt2cli.sampling.proposals import PromptLookup
from gpt2cli.sampling.row import Row, Sample
from gpt2cli.sampling.speculative import Speculation, Speculator, Tally
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.encode import Encoder

ENCODER = Encoder(small_vocabulary())
TEXTS = ("The", "", "la la la la la la la")


@pytest.fixture(scope="module")
def model(model_directory: Path) -> GPT2:
    return load_model(model_directory).model


@pytest.fixture(scope="module")
def near(model: GPT2) -> GPT2:
    """A draft that often agrees with the model: the model, disturbed."""
    near = GPT2(model.shape).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for (_, theirs), (_, ours) in zip(near.named_parameters(), model.named_parameters(), strict=True):
            theirs.copy_(ours + 0.02 * torch.randn(ours.shape, generator=generator))
    return near


def both(model: GPT2, speculation: Speculation, decoding: Decoding) -> tuple[list[Sample], list[Sample], Tally]:
    prompts = [read_prompt(number, text.encode(), ENCODER, model.shape.n_ctx, decoding.max_tokens)
               for number, text in enumerate(TEXTS)]
    speculator = Speculator(model, ENCODER, decoding, speculation)
    fast = [speculator.sample(prompt, number) for prompt in prompts for number in range(2)]
    return fast, list(Generator(model, ENCODER).generate(prompts, 2, decoding)), speculator.tally


def said(samples: list[Sample]) -> list[tuple]:
    return [(sample.ids, sample.text, sample.finish_reason) for sample in samples]


@pytest.mark.parametrize("count", [1, 5])
def test_greedy_text_is_the_same_with_any_draft(model: GPT2, near: GPT2, count: int) -> None:
    for draft in (model, near, lively_model(ModelShape(1, 1, 8, 40, 500), seed=9)):
        for settings in ({}, {"repetition_penalty": 1.3, "frequency_penalty": 0.3}):
            fast, plain, tally = both(model, Speculation(count, draft), Decoding(25, 0.0, **settings))
            assert said(fast) == said(plain)
            assert 0 <= tally.accepted <= tally.proposed
            if draft is model:
                assert tally.accepted == tally.proposed > 0


@pytest.mark.parametrize("settings", [
    {"temperature": 0.0}, {"temperature": 0.3}, {"temperature": 0.6, "top_p": 0.9, "presence_penalty": 0.5},
    {"top_k": 3, "min_tokens": 5, "stop": ("e",)},
], ids=str)
def test_prompt_lookup_changes_no_text_at_any_temperature(model: GPT2, settings: dict) -> None:
    fast, plain, tally = both(model, Speculation(6), Decoding(**{"max_tokens": 30, "seed": 2, **settings}))
    assert said(fast) == said(plain)
    assert tally.verifications > 0


def test_prompt_lookup_pays_where_the_text_repeats_itself(model: GPT2) -> None:
    _, plain, tally = both(model, Speculation(6), Decoding(50, 0.0))
    assert len(set(plain[0].ids[-20:])) < 10, "greedy text of a random model runs in a circle"
    assert tally.tokens_each > 2.5


def test_logprobs_are_those_of_plain_decoding(model: GPT2, near: GPT2) -> None:
    fast, plain, _ = both(model, Speculation(3, near), Decoding(20, 0.0, logprobs=2))
    for ours, theirs in zip(fast, plain, strict=True):
        assert [entry.nats for entry in ours.logprobs] == pytest.approx([entry.nats for entry in theirs.logprobs],
                                                                        abs=1e-4)
        assert [[token for token, _ in entry.top] for entry in ours.logprobs] == [
            [token for token, _ in entry.top] for entry in theirs.logprobs]


def exact_distribution(model: GPT2, given: tuple[int, ...], k: int, length: int, temperature: float) -> dict:
    """The probability of every continuation that top-k leaves."""
    found: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(length):
        texts = list(found)
        logits = model.logits(model(torch.tensor([[*given, *text] for text in texts]))[:, -1]) / temperature
        best = logits.topk(k, dim=1)
        shares = best.values.double().softmax(1)
        found = {(*text, int(best.indices[row, place])): found[text] * float(shares[row, place])
                 for (row, text), place in itertools.product(enumerate(texts), range(k))}
    return found


@pytest.mark.parametrize("drafted", ["near", "far"])
@torch.inference_mode()
def test_draws_of_a_draft_have_the_models_distribution(model: GPT2, near: GPT2, drafted: str) -> None:
    """Whole texts of five tokens: the last three were proposed, judged, or drawn after a proposal failed."""
    draft = near if drafted == "near" else lively_model(ModelShape(1, 1, 8, 64, 500), seed=5)
    decoding = Decoding(5, 1.5, top_k=3 if drafted == "near" else 2, ignore_eot=True, seed=4)
    prompt = read_prompt(0, b"The", ENCODER, 64, 5)
    wanted = exact_distribution(model, prompt.ids, decoding.top_k or 0, 5, 1.5)
    speculator = Speculator(model, ENCODER, decoding, Speculation(2, draft, plain_steps=1))
    n = 400
    texts = [tuple(speculator.sample(prompt, number).ids) for number in range(n)]
    assert set(texts) <= set(wanted)
    probabilities = np.array(list(wanted.values()))
    counts = np.array([texts.count(text) for text in wanted])
    likely = probabilities * n >= 5
    counts = np.append(counts[likely], counts[~likely].sum())
    probabilities = np.append(probabilities[likely], probabilities[~likely].sum())
    keep = probabilities > 0
    assert chi_square(counts[keep], probabilities[keep]) < critical(int(keep.sum()) - 1)
    share = speculator.tally.accepted / speculator.tally.proposed
    assert 0.5 < share < 1 if drafted == "near" else share < 0.5


def test_a_sample_does_not_depend_on_those_before_it(model: GPT2, near: GPT2) -> None:
    decoding = Decoding(30, seed=3)
    prompt = read_prompt(0, b"The", ENCODER, 64, 30)
    many = Speculator(model, ENCODER, decoding, Speculation(3, near))
    assert [many.sample(prompt, number).ids for number in range(3)] == [
        Speculator(model, ENCODER, decoding, Speculation(3, near)).sample(prompt, number).ids for number in range(3)]


def test_the_end_of_the_context_is_the_end(model: GPT2, near: GPT2) -> None:
    decoding = Decoding(500, 0.0, ignore_eot=True)
    prompt = read_prompt(0, b"The", ENCODER, 64, 500)
    for draft in (None, near, model):
        sample = Speculator(model, ENCODER, decoding, Speculation(7, draft)).sample(prompt, 0)
        assert (len(prompt.ids) + len(sample.ids), sample.finish_reason) == (64, "length")


def test_lookup_takes_the_longest_and_latest_match() -> None:
    prompt = read_prompt(0, b"", ENCODER, 64, 30)
    row = Row(Sample(prompt, 0), Decoding(), ENCODER, 64)
    row.sample.ids += [1, 2, 3, 4, 9, 2, 3, 5, 8, 1, 2, 3]
    lookup = PromptLookup(4)
    assert lookup.propose(row, 10).ids == [4, 9, 2, 3], "after 1 2 3, though 2 3 stood later"
    assert lookup.propose(row, 2).ids == [4, 9]
    row.sample.ids += [7]
    assert lookup.propose(row, 10).ids == []
    row.sample.ids += [3]
    assert lookup.propose(row, 5).ids == [7, 3, 7, 3], "at most four, and the circle goes on"


def test_the_tally_says_whether_it_paid() -> None:
    tally = Tally(verifications=10, proposed=40, accepted=20, tokens=30, seconds=2.0, plain_steps=[0.1, 5.0, 0.1])
    assert tally.tokens_each == 3.0
    assert tally.speedup == pytest.approx(1.5)
    assert Tally().speedup is None


@pytest.mark.parametrize(("tally", "words"), [
    (Tally(verifications=10, proposed=40, accepted=20, tokens=30, seconds=2.0, plain_steps=[0.1]),
     "20 of 40 proposed tokens accepted, 3.0 tokens a verification: about 1.5 times as fast as without it"),
    (Tally(verifications=10, proposed=40, accepted=2, tokens=12, seconds=2.4, plain_steps=[0.1]),
     "2 of 40 proposed tokens accepted, 1.2 tokens a verification: it did not pay, plain decoding would have been "
     "about 2.0 times as fast"),
    (Tally(), "nothing was proposed; without it the same is made with less ado"),
])
def test_what_speculation_brought_is_said_plainly(tally: Tally, words: str) -> None:
    reporter = Silent()
    tell_speculation(tally, reporter)
    assert reporter.notes == [f"speculation: {words}"]
