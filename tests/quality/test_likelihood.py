"""Likelihood under another model: eval-ppl's numbers, and of a continuation those of its tokens after its prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gpt2cli.quality.documents import Text
from gpt2cli.quality.likelihood import Judge
from gpt2cli.quality.uncertainty import Resampling
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice, open_model

TEXTS = ["the cat sat on the mat and the dog", "", "a short one", "of the " * 60]
PROMPTS = ["in the house ", "nothing comes", "", "it was the best of times " * 10]


def test_without_prompts_it_is_eval_ppl(tmp_path: Path, model_directory: Path, gpt2_here: Callable) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS if text))
    result = gpt2_here("eval-ppl", model_directory, path, "--stride", 8, "--bootstrap", 300, check=True)
    theirs = json.loads(result.stdout.splitlines()[0])
    judge = Judge(ModelChoice(str(model_directory)), None, 8, Silent())
    found = judge.score([Text(text) for text in TEXTS])
    resampling = Resampling(300)
    ours = (found.nats_per_token(resampling), found.perplexity(resampling), found.bits_per_byte(resampling))
    for name, estimate in zip(("nll_nats_per_token", "ppl", "bits_per_byte"), ours, strict=True):
        assert estimate.value == pytest.approx(theirs[name], rel=1e-6) and estimate.n == 3
    assert judge.protocol.as_fields() == theirs["protocol"]
    assert found.nll_D[1] == 0 and found.tokens_D[1] == 0


@pytest.mark.parametrize(("prompt", "text"), [("on the ", "the mat"), (PROMPTS[3], TEXTS[3]), ("", "one"),
                                              (PROMPTS[3], "!"), ("a", TEXTS[3])])
def test_a_continuation_is_scored_given_its_prompt(model_directory: Path, prompt: str, text: str) -> None:
    """Against the model run on every window of end-of-text, prompt and text, one by one, by the protocol's words."""
    opened = open_model(ModelChoice(str(model_directory)), Silent())
    parts = [opened.encoder.encode(part).astype(np.int64).tolist() for part in (prompt, text)]
    sequence = torch.tensor([opened.vocabulary.eot, *parts[0], *parts[1]])
    nll, done, start = {}, 0, 0
    while done < len(sequence) - 1:
        stop = min(start + 32, len(sequence) - 1)
        with torch.no_grad():
            logits = opened.model(sequence[None, start:stop])[0] @ opened.model.wte.weight.T
        logp = torch.log_softmax(logits.double(), -1)
        for place in range(done + 1, stop + 1):
            nll[place] = -float(logp[place - 1 - start, sequence[place]])
        done, start = stop, start + 8
    found = Judge(ModelChoice(str(model_directory)), None, 8, Silent()).score([Text("x"), Text(text, prompt)])
    assert found.nll_D[1] == pytest.approx(sum(nll[place] for place in nll if place > len(parts[0])), rel=1e-5)
    assert found.tokens_D[1] == len(parts[1]) and found.bytes_D[1] == len(text.encode())


def test_samples_at_the_command(tmp_path: Path, model_directory: Path, gpt2_here: Callable) -> None:
    sampled = gpt2_here("sample", model_directory, "--prompt", "the ", "--num-samples", 3, "--max-tokens", 12, "--json",
                        check=True).stdout
    result = gpt2_here("eval-text", "--model", model_directory, "--per-doc", input=sampled, check=True)
    *documents, record, _ = map(json.loads, result.stdout.splitlines())
    samples = [json.loads(line) for line in sampled.splitlines()[:-1]]
    assert record["model"]["protocol"]["name"] == "sliding" and record["part"] == "continuation"
    assert record["n_bytes"] == sum(len(sample["text"].encode()) for sample in samples)
    total = sum(document["nll_nats"] for document in documents)
    assert record["measures"]["ppl"]["value"] == pytest.approx(
        math.exp(total / sum(document["n_tokens"] for document in documents)))
    whole = gpt2_here("eval-text", "--part", "whole", input=sampled, check=True)
    assert json.loads(whole.stdout.splitlines()[0])["n_bytes"] == record["n_bytes"] + 3 * len("the ")
