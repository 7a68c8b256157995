"""The presets of the paper: what they count, what they score, and what they say."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from transformers import AutoTokenizer, GPT2LMHeadModel

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.evaluation import paper
from gpt2cli.evaluation.detokenize import detokenize
from gpt2cli.evaluation.merge import merge_records
from gpt2cli.evaluation.paper import PRESETS, compare, doubts
from gpt2cli.evaluation.perplexity import EvalConfig, evaluate
from gpt2cli.evaluation.protocols import NAMED
from gpt2cli.evaluation.published import PUBLISHED
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice

WIKI = " \n = Harbour = \n \n The 1 @,@ 250 @-@ ton ship didn 't sail , he said . \n"
PASSAGES = ("the ship was late so he waited for the ship", "one word after\nanother , and `` then", "  two words ")


def run(model: Path, path: Path, name: str, reporter: Silent | None = None, **options: Any) -> dict[str, Any]:
    config = EvalConfig(ModelChoice(str(model), "cpu"), (str(path),), protocol=f"paper-{name}", **options)
    return evaluate(config, reporter or Silent())[0]


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def digest(*texts: str) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(text.encode()).digest() for text in texts)).hexdigest()


def test_every_preset_is_a_protocol_with_a_published_row() -> None:
    assert set(PRESETS) == {name for name in NAMED if name.startswith("paper-")}
    assert [name.removeprefix("paper-") for name in PRESETS] == [
        "wikitext2", "wikitext103", "ptb", "enwik8", "text8", "1bw", "lambada"]
    for preset in PRESETS.values():
        assert len(PUBLISHED[preset.published].values) == 4
        assert len(preset.unstated) >= 4


@pytest.mark.parametrize(("name", "style", "text", "words"), [
    ("wikitext2", "wikitext", WIKI, 17 + 4), ("wikitext103", "wikitext", WIKI, 17 + 4),
    ("ptb", "ptb", " he did n't say $ N \n no \n", 7 + 2), ("ptb", "ptb", " the last line has no end ", 6 + 1),
])
def test_words_are_counted_before_and_scored_after(model_directory: Path, tmp_path: Path, name: str, style: str,
                                                   text: str, words: int) -> None:
    record = run(model_directory, write(tmp_path / "a.txt", text), name)
    scored = detokenize(style, text).text
    plain = evaluate(EvalConfig(ModelChoice(str(model_directory), "cpu"), (str(write(tmp_path / "b.txt", scored)),)),
                     Silent())[0]
    assert record["nll_nats"] == pytest.approx(plain["nll_nats"], rel=1e-9)
    assert scored != text
    assert (record["n_words"], record["n_bytes"], record["n_tokens"]) == (words, len(text), plain["n_tokens"])
    assert record["word_ppl"] == pytest.approx(math.exp(record["nll_nats"] / words))
    assert (record["text_sha256"], record["scored_text_sha256"]) == (digest(text), digest(scored))
    assert (record["metric"], record["canonical"]) == ("word_ppl", False)
    assert record["published"] == PUBLISHED[name].as_fields()
    assert record["protocol"]["detokenizer"] == style
    assert record["protocol"]["unstated"] == list(PRESETS[f"paper-{name}"].unstated)
    as_it_is = run(model_directory, tmp_path / "a.txt", name, detokenizer="none")
    assert as_it_is["protocol"]["detokenizer"] == "none"
    assert as_it_is["nll_nats"] > record["nll_nats"]


def test_bom_and_crlf_are_taken_away_and_said(model_directory: Path, tmp_path: Path) -> None:
    plain = run(model_directory, write(tmp_path / "a.txt", WIKI), "wikitext2")
    reporter = Silent()
    windows = "\ufeff" + WIKI.replace("\n", "\r\n")
    record = run(model_directory, write(tmp_path / "b.txt", windows), "wikitext2", reporter)
    assert (record["n_byte_order_marks_dropped"], record["n_crlf_read_as_lf"]) == (1, 4)
    assert (record["nll_nats"], record["n_words"]) == (plain["nll_nats"], plain["n_words"])
    assert record["scored_text_sha256"] == plain["scored_text_sha256"]
    assert record["text_sha256"] == digest(windows)
    assert any("byte order mark" in line for line in reporter.warnings)
    assert any("4 line ends of carriage return" in line for line in reporter.warnings)


def test_zst_and_standard_input_are_the_same_text(gpt2_here: Callable, model_directory: Path, tmp_path: Path) -> None:
    packed = tmp_path / "a.txt.zst"
    packed.write_bytes(zstandard.compress(WIKI.encode()))
    arguments = ("--protocol", "paper-wikitext2", "--threads", "1")
    by_pipe = gpt2_here("eval-ppl", model_directory, *arguments, input=WIKI.encode(), check=True)
    assert gpt2_here("eval-ppl", model_directory, packed, *arguments, check=True).stdout == by_pipe.stdout
    said = by_pipe.stderr.decode()
    assert "this is not the canonical file: it counts 21 words, WikiText-2's 245,569" in said
    heading, row = (line.split(":", 1)[1].split() for line in said.splitlines()[-2:])
    assert heading == ["published", "word_ppl", "117M", "345M", "762M", "1542M"]
    assert row[0] == "wikitext2" and row[2:] == ["29.41", "22.76", "19.93", "18.34"]
    assert row[1] == f"{json.loads(by_pipe.stdout.splitlines()[0])['word_ppl']:,.2f}"


def test_lines_that_are_left_alone_are_counted(model_directory: Path, tmp_path: Path) -> None:
    reporter = Silent()
    record = run(model_directory, write(tmp_path / "a.txt", " e-mail \n the dog , \n"), "wikitext2", reporter)
    assert (record["n_lines"], record["n_lines_not_detokenized"]) == (2, 1)
    assert any("1 of 2 lines is scored as it is" in line for line in reporter.warnings)


def test_each_line_of_1bw_is_a_document(model_directory: Path, tmp_path: Path) -> None:
    lines = ("He didn 't go .\n", "\n", "She ( 35 ) did .\n")
    record = run(model_directory, write(tmp_path / "a.txt", "".join(lines)), "1bw")
    parts = [run(model_directory, write(tmp_path / "b.txt", line), "1bw") for line in lines]
    assert (record["n_documents"], record["n_words"], record["canonical"]) == (3, 11 + 3, None)
    assert record["nll_nats"] == pytest.approx(sum(part["nll_nats"] for part in parts), rel=1e-6)
    assert record["stderr"] > 0
    assert record["scored_text_sha256"] == digest("He didn't go.\n", "\n", "She (35) did.\n")


def shorter(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Make enwik8's and text8's test set `last` bytes, of a corpus of 20 times as many."""
    monkeypatch.setattr(paper, "_LAST", last)
    monkeypatch.setattr(paper, "_WHOLE", 20 * last)
    presets = {name: replace(preset, treatment=replace(preset.treatment, last=last),
                             canonical={unit: last for unit in preset.canonical})
               for name, preset in PRESETS.items() if preset.treatment.last}
    monkeypatch.setattr(paper, "PRESETS", {**PRESETS, **presets})


