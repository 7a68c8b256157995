"""Generation against transformers.generate, and the same text whatever the batch, the cache or the company."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from chi_square import chi_square, critical
from tiny_models import lively_model, small_vocabulary
from transformers import GPT2LMHeadModel, RepetitionPenaltyLogitsProcessor

from gpt2cli.model.weights import load_model
from gpt2cli.sampling.context import Prompt, read_prompt
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.filters import apply_filters
from gpt2cli.sampling.generate import Generator
from gpt2cli.sampling.row import Sample
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.encode import Encoder

TEXTS = ("The", "Once upon a time", "", "It is a truth universally acknowledged", "A", "Call me Ishmael.", "On", "By")


@functools.cache
def parts(directory: Path) -> tuple:
    return load_model(directory).model, Encoder(small_vocabulary())


def made(directory: Path, texts: tuple[str, ...] = TEXTS, n: int = 1, *, use_cache: bool = True, batch: int = 8,
         **decoding) -> list[Sample]:
    model, encoder = parts(directory)
    asked = Decoding(**{"max_tokens": 20, **decoding})
    prompts = [read_prompt(i, text.encode(), encoder, model.shape.n_ctx, asked.max_tokens)
               for i, text in enumerate(texts)]
    return list(Generator(model, encoder, use_cache=use_cache, batch=batch).generate(prompts, n, asked))


def test_greedy_ids_are_those_of_transformers(model_directory: Path) -> None:
    theirs = GPT2LMHeadModel.from_pretrained(model_directory).eval()
    encoder = parts(model_directory)[1]
    for sample in made(model_directory, temperature=0.0, max_tokens=40):
        ids = encoder.encode(sample.prompt.text.decode()).tolist() or [499]
        expected = theirs.generate(torch.tensor([ids]), max_new_tokens=40, do_sample=False, pad_token_id=499,
                                   attention_mask=torch.ones(1, len(ids)))[0, len(ids):].tolist()
        if 499 in expected:
            expected = expected[: expected.index(499)]
        assert sample.ids == expected
        assert sample.text == encoder.decode(expected)


@pytest.mark.parametrize("settings", [{}, {"top_k": 20}, {"top_p": 0.8, "temperature": 0.7}, {"temperature": 0.0}])
def test_the_text_does_not_depend_on_the_batch_or_the_cache(model_directory: Path, settings: dict) -> None:
    alone = made(model_directory, n=3, batch=1, **settings)
    assert [(s.prompt.number, s.number) for s in alone] == [(j, i) for j in range(len(TEXTS)) for i in range(3)]
    for batch, use_cache in ((8, True), (5, True), (1, False), (8, False)):
        other = made(model_directory, n=3, batch=batch, use_cache=use_cache, **settings)
        assert [(s.ids, s.text, s.finish_reason) for s in other] == [(s.ids, s.text, s.finish_reason) for s in alone]


def test_a_sample_does_not_depend_on_its_company(model_directory: Path) -> None:
    both, more = made(model_directory, TEXTS[:2]), made(model_directory, TEXTS[:2], n=4)
    assert both[0].ids == more[0].ids and both[1].ids == more[4].ids
    assert len({tuple(sample.ids) for sample in more}) == 8


def test_seeds_differ_and_repeat(model_directory: Path) -> None:
    assert made(model_directory, seed=1)[0].ids == made(model_directory, seed=1)[0].ids
    assert made(model_directory, seed=1)[0].ids != made(model_directory, seed=2)[0].ids


@pytest.mark.parametrize("settings", [
    {}, {"temperature": 0.5, "top_k": 8}, {"top_p": 0.6}, {"top_p": 0.3, "min_p": 0.2}, {"typical_p": 0.4},
    {"top_k": 100, "top_p": 0.7, "typical_p": 0.5}, {"repetition_penalty": 1.5, "min_tokens": 1},
])
def test_first_tokens_have_the_models_distribution(model_directory: Path, settings: dict) -> None:
    model, encoder = parts(model_directory)
    ids = torch.tensor([encoder.encode("The").tolist()])
    asked = Decoding(max_tokens=1, **settings)
    logits = model.logits(model(ids)[:, -1])
    if "repetition_penalty" in settings:
        logits = RepetitionPenaltyLogitsProcessor(1.5)(ids, logits)
        logits[:, 499] = -torch.inf
    wanted = apply_filters(logits, asked).double().softmax(1)[0].numpy()
    samples = made(model_directory, ("The",), n=4000, batch=1000, max_tokens=1, **settings)
    counts = np.bincount([sample.ids[0] if sample.ids else 499 for sample in samples], minlength=500)
    likely = wanted * 4000 >= 5
    assert counts[wanted == 0].sum() == 0
    counts = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(wanted[likely], wanted[~likely].sum())
    keep = wanted > 0
    assert chi_square(counts[keep], wanted[keep]) < critical(int(keep.sum()) - 1)


def test_end_of_text_ends_a_sample_and_is_not_in_it(model_directory: Path) -> None:
    samples = made(model_directory, ("The",), n=200, batch=50, max_tokens=50, temperature=3.0)
    ended = [sample for sample in samples if sample.finish_reason == "end_of_text"]
    assert ended
    for sample in samples:
        assert 499 not in sample.ids
        assert (len(sample.ids) == 50) == (sample.finish_reason == "length")
        assert b"<|endoftext|>" not in sample.text


def test_a_stop_string_cuts_exactly_where_it_begins(model_directory: Path) -> None:
    whole = made(model_directory, ("The",), max_tokens=40)[0]
    encoder = parts(model_directory)[1]
    pieces = [encoder.decode([token]) for token in whole.ids]
    at = len(b"".join(pieces[:10])) - 1  # from inside one token into the next
    stop = whole.text[at : at + 3].decode("utf-8")
    first = whole.text.index(stop.encode())
    cut = made(model_directory, ("The",), max_tokens=40, stop=(stop, "never to be found"))[0]
    assert cut.text == whole.text[:first]
    assert cut.finish_reason == "stop"
    assert cut.ids == whole.ids[: len(cut.ids)]
    for use_cache, batch in ((False, 1), (True, 4)):
        again = made(model_directory, ("The",), n=3, max_tokens=40, stop=(stop,), use_cache=use_cache, batch=batch)
        assert again[0].text == cut.text


def test_generation_never_passes_the_context(model_directory: Path) -> None:
    sample = made(model_directory, ("The",), max_tokens=500, temperature=0.0)[0]
    assert sample.finish_reason == "length"
    assert len(sample.prompt.ids) + len(sample.ids) == 64


def test_a_long_prompt_keeps_its_end_and_the_ids_are_those_of_its_end_alone(model_directory: Path) -> None:
    encoder = parts(model_directory)[1]
    text = "word " * 60
    prompt = read_prompt(0, text.encode(), encoder, 64, 10)
    ids = encoder.encode(text).tolist()
    assert list(prompt.ids) == ids[-54:]
    assert prompt.dropped == len(ids) - 54
    assert prompt.text == text.encode()
    assert len(read_prompt(0, text.encode(), encoder, 64, 1000).ids) == 32
    sample = made(model_directory, (text,), max_tokens=10, temperature=0.0)[0]
    model = parts(model_directory)[0]
    tail = Prompt(0, b"", tuple(ids[-54:]), 0)
    direct = next(iter(Generator(model, encoder).generate([tail], 1, Decoding(10, 0.0))))
    assert sample.ids == direct.ids


@pytest.mark.parametrize("n_ctx", [1, 2, 3])
def test_the_smallest_contexts_end_and_do_not_fail(n_ctx: int) -> None:
    model, encoder = lively_model(ModelShape(1, 1, 8, n_ctx, 500)), Encoder(small_vocabulary())
    prompt = read_prompt(0, b"some words", encoder, n_ctx, 10)
    sample = next(iter(Generator(model, encoder).generate([prompt], 1, Decoding(10))))
    assert len(prompt.ids) + len(sample.ids) <= n_ctx
    assert sample.finish_reason in ("length", "end_of_text")


def test_end_of_text_in_a_prompt_is_plain_text(model_directory: Path) -> None:
    encoder = parts(model_directory)[1]
    prompt = read_prompt(0, b"a<|endoftext|>b", encoder, 64, 5)
    assert 499 not in prompt.ids
    assert read_prompt(0, b"", encoder, 64, 5).ids == (499,)


def test_ids_beyond_the_vocabulary_are_never_drawn() -> None:
    model, encoder = lively_model(ModelShape(1, 1, 8, 32, 600)), Encoder(small_vocabulary())
    with torch.no_grad():
        model.wte.weight[500:] *= 50
    prompt = read_prompt(0, b"a", encoder, 32, 20)
    for temperature in (0.0, 1.0):
        for sample in Generator(model, encoder).generate([prompt], 5, Decoding(20, temperature)):
            assert all(token < 500 for token in sample.ids)


def test_a_single_sample_streams_what_it_will_have_said(model_directory: Path) -> None:
    model, encoder = parts(model_directory)
    shown: list[bytes] = []
    prompt = read_prompt(0, b"The", encoder, 64, 40)
    generator = Generator(model, encoder)
    sample = next(iter(generator.generate([prompt], 1, Decoding(40, seed=5, stop=("zq",)), shown.append)))
    assert b"".join(shown) == sample.text
    assert len(shown) > 5
    with pytest.raises(ValueError, match="single sample"):
        list(generator.generate([prompt], 2, Decoding(), shown.append))
