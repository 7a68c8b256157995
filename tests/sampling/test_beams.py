"""Beam search against transformers.generate(num_beams=...) on the same checkpoint in fp32."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from tiny_models import small_vocabulary
from transformers import GPT2LMHeadModel

from gpt2cli.errors import UsageFault
from gpt2cli.model.weights import load_model
from gpt2cli.sampling.beams import BeamSearch
from gpt2cli.sampling.context import read_prompt
from gpt2cli.sampling.decoding import Beams, Decoding
from gpt2cli.sampling.row import Sample
from gpt2cli.tokens.encode import Encoder

EARLY = {"yes": True, "no": False, "never": "never"}
TEXTS = ("The", "", "It is a truth")


@functools.cache
def parts(directory: Path) -> tuple:
    """A model that says end-of-text now and then, so that hypotheses end at all lengths."""
    model, encoder = load_model(directory).model, Encoder(small_vocabulary())
    theirs = GPT2LMHeadModel.from_pretrained(directory).eval()
    return model, encoder, theirs


def found(directory: Path, text: str, beams: Beams, n: int, *, use_cache: bool = True, **settings) -> list[Sample]:
    model, encoder, _ = parts(directory)
    decoding = Decoding(**{"max_tokens": 12, **settings})
    prompt = read_prompt(0, text.encode(), encoder, model.shape.n_ctx, decoding.max_tokens)
    return BeamSearch(model, encoder, decoding, beams, use_cache=use_cache).search(prompt, n)


@pytest.mark.parametrize("early", EARLY)
@pytest.mark.parametrize(("width", "penalty"), [(2, 1.0), (5, 0.0), (4, -1.5), (4, 2.0)])
@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.4, "min_tokens": 4}], ids=["plain", "penalised"])
def test_the_n_best_are_those_of_transformers(eager_to_end: Path, width: int, penalty: float, early: str,
                                              settings: dict) -> None:
    _, encoder, theirs = parts(eager_to_end)
    asked = {"repetition_penalty": 1.4, "min_new_tokens": 4} if settings else {}
    for text in TEXTS:
        ours = found(eager_to_end, text, Beams(width, penalty, early), width, **settings)
        ids = torch.tensor([encoder.encode(text).tolist() or [499]])
        expected = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=width, num_return_sequences=width, do_sample=False,
            max_new_tokens=12, length_penalty=penalty, early_stopping=EARLY[early], pad_token_id=499, eos_token_id=499,
            return_dict_in_generate=True, output_scores=True, **asked)
        for sample, sequence, score in zip(ours, expected.sequences, expected.sequences_scores, strict=True):
            made = sequence[ids.shape[1]:].tolist()
            if 499 in made:
                made = made[: made.index(499)]
            assert sample.ids == made
            assert sample.text == encoder.decode(made)
            assert sample.score == pytest.approx(float(score), rel=1e-5, abs=1e-4)


def test_hypotheses_end_at_several_lengths(eager_to_end: Path) -> None:
    """Else the comparison above would say little."""
    samples = [sample for text in TEXTS for sample in found(eager_to_end, text, Beams(5, 0.0), 5)]
    assert {sample.finish_reason for sample in samples} == {"end_of_text", "length"}
    assert len({len(sample.ids) for sample in samples}) > 3


def test_without_the_cache_the_results_are_the_same(eager_to_end: Path) -> None:
    for text in TEXTS:
        assert [sample.ids for sample in found(eager_to_end, text, Beams(3), 3, use_cache=False)] == [
            sample.ids for sample in found(eager_to_end, text, Beams(3), 3)]


def test_one_beam_is_greedy_and_a_stop_string_ends_a_hypothesis(eager_to_end: Path) -> None:
    plain = found(eager_to_end, "The", Beams(1), 1, ignore_eot=True)[0]
    assert plain.finish_reason == "length" and len(plain.ids) == 12
    stop = plain.text[4:6].decode("latin-1")
    cut = found(eager_to_end, "The", Beams(1), 1, ignore_eot=True, stop=(stop,))[0]
    assert cut.finish_reason == "stop"
    assert cut.text == plain.text[: plain.text.index(stop.encode("latin-1"))]


def test_logprobs_of_a_hypothesis_add_up_to_its_score(eager_to_end: Path) -> None:
    for sample in found(eager_to_end, "The", Beams(4, 0.0), 4, logprobs=2):
        assert len(sample.logprobs) == len(sample.ids)
        assert all(len(entry.top) == 2 for entry in sample.logprobs)
        total = sum(entry.nats for entry in sample.logprobs) + (sample.end_logprob or 0.0)
        assert sample.score == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize(("decoding", "n"), [(Decoding(top_k=5), 1), (Decoding(temperature=0.7), 1), (Decoding(), 4),
                                             (Decoding(slide=True), 1)])
def test_what_means_nothing_in_a_search_is_refused(decoding: Decoding, n: int) -> None:
    with pytest.raises(UsageFault):
        Beams(3).check(decoding, n)
