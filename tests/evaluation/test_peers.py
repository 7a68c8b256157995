"""The protocols `harness` and `hf-docs` against the programs they are named for, on the same checkpoint and text."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import lm_eval
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tiny_models import small_vocabulary
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from gpt2cli.evaluation.perplexity import EvalConfig, evaluate
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice
from gpt2cli.tokens.huggingface import write_tokenizer_files
from gpt2cli.tokens.tokenize import TokenizeConfig, tokenize_documents

TEXTS = (
    "Now is the winter of our discontent made glorious summer by this sun of York. " * 12,
    "\ufeffa byte order mark,\r\nand lines that end in\r\nCRLF\r\n",
    "two<|endoftext|>documents in one,<|endoftext|><|endoftext|> and an end <|endoftext|>",
    "x",
    " \n\t ",
    "  spaces before and after \n",
    "caf\u00e9 \U0001f600 \u4e2d\u6587\u6587\u672c na\u00efve \u2028 \u00a0 half\ufffd",
    "".join(f"{number} + {number * 7} = {number * 8}; " for number in range(90)),
)


@pytest.fixture(scope="module")
def saved_by_transformers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("transformers") / "model"
    torch.manual_seed(7)
    config = GPT2Config(vocab_size=500, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=499,
                        eos_token_id=499, initializer_range=0.3)
    GPT2LMHeadModel(config).save_pretrained(directory)
    write_tokenizer_files(small_vocabulary(), directory)
    return directory


@pytest.fixture(scope="module", params=["trained here", "saved by transformers"])
def model_directory(request: pytest.FixtureRequest, tiny_run: Path, saved_by_transformers: Path) -> Path:
    if request.param == "saved by transformers":
        return saved_by_transformers
    return max((tiny_run / "checkpoints").iterdir())


@pytest.fixture
def awkward(tmp_path: Path) -> Path:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS))
    return path


def ours(model: Path, path: Path, protocol: str, **settings: Any) -> dict[str, Any]:
    config = EvalConfig(ModelChoice(str(model), "cpu"), (str(path),), protocol=protocol, **settings)
    return evaluate(config, Silent())[0]


def their_results(peer: HFLM, path: Path, scratch: Path) -> dict[str, Any]:
    """What lm_eval says of a task of its own on a local file."""
    task = {
        "task": "local_rolling", "dataset_path": "json", "output_type": "loglikelihood_rolling",
        "dataset_kwargs": {"data_files": {"test": str(path)}, "cache_dir": str(scratch / "cache")},
        "test_split": "test", "doc_to_text": "", "doc_to_target": "text",
        "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    }
    return lm_eval.simple_evaluate(model=peer, tasks=[task], task_manager=TaskManager(include_defaults=False),
                                   bootstrap_iters=0)


@pytest.mark.parametrize(("context", "batch"), [(None, 5), (24, 3)])
def test_harness_is_lm_evals_task(
    model_directory: Path, awkward: Path, tmp_path: Path, context: int | None, batch: int
) -> None:
    peer = HFLM(pretrained=str(model_directory), device="cpu", dtype="float32", batch_size=batch, max_length=context)
    found = their_results(peer, awkward, tmp_path)
    theirs = found["results"]["local_rolling"]
    log_likelihoods = [sample["filtered_resps"][0] for sample in found["samples"]["local_rolling"]]
    record = ours(model_directory, awkward, "harness", context=context)
    assert record["nll_nats"] == pytest.approx(-math.fsum(log_likelihoods), rel=1e-6)
    assert record["word_ppl"] == pytest.approx(theirs["word_perplexity,none"], rel=1e-5)
    assert record["byte_ppl"] == pytest.approx(theirs["byte_perplexity,none"], rel=1e-6)
    assert record["bits_per_byte"] == pytest.approx(theirs["bits_per_byte,none"], rel=1e-6)
    assert record["protocol"]["endoftext_in_text"].startswith("the special token")
    assert record["n_tokens"] == sum(len(peer.tok_encode(text)) for text in TEXTS)


def test_harness_counts_an_empty_document_as_one_word(
    saved_by_transformers: Path, tmp_path: Path
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text":"one two"}\n{"text":""}\n{"text":"three "}\n')
    peer = HFLM(pretrained=str(saved_by_transformers), device="cpu", dtype="float32")
    found = their_results(peer, path, tmp_path)
    record = ours(saved_by_transformers, path, "harness")
    assert record["n_words"] == 2 + 1 + 2
    assert record["word_ppl"] == pytest.approx(found["results"]["local_rolling"]["word_perplexity,none"], rel=1e-5)


def loop_of_the_documentation(model: Any, ids: torch.Tensor, max_length: int, stride: int) -> tuple[float, int]:
    """The loop of "Perplexity of fixed-length models", step by step, on one text of at least two tokens."""
    nll_sum, n_tokens, previous_end = 0.0, 0, 0
    for begin in range(0, ids.size(1), stride):
        end = min(begin + max_length, ids.size(1))
        target_length = end - previous_end
        inputs = ids[:, begin:end]
        targets = inputs.clone()
        targets[:, :-target_length] = -100
        with torch.no_grad():
            loss = model(inputs, labels=targets).loss
        counted = int((targets != -100).sum()) - 1
        if counted:  # a window of one token has no loss: the documentation's loop gives nan there
            nll_sum += float(loss) * counted
        n_tokens += counted
        previous_end = end
        if end == ids.size(1):
            break
    return nll_sum, n_tokens


@pytest.mark.parametrize(("context", "stride"), [(64, 32), (64, 64), (17, 16), (10, 3)])
def test_hf_docs_is_the_loop(model_directory: Path, awkward: Path, context: int, stride: int) -> None:
    model = GPT2LMHeadModel.from_pretrained(model_directory, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_directory)
    assert isinstance(tokenizer, GPT2TokenizerFast)
    nll, count = 0.0, 0
    for text in TEXTS:
        ids = tokenizer(text, return_tensors="pt").input_ids
        if ids.size(1) > 1:
            part = loop_of_the_documentation(model, ids, context, stride)
            nll, count = nll + part[0], count + part[1]
    record = ours(model_directory, awkward, "hf-docs", context=context, stride=stride)
    assert record["nll_nats"] == pytest.approx(nll, rel=1e-6)
    assert record["n_tokens"] == count
    assert record["ppl"] == pytest.approx(math.exp(nll / count), rel=1e-5)


@pytest.mark.parametrize("protocol", ["harness", "hf-docs"])
def test_endoftext_in_text_is_plain_text_by_default_and_special_to_the_peers(
    model_directory: Path, tmp_path: Path, protocol: str
) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text":"one<|endoftext|>two three four"}\n')
    plain, special = ours(model_directory, path, "sliding"), ours(model_directory, path, protocol)
    assert special["n_tokens"] < plain["n_tokens"]
    assert (plain["n_bytes"], plain["n_words"]) == (special["n_bytes"], special["n_words"]) == (30, 3)
    assert plain["protocol"]["endoftext_in_text"] == "plain text"
    shard = tmp_path / "d.tok.zst"
    with open(shard, "wb") as stream:
        tokenize_documents([str(path)], stream, TokenizeConfig(vocab=str(model_directory)), Silent())
    assert ours(model_directory, shard, protocol)["nll_nats"] == pytest.approx(special["nll_nats"], rel=1e-6)