@pytest.mark.parametrize(("name", "metric"), [("enwik8", "bits_per_byte"), ("text8", "bits_per_character")])
def test_the_last_part_is_the_test_set(model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       name: str, metric: str) -> None:
    shorter(monkeypatch, 100)
    text = "The first part. " * 118 + "0123456789ab" + "The last\r\n " * 9 + "0"
    whole = write(tmp_path / "whole.txt", text)
    part = write(tmp_path / "part.txt", text[-100:])
    assert whole.stat().st_size == 2000
    of_whole, of_part = run(model_directory, whole, name), run(model_directory, part, name)
    assert of_whole["nll_nats"] == of_part["nll_nats"]
    assert of_whole["n_bytes"] == of_whole["n_characters"] == 100
    assert of_whole[metric] == pytest.approx(of_whole["nll_nats"] / math.log(2) / 100)
    assert (of_whole["metric"], of_whole["canonical"], of_part["canonical"]) == (metric, True, True)
    assert of_whole["text_sha256"] == digest(text)
    assert of_whole["scored_text_sha256"] == digest(text[-100:])
    everything = run(model_directory, whole, name, split="all")
    assert (everything["n_bytes"], everything["canonical"]) == (2000, False)
    assert everything["protocol"]["text"] == "as given, whole"
    other = Silent()
    shortened = run(model_directory, write(tmp_path / "c.txt", text[400:]), name, other)
    assert (shortened["n_bytes"], shortened["canonical"]) == (100, False)
    assert any("1,600 bytes in all" in line for line in other.warnings)


