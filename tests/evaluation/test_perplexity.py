"""evaluate() against a plain loop with transformers on the same checkpoint, and the same numbers by every way in."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from tiny_models import lively_model, save_model, small_vocabulary
from transformers import AutoTokenizer, GPT2LMHeadModel

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation.perplexity import EvalConfig, evaluate
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.pack import PackConfig, pack_shards
from gpt2cli.tokens.tokenize import TokenizeConfig, tokenize_documents

TEXTS = (
    "It was the best of times, it was the worst of times.\nIt was the age of wisdom, it was the age of folly.\n" * 3,
    "x",
    "Ein kurzer Text mit Umlauten: äöü, und <|endoftext|> mitten darin.\r\nNeue Zeile. \U0001f600\n",
    "word " * 40,
)


def run(model: Path, *paths: Path, reporter: Silent | None = None, **options) -> dict:
    config = EvalConfig(ModelChoice(str(model), "cpu"), tuple(str(path) for path in paths), **options)
    return evaluate(config, reporter or Silent())[0]


def reference_nll(model_directory: Path, text: str, context: int, stride: int) -> tuple[float, int]:
    """Every target in fp64 from the first window that reaches it, each window a pass of transformers by itself."""
    model, tokenizer = transformers_pair(model_directory)
    ids = [tokenizer.eos_token_id, *tokenizer(text, split_special_tokens=True)["input_ids"]]
    total, windows = 0.0, {}
    for target in range(1, len(ids)):
        start = stride * max(0, math.ceil((target - context) / stride))
        if start not in windows:
            with torch.no_grad():
                windows[start] = model(torch.tensor([ids[start : start + context]])).logits[0].log_softmax(-1)
        total -= float(windows[start][target - 1 - start, ids[target]])
    return total, len(ids) - 1


@functools.cache
def transformers_pair(model_directory: Path) -> tuple:
    model = GPT2LMHeadModel.from_pretrained(model_directory).double().eval()
    return model, AutoTokenizer.from_pretrained(model_directory)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.txt" for number in range(len(TEXTS))]
    for path, text in zip(paths, TEXTS, strict=True):
        path.write_bytes(text.encode())
    return paths


@pytest.mark.parametrize(("context", "stride"), [(None, None), (32, 32), (16, 1), (1, 1), (32, 5)])
def test_the_number_is_that_of_a_plain_loop_with_transformers(
    model_directory: Path, files: list[Path], context: int | None, stride: int | None
) -> None:
    record = run(model_directory, *files, context=context, stride=stride)
    used = context or 32
    expected = [reference_nll(model_directory, text, used, stride or max(1, used // 2)) for text in TEXTS]
    nll, tokens = sum(n for n, _ in expected), sum(t for _, t in expected)
    assert record["nll_nats"] == pytest.approx(nll, rel=1e-6)
    assert record["n_tokens"] == tokens
    assert record["nll_nats_per_token"] == pytest.approx(nll / tokens, rel=1e-6)
    assert record["ppl"] == pytest.approx(math.exp(nll / tokens), rel=1e-5)
    size, words = sum(len(text.encode()) for text in TEXTS), sum(len(text.split()) for text in TEXTS)
    assert (record["n_bytes"], record["n_words"], record["n_documents"]) == (size, words, 4)
    assert record["bits_per_byte"] == pytest.approx(nll / math.log(2) / size, rel=1e-6)
    assert record["word_ppl"] == pytest.approx(math.exp(nll / words), rel=1e-4)


def test_the_standard_error_is_the_delta_methods(model_directory: Path, files: list[Path]) -> None:
    parts = [run(model_directory, path) for path in files]
    assert [part["stderr"] for part in parts] == [None] * 4
    nll, tokens = (np.array([part[name] for part in parts]) for name in ("nll_nats", "n_tokens"))
    mean = nll.sum() / tokens.sum()
    expected = math.sqrt(4 / 3 * ((nll - mean * tokens) ** 2).sum()) / tokens.sum()
    whole = run(model_directory, *files)
    assert whole["stderr"] == pytest.approx(expected, rel=1e-6)
    assert whole["nll_nats"] == pytest.approx(nll.sum(), rel=1e-6)


@pytest.mark.parametrize("batch", [2, 3, 8, 64])
def test_the_batch_size_changes_nothing(model_directory: Path, files: list[Path], batch: int) -> None:
    one = run(model_directory, *files, batch=1, stride=3)
    other = run(model_directory, *files, batch=batch, stride=3)
    assert other["nll_nats"] == pytest.approx(one["nll_nats"], rel=1e-6)
    rounded = ("ppl", "stderr", "per_byte", "per_character", "moments")
    same = [name for name in one if not name.endswith(rounded) and "nll" not in name]
    assert {name: one[name] for name in same} == {name: other[name] for name in same}


def test_bf16_is_near_and_says_so(model_directory: Path, files: list[Path]) -> None:
    exact = run(model_directory, *files)
    config = EvalConfig(ModelChoice(str(model_directory), "cpu", "bf16"), tuple(map(str, files)))
    rounded = evaluate(config, Silent())[0]
    assert (exact["dtype"], rounded["dtype"]) == ("fp32", "bf16")
    assert 0 < abs(rounded["nll_nats"] / exact["nll_nats"] - 1) < 0.01


def jsonl(texts: tuple[str, ...]) -> bytes:
    return b"".join(
        encode_record("gpt2.document", {"id": hashlib.sha256(t.encode()).hexdigest(), "text": t}) for t in texts)


def make_shard(model: Path, source: Path, path: Path) -> Path:
    with open(path, "wb") as stream:
        tokenize_documents([str(source)], stream, TokenizeConfig(vocab=str(model)), Silent())
    return path


def test_text_documents_compressed_shards_and_shard_sets_give_one_number(
    model_directory: Path, files: list[Path], tmp_path: Path
) -> None:
    plain, packed = tmp_path / "d.jsonl", tmp_path / "d.zst"
    plain.write_bytes(jsonl(TEXTS))
    packed.write_bytes(zstandard.compress(jsonl(TEXTS)))
    shard = make_shard(model_directory, plain, tmp_path / "d.tok.zst")
    records = [run(model_directory, *files), run(model_directory, plain), run(model_directory, packed),
               run(model_directory, shard)]
    for record in records:
        assert record == records[0]
    assert len(records[0]["text_sha256"]) == 64
    assert records[0]["text_sha256"] != run(model_directory, files[0])["text_sha256"]


def test_a_shard_sets_splits_add_up_to_its_shard(model_directory: Path, tmp_path: Path) -> None:
    texts = tuple(f"document number {number} of many\n" * (1 + number % 5) for number in range(60))
    (tmp_path / "d.jsonl").write_bytes(jsonl(texts))
    shard = make_shard(model_directory, tmp_path / "d.jsonl", tmp_path / "d.tok.zst")
    directory = tmp_path / "shards"
    pack_shards([str(shard)], directory, PackConfig(val_fraction=0.2), Silent())
    whole = run(model_directory, shard)
    val, train = run(model_directory, directory), run(model_directory, directory, split="train")
    assert (val["split"], train["split"], whole["split"]) == ("val", "train", None)
    for name in ("n_tokens", "n_bytes", "n_words", "n_documents"):
        assert val[name] + train[name] == whole[name]
    assert val["nll_nats"] + train["nll_nats"] == pytest.approx(whole["nll_nats"], rel=1e-6)
    index = json.loads((directory / "index.json").read_text())
    assert val["val_sha256"] == index["splits"]["val"]["sha256"]
    assert "val_sha256" not in train


def test_bom_crlf_and_bytes_that_are_no_text_are_counted_as_they_are(model_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    record = run(model_directory, path)
    assert (record["n_bytes"], record["n_words"]) == (13, 2)
    path.write_bytes(b"caf\xe9 au lait")
    reporter = Silent()
    record = run(model_directory, path, reporter=reporter)
    assert record["n_bytes"] == len("caf\ufffd au lait".encode())
    assert any("not UTF-8" in line for line in reporter.warnings)


def test_empty_documents_are_counted_and_weigh_nothing(model_directory: Path, tmp_path: Path) -> None:
    empty, full = tmp_path / "empty.txt", tmp_path / "full.txt"
    empty.write_bytes(b"")
    full.write_bytes(b"some text")
    both = run(model_directory, empty, full)
    assert (both["n_documents"], both["n_empty_documents"]) == (2, 1)
    assert both["nll_nats"] == run(model_directory, full)["nll_nats"]
    assert both["stderr"] is None
    lines = tmp_path / "d.jsonl"
    lines.write_text('{"text":""}\n{"text":"some text"}\n{"other":1}\n')
    reporter = Silent()
    record = run(model_directory, lines, reporter=reporter)
    assert (record["n_documents"], record["n_empty_documents"]) == (2, 1)
    assert any("without text" in line for line in reporter.warnings)
    with pytest.raises(BadInput, match="no text to score"):
        run(model_directory, empty)


def test_lone_surrogates_are_replaced_and_counted(model_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text":"half a pair \\ud83d here"}\n')
    reporter = Silent()
    record = run(model_directory, path, reporter=reporter)
    assert record["n_bytes"] == len("half a pair \ufffd here".encode())
    assert any("1 lone surrogates" in line for line in reporter.warnings)


def test_a_shard_in_another_vocabulary_is_refused(model_directory: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", lively_model(ModelShape(1, 1, 8, 8, 300)), small_vocabulary(43))
    (tmp_path / "a.txt").write_text("some text")
    shard = make_shard(other, tmp_path / "a.txt", tmp_path / "a.tok.zst")
    with pytest.raises(BadInput, match="another vocabulary"):
        run(model_directory, shard)


def test_a_damaged_shard_gives_no_number(model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text " * 500)
    shard = make_shard(model_directory, tmp_path / "a.txt", tmp_path / "a.tok.zst")
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(BadInput, match=r"a\.tok\.zst"):
        run(model_directory, shard)


def test_usage_faults(model_directory: Path, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match=r"without index\.json"):
        run(model_directory, tmp_path)
    with pytest.raises(UsageFault, match="evaluated alone"):
        run(model_directory, tmp_path, files[0])
    with pytest.raises(UsageFault, match="--split"):
        run(model_directory, files[0], split="train")
    with pytest.raises(UsageFault, match="no format"):
        run(model_directory, files[0], form="csv")
    with pytest.raises(UsageFault, match="does not fit the model"):
        run(model_directory, files[0], context=33)


def test_a_model_that_overflows_gives_a_sentence_not_a_number(tmp_path: Path) -> None:
    model = lively_model(ModelShape(1, 1, 8, 8, 500))
    with torch.no_grad():
        model.ln_f.weight.fill_(1e30)
        model.wte.weight.mul_(1e20)
    directory = save_model(tmp_path / "m", model, small_vocabulary())
    (tmp_path / "a.txt").write_text("some text")
    with pytest.raises(BadInput, match="no finite probability"):
        run(directory, tmp_path / "a.txt")


def test_perplexities_beyond_a_float_are_null(model_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a" * 2000)
    record = run(model_directory, path)
    assert record["n_words"] == 1
    assert record["word_ppl"] is None
    path.write_text(" \n")
    assert run(model_directory, path)["word_ppl"] is None


def test_padded_vocabularies_are_accepted_and_too_small_models_refused(tmp_path: Path, files: list[Path]) -> None:
    padded = save_model(tmp_path / "p", lively_model(ModelShape(1, 1, 8, 8, 512)), small_vocabulary())
    assert run(padded, files[0])["n_tokens"] > 0
    small = save_model(tmp_path / "s", lively_model(ModelShape(1, 1, 8, 8, 500)), small_vocabulary(300))
    with pytest.raises(BadInput, match="tokenizer has 557 ids, its model only 500"):
        run(small, files[0])


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EvalConfig().batch = 3  # type: ignore[misc]
