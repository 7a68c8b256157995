"""Where a sample ends and what it is given: min_tokens, ignore_eot, the sliding context; and log-probabilities."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from tiny_models import small_vocabulary
from transformers import GPT2LMHeadModel

from gpt2cli.errors import UsageFault
from gpt2cli.model.weights import load_model
from gpt2cli.sampling.context import read_prompt, slid
from gpt2cli.sampling.decoding import Decoding
from gpt2cli.sampling.generate import Generator
from gpt2cli.sampling.producer import Way
from gpt2cli.sampling.row import Sample
from gpt2cli.tokens.encode import Encoder

ENCODER = Encoder(small_vocabulary())
TEXTS = ("The", "It is a truth universally acknowledged", "", "Call me Ishmael.", "word " * 12)
EOT = 499


@functools.cache
def generator(directory: Path, use_cache: bool = True, batch: int = 8) -> Generator:
    return Generator(load_model(directory).model, ENCODER, use_cache=use_cache, batch=batch)


def made(directory: Path, *, use_cache: bool = True, batch: int = 8, **settings) -> list[Sample]:
    decoding = Decoding(**{"max_tokens": 20, **settings})
    prompts = [read_prompt(number, text.encode(), ENCODER, 64, decoding.max_tokens)
               for number, text in enumerate(TEXTS)]
    return list(generator(directory, use_cache, batch).generate(prompts, 2, decoding))


def test_before_min_tokens_nothing_ends(eager_to_end: Path) -> None:
    free = made(eager_to_end)
    assert any(len(sample.ids) < 7 for sample in free), "else this would show nothing"
    assert all(len(sample.ids) >= 7 for sample in made(eager_to_end, min_tokens=7))
    greedy = made(eager_to_end, temperature=0.0)
    for before, after in zip(greedy, made(eager_to_end, temperature=0.0, min_tokens=7), strict=True):
        if len(before.ids) >= 7:
            assert after.ids == before.ids, "a ban that changes nothing is no change"


def test_a_stop_that_begins_before_min_tokens_is_not_seen(model_directory: Path) -> None:
    whole = made(model_directory, temperature=0.0, ignore_eot=True)[0]
    ends = [len(ENCODER.decode(whole.ids[:count])) for count in range(21)]
    stop = whole.text[ends[4] : ends[5]].decode()
    cut = made(model_directory, temperature=0.0, ignore_eot=True, stop=(stop,), min_tokens=4)[0]
    assert (cut.finish_reason, cut.text) == ("stop", whole.text[: ends[4]])
    later = made(model_directory, temperature=0.0, ignore_eot=True, stop=(stop,), min_tokens=5)[0]
    again = whole.text.find(stop.encode(), ends[5])
    assert later.text == (whole.text if again < 0 else whole.text[:again])


def test_ignored_end_of_text_is_a_token_like_others(eager_to_end: Path) -> None:
    samples = made(eager_to_end, ignore_eot=True)
    assert all(len(sample.ids) == 20 and sample.finish_reason == "length" for sample in samples)
    assert any(EOT in sample.ids for sample in samples)
    for free, sample in zip(made(eager_to_end), samples, strict=True):
        assert sample.ids[: len(free.ids)] == free.ids
        assert sample.text == ENCODER.decode(sample.ids)
        assert (b"<|endoftext|>" in sample.text) == (EOT in sample.ids)


def test_beyond_the_context_the_model_is_given_the_last_half_again(model_directory: Path) -> None:
    """By a loop of our own over the model: the text grows to 64 tokens, then goes on from its last 32, twice."""
    model = generator(model_directory).model
    for sample in made(model_directory, temperature=0.0, max_tokens=130, slide=True, ignore_eot=True)[::2]:
        window, ids = list(sample.prompt.ids), []
        while len(ids) < 130:
            with torch.inference_mode():
                ids.append(int(model.logits(model(torch.tensor([window]))[:, -1])[0].argmax()))
            window.append(ids[-1])
            if len(window) > 64:
                window = window[-32:]
        assert sample.ids == ids
        assert sample.finish_reason == "length"


@pytest.mark.parametrize("settings", [{"slide": True, "max_tokens": 70, "ignore_eot": True}, {"min_tokens": 5},
                                      {"repetition_penalty": 1.3, "frequency_penalty": 0.2}, {"logprobs": 1}], ids=str)
def test_nothing_depends_on_the_batch_or_the_cache(eager_to_end: Path, settings: dict) -> None:
    """Prompts of five lengths in one batch, whose rows end and slide at different steps."""
    alone = made(eager_to_end, batch=1, **settings)
    for batch, use_cache in ((8, True), (3, True), (8, False)):
        other = made(eager_to_end, batch=batch, use_cache=use_cache, **settings)
        assert [(sample.ids, sample.finish_reason) for sample in other] == [
            (sample.ids, sample.finish_reason) for sample in alone]


def test_the_window_is_never_empty() -> None:
    assert slid([1, 2, 3], 1) == (3,)
    assert slid(list(range(9)), 8) == (5, 6, 7, 8)


def test_logprobs_are_transformers_transition_scores(eager_to_end: Path) -> None:
    theirs = GPT2LMHeadModel.from_pretrained(eager_to_end).eval()
    for sample in made(eager_to_end, temperature=0.0, logprobs=3)[::2]:
        ids = torch.tensor([sample.prompt.ids])
        out = theirs.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20,
                              pad_token_id=EOT, eos_token_id=EOT, return_dict_in_generate=True, output_logits=True)
        wanted = theirs.compute_transition_scores(out.sequences, out.logits, normalize_logits=True)[0].tolist()
        found = [entry.nats for entry in sample.logprobs]
        if sample.finish_reason == "end_of_text":
            found.append(sample.end_logprob)
        assert found == pytest.approx(wanted[: len(found)], abs=1e-4)
        for entry, logits in zip(sample.logprobs, out.logits, strict=False):
            best = logits[0].log_softmax(0).topk(3)
            assert [token for token, _ in entry.top] == best.indices.tolist()
            assert [nats for _, nats in entry.top] == pytest.approx(best.values.tolist(), abs=1e-4)


def test_logprobs_are_the_models_own_whatever_is_drawn_from(model_directory: Path) -> None:
    model = generator(model_directory).model
    for sample in made(model_directory, temperature=0.5, top_k=5, repetition_penalty=1.5, logprobs=0)[::3]:
        ids = torch.tensor([[*sample.prompt.ids, *sample.ids]])
        with torch.inference_mode():
            logprobs = model.logits(model(ids))[0].log_softmax(1)
        start = len(sample.prompt.ids)
        wanted = [float(logprobs[start + place - 1, token]) for place, token in enumerate(sample.ids)]
        assert [entry.nats for entry in sample.logprobs] == pytest.approx(wanted, abs=1e-4)
        assert all(entry.top == () for entry in sample.logprobs)


@pytest.mark.parametrize(("way", "decoding", "words"), [
    (Way(draft="x", prompt_lookup=3), Decoding(), "different ways"),
    (Way(draft="x"), Decoding(slide=True), "--slide"),
    (Way(prompt_lookup=3, use_cache=False), Decoding(), "--no-cache"),
    (Way(), Decoding(min_tokens=300), "--min-tokens 300"),
    (Way(), Decoding(stop=("",)), "empty --stop"),
])
def test_settings_that_contradict_each_other_are_refused(way: Way, decoding: Decoding, words: str) -> None:
    with pytest.raises(UsageFault, match=words):
        way.check(decoding, 1)