def test_the_part_begins_with_a_whole_character(model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                ) -> None:
    shorter(monkeypatch, 101)
    record = run(model_directory, write(tmp_path / "a.txt", "é" * 1010), "enwik8")
    assert (record["n_bytes"], record["n_characters"], record["canonical"]) == (100, 50, True)


def test_lambada_is_the_last_words_loglikelihood(model_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes("".join(json.dumps({"text": text}) + "\n" for text in PASSAGES).encode())
    record = run(model_directory, path, "lambada")
    model = GPT2LMHeadModel.from_pretrained(model_directory).double().eval()
    tokenizer = AutoTokenizer.from_pretrained(model_directory)
    expected, tokens = 0.0, 0
    for passage, word in zip(PASSAGES, (" ship", " then", " words"), strict=True):
        before, whole = (tokenizer(text)["input_ids"] for text in
                         (passage.rstrip().removesuffix(word), passage.rstrip()))
        new = whole[len(before):]
        with torch.no_grad():
            rows = model(torch.tensor([whole[:-1][-32:]])).logits[0].log_softmax(-1)[-len(new):]
        expected -= float(sum(row[token] for row, token in zip(rows, new, strict=True)))
        tokens += len(new)
    assert record["nll_nats"] == pytest.approx(expected, rel=1e-6)
    assert (record["n_tokens"], record["n_words"], record["n_documents"]) == (tokens, 3, 3)
    assert (record["n_bytes"], record["metric"]) == (len(" ship then words"), "word_ppl")
    assert record["word_ppl"] == pytest.approx(math.exp(expected / 3))
    assert run(model_directory, path, "lambada", batch=1)["nll_nats"] == pytest.approx(expected, rel=1e-6)


def test_lambada_takes_a_passage_a_line(model_directory: Path, tmp_path: Path) -> None:
    lines, records = tmp_path / "a.txt", tmp_path / "a.jsonl"
    texts = ["the cat saw a dog", "and then it ran"]
    lines.write_text("".join(f"{text}\n" for text in texts))
    records.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    by_line, by_record = run(model_directory, lines, "lambada"), run(model_directory, records, "lambada")
    assert by_line["nll_nats"] == by_record["nll_nats"]
    assert by_line["scored_text_sha256"] == by_record["scored_text_sha256"]
    quoted = write(tmp_path / "q.txt", "she said to him `` hello\n")
    record = run(model_directory, quoted, "lambada", detokenizer="lambada")
    assert (record["n_bytes"], record["protocol"]["detokenizer"]) == (len("hello"), "lambada")


def test_a_passage_without_two_words_is_counted_and_not_scored(model_directory: Path, tmp_path: Path) -> None:
    reporter = Silent()
    record = run(model_directory, write(tmp_path / "a.txt", "single\n\n  \ntwo words\n"), "lambada", reporter)
    assert (record["n_words"], record["n_documents"]) == (1, 4)
    assert any("3 passages have no word after another" in line for line in reporter.warnings)
    with pytest.raises(BadInput, match="do not fit the context of 4"):
        run(model_directory, write(tmp_path / "b.txt", "a qzxjkvqzxjkvqzxjkv\n"), "lambada", context=4)
    with pytest.raises(BadInput, match="no token to score"):
        run(model_directory, write(tmp_path / "c.txt", "single"), "lambada")


def test_a_detokenizer_works_with_any_protocol(model_directory: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", WIKI)
    config = EvalConfig(ModelChoice(str(model_directory), "cpu"), (str(path),), protocol="harness",
                        detokenizer="wikitext")
    record = evaluate(config, Silent())[0]
    assert record["protocol"]["detokenizer"] == "wikitext"
    assert record["n_bytes"] == len(WIKI)
    assert record["scored_text_sha256"] == digest(detokenize("wikitext", WIKI).text)
    assert "published" not in record and "unstated" not in record["protocol"]


def test_canonical_counts_are_known() -> None:
    exact = {"paper-wikitext2": {"n_words": 241_211 + 4_358}, "paper-wikitext103": {"n_words": 245_569},
             "paper-ptb": {"n_words": 78_669 + 3_761}, "paper-lambada": {"n_words": 5_153},
             "paper-enwik8": {"n_bytes": 5_000_000, "n_bytes_given": 100_000_000},
             "paper-text8": {"n_characters": 5_000_000, "n_bytes_given": 5_000_000}}
    for name, counts in exact.items():
        assert compare(name, counts)["canonical"] is True
        assert not doubts(name, counts)
        assert compare(name, {unit: count - 9 for unit, count in counts.items()})["canonical"] is False
        assert compare(name, {**counts, "units_sha256": "0" * 64})["canonical"] is None
    assert compare("paper-1bw", {})["canonical"] is None
    assert compare("sliding", {}) == {}


def test_records_of_pieces_merge_beside_the_published_row(model_directory: Path, tmp_path: Path) -> None:
    paths = []
    for number, text in enumerate(("He didn 't go .\n", "She did .\n")):
        record = run(model_directory, write(tmp_path / "a.txt", text), "1bw")
        paths.append(tmp_path / f"{number}.jsonl")
        paths[-1].write_bytes(encode_record("gpt2.eval", record))
    whole = run(model_directory, write(tmp_path / "b.txt", "He didn 't go .\nShe did .\n"), "1bw")
    (merged,) = merge_records([str(path) for path in paths], 0, Silent())
    assert merged["word_ppl"] == pytest.approx(whole["word_ppl"], rel=1e-6)
    assert (merged["published"], merged["metric"]) == (whole["published"], "word_ppl")


@pytest.mark.parametrize(("protocol", "options", "words"), [
    ("sliding", {"split": "test"}, "paper-enwik8 and paper-text8"), ("paper-ptb", {"split": "all"}, "scored whole"),
    ("paper-text8", {"split": "train"}, "test, or all"), ("sliding", {"detokenizer": "x"}, "no de-tokenizer"),
])
def test_usage_faults(model_directory: Path, tmp_path: Path, protocol: str, options: dict[str, str], words: str
                      ) -> None:
    config = EvalConfig(ModelChoice(str(model_directory), "cpu"), (str(write(tmp_path / "a.txt", "x")),),
                        protocol=protocol, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageFault, match=words):
        evaluate(config, Silent())


def test_the_options_reach_the_record(gpt2_here: Callable, model_directory: Path) -> None:
    result = gpt2_here("eval-ppl", model_directory, "--protocol", "paper-text8", "--split", "all", "--detokenizer",
                       "1bw", "--threads", "1", input=b"a dog , a cat .", check=True)
    record = json.loads(result.stdout.splitlines()[0])
    assert (record["protocol"]["text"], record["protocol"]["detokenizer"]) == ("as given, whole", "1bw")
    assert record["scored_text_sha256"] == digest("a dog, a cat.")
    unknown = gpt2_here("eval-ppl", model_directory, "--detokenizer", "moses", input=b"x")
    assert (unknown.returncode, unknown.stdout) == (2, b"")
    assert b"'moses' is not one of" in unknown.stderr
