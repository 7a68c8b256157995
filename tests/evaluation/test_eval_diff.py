"""gpt2 eval-diff: which items and documents are pairs, what is refused, and numbers that can be done by hand."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import gpt2_here  # noqa: F401

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.evaluation.comparison import DiffConfig, compare
from gpt2cli.evaluation.paired import Resampling
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent

Record = dict[str, Any]
FEW = Resampling(200)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def item(number: int, task: str = "arc", data: str | None = None, asked: str = "?", **metrics: float) -> Record:
    return {"kind": "gpt2.item", "task": task, "item": number, "type": "multiple_choice", "metrics": metrics,
            "doc_sha256": digest(data or f"{task} {number}"), "request_sha256": digest(asked)}


def summary(task: str = "arc", **changes: Any) -> Record:
    return {"kind": "gpt2.task", "run": "r", "step": 1, "tokens": 2, "flops": 3, "n_params": 4, "task": task,
            "type": "multiple_choice", "num_fewshot": 0, "n_items": 9, "protocol": {"context": 64}, "model_sha256": "m",
            "metrics": {"acc": {"aggregation": "mean", "higher_is_better": True}}, **changes}


def document(number: int, text: str, nll: float, n_tokens: int) -> Record:
    return {"kind": "gpt2.eval-document", "document": number, "id": digest(text), "nll_nats": nll, "n_tokens": n_tokens,
            "n_words": 1, "n_bytes": len(text.encode()), "n_characters": len(text)}


def evaluation(**changes: Any) -> Record:
    return {"kind": "gpt2.eval", "run": "r", "step": 1, "tokens": 2, "flops": 3, "split": None, "ppl": 20.0,
            "nll_nats_per_token": 3.0, "n_tokens": 10, "protocol": {"context": 64}, "tokenizer_sha256": "t",
            "model_sha256": "m", **changes}


@pytest.fixture
def differ(tmp_path: Path) -> Callable[..., tuple[list[Record], list[str]]]:
    """Write two lists of records, compare them, return the records and the warnings."""

    def run(a: list[Record], b: list[Record], drawing: Resampling = FEW) -> tuple[list[Record], list[str]]:
        for name, records in (("a", a), ("b", b)):
            write(tmp_path / f"{name}.jsonl", records)
        reporter = Silent()
        found = compare(DiffConfig(str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), drawing), reporter)
        return found, reporter.warnings

    return run


def write(path: Path, records: list[Record]) -> None:
    path.write_bytes(b"".join(
        encode_record(record["kind"], {name: value for name, value in record.items() if name != "kind"})
        for record in records))


def test_by_hand(differ: Callable) -> None:
    """Five of six items are pairs: A right on 0 1, B on 0 2 3 4, so A alone on one and B alone on three."""
    a = [item(n, acc=float(n in (0, 1)), score=n / 10) for n in range(5)] + [item(9, acc=1.0, score=1.0), summary()]
    b = [item(n, acc=float(n != 1), score=n / 10 + n) for n in range(5)] + [summary(run="s", model_sha256="n")]
    (acc, score), warnings = differ(a, b)
    assert (acc["task"], acc["metric"], acc["a"], acc["b"], acc["n_pairs"]) == ("arc", "acc", 0.4, 0.8, 5)
    assert acc["difference"] == pytest.approx(0.4)
    assert acc["mcnemar"] == {"only_a": 1, "only_b": 3, "both": 1, "neither": 0, "p_value": pytest.approx(10 / 16)}
    assert acc["stderr"] == pytest.approx(math.sqrt(((4 - 5 * 0.4**2) / 4) / 5))
    assert (acc["n_only_a"], acc["n_only_b"], acc["higher_is_better"]) == (1, 0, True)
    assert (acc["a_model"]["run"], acc["b_model"]["run"], acc["differing"]) == ("r", "s", [])
    assert "mcnemar" not in score and score["difference"] == pytest.approx(2.0)
    assert score["higher_is_better"] is None
    assert warnings == []


def test_order_in_the_files_does_not_matter_and_the_seed_does(differ: Callable) -> None:
    draw = random.Random(0)
    items = [[item(n, task, acc=float(draw.random() < 0.5), f=draw.random()) for task in ("x", "y") for n in range(40)]
             for _ in range(2)]
    first, _ = differ(*items)
    for side in items:
        draw.shuffle(side)
    assert differ(*items)[0] == first
    names = [(record["task"], record["metric"]) for record in first]
    assert names == [("x", "acc"), ("x", "f"), ("y", "acc"), ("y", "f")]
    other, _ = differ(*items, Resampling(200, 1))
    assert other[1]["interval"] != first[1]["interval"] and other[1]["difference"] == first[1]["difference"]


def test_what_differs_besides_the_model_is_said(differ: Callable) -> None:
    a = [item(0, acc=1.0, x=1.0), item(1, acc=0.0, x=1.0), item(0, "only_a", acc=1.0), summary()]
    b = [item(0, asked="!", acc=1.0, y=1.0), item(1, acc=1.0, y=1.0), summary(num_fewshot=5)]
    (record,), warnings = differ(a, b)
    assert record["differing"] == ["num_fewshot"]
    text = "\n".join(warnings)
    for said in ("differ in num_fewshot", "1 of 2 items was asked in other words", "x is only in", "y is only in",
                 "task only_a is only in"):
        assert said in text


@pytest.mark.parametrize(("a", "b", "sentence"), [
    ([item(0, acc=1.0)], [item(0, data="other", acc=1.0)], "item 0 of task arc was made from other data"),
    ([item(0, acc=1.0)], [item(1, acc=1.0)], "have no item or document with a measure in common"),
    ([item(0, acc=1.0)], [item(0, "piqa", acc=1.0)], "have no item or document with a measure in common"),
    ([item(0, acc=1.0)], [item(0, f=1.0)], "have no item or document with a measure in common"),
    ([item(0, acc=1.0)], [document(0, "x", 1.0, 1)], "have no item or document with a measure in common"),
    ([item(0, acc=1.0), item(0, acc=1.0)], [item(0, acc=1.0)], "item 0 of task arc is there twice"),
    ([summary()], [item(0, acc=1.0)], "summaries but no items; make it without eval-tasks' --summary"),
    ([evaluation()], [item(0, acc=1.0)], "an evaluation but no documents; make it with eval-ppl --per-doc"),
    ([], [item(0, acc=1.0)], "holds no records of items or documents"),
    ([item(0, acc=1.0), summary(), summary("piqa", model_sha256="x")], [item(0, acc=1.0)], "evaluations of 2 models"),
    ([item(0, acc=True)], [item(0, acc=1.0)], "acc is no number that can be averaged: True"),
    ([item(0, acc="1")], [item(0, acc=1.0)], "acc is no number that can be averaged: 1"),
    ([{**item(0), "item": -1}], [item(0, acc=1.0)], "item of task arc is no count: -1"),
    ([{**item(0), "metrics": []}], [item(0, acc=1.0)], "metrics is no object"),
    ([document(0, "one", 1.0, 1)], [document(0, "two", 1.0, 1)], "document 0 is another text"),
    ([document(0, "one", 1.0, 1)], [{**document(0, "one", 1.0, 1), "n_bytes": 4}], "count different bytes"),
])
def test_what_cannot_be_compared_is_refused(differ: Callable, a: Any, b: Any, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        differ(a, b)


def test_documents_by_hand(differ: Callable) -> None:
    """30 and 27 nats over 12 tokens and 8 bytes; a repeated text is two pairs, the third document of B is alone."""
    a = [document(0, "aaa", 10.0, 4), document(1, "bb", 9.0, 3), document(2, "aaa", 11.0, 5), evaluation()]
    b = [document(0, "bb", 8.0, 3), document(1, "aaa", 9.0, 4), document(2, "aaa", 10.0, 5), document(3, "c", 1.0, 1),
         evaluation(run="s", model_sha256="n")]
    (nats, bits), warnings = differ(a, b)
    assert (nats["task"], nats["metric"], nats["n_pairs"]) == (None, "nll_nats_per_token", 3)
    assert (nats["a"], nats["b"]) == (pytest.approx(30 / 12), pytest.approx(27 / 12))
    assert nats["ppl_ratio"] == pytest.approx(math.exp(-3 / 12))
    residuals = [-1 + 0.25 * 4, -1 + 0.25 * 3, -1 + 0.25 * 5]
    assert nats["stderr"] == pytest.approx(math.sqrt(sum(r * r for r in residuals) * 3 / 2) / 12)
    assert (bits["metric"], bits["difference"]) == ("bits_per_byte", pytest.approx(-3 / math.log(2) / 8))
    assert (bits["n_only_a"], bits["n_only_b"], bits["higher_is_better"]) == (0, 1, False)
    assert warnings == []


@pytest.mark.parametrize(("change", "n_tokens", "sentence"), [
    ({"tokenizer_sha256": "u"}, 4, "the tokenizers differ"), ({}, 3, "scored different numbers of tokens"),
])
def test_without_the_same_tokens_only_bytes_are_compared(differ: Callable, change: Any, n_tokens: int, sentence: str
                                                         ) -> None:
    found, warnings = differ([document(0, "aaa", 10.0, 4), evaluation()],
                             [document(0, "aaa", 9.0, n_tokens), evaluation(**change)])
    assert [record["metric"] for record in found] == ["bits_per_byte"]
    assert (found[0]["stderr"], found[0]["interval"], found[0]["n_pairs"]) == (None, None, 1)
    assert sentence in "\n".join(warnings)


def test_measures_of_all_items_are_made_again(differ: Callable) -> None:
    """Matthews' correlation as scikit-learn's from labels, BLEU as sacrebleu's from texts, the Brier score."""
    import sacrebleu
    from sklearn.metrics import matthews_corrcoef

    draw, sides, labels, texts = random.Random(1), [], [], []
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "dog", "run", "to", "old", "house", "by", "sea"]
    references = [" ".join(draw.choices(words, k=9)) for _ in range(30)]
    golds = [draw.randrange(2) for _ in range(30)]
    measured = {"mcc": {"aggregation": "matthews_corrcoef", "higher_is_better": True},
                "brier_score": {"aggregation": "brier_score", "higher_is_better": False}}
    bleu = {"bleu": {"aggregation": "bleu", "higher_is_better": True}}
    for wrong in (0.5, 0.2):
        guesses = [gold ^ (draw.random() < wrong) for gold in golds]
        said = [" ".join(draw.choice(words) if draw.random() < wrong else word for word in text.split())
                for text in references]
        labels.append(guesses)
        texts.append(said)
        sides.append([
            *({**item(n, acc=float(guesses[n] == golds[n])), "target": golds[n], "prediction": guesses[n],
               "loglikelihoods_nats": [-1.0 - guesses[n], -2.0 + guesses[n]]} for n in range(30)),
            *({**item(n, "fr"), "target": references[n], "prediction": said[n]} for n in range(30)),
            summary(metrics=measured), summary("fr", metrics=bleu)])
    found, warnings = differ(*sides)
    by_name = {record["metric"]: record for record in found}
    assert warnings == [] and set(by_name) == {"acc", "mcc", "brier_score", "bleu"}
    for side, name in enumerate("ab"):
        assert by_name["mcc"][name] == pytest.approx(matthews_corrcoef(golds, labels[side]))
        assert by_name["bleu"][name] == pytest.approx(sacrebleu.corpus_bleu(texts[side], [references]).score)
    low, high = by_name["bleu"]["interval"]
    assert 0 < low < by_name["bleu"]["difference"] < high
    assert by_name["brier_score"]["difference"] < 0 and by_name["brier_score"]["higher_is_better"] is False


def test_a_measure_that_cannot_be_made_again_is_said(differ: Callable) -> None:
    sides = [[item(0, acc=1.0), summary(metrics={"mcc": {"aggregation": "matthews_corrcoef"}})]] * 2
    found, warnings = differ(*sides)
    assert [record["metric"] for record in found] == ["acc"] and "mcc is a measure of all items together" in warnings[0]


def test_the_command(tmp_path: Path, gpt2_here: Callable) -> None:  # noqa: F811
    draw = random.Random(2)
    write(tmp_path / "a.jsonl", [item(n, acc=float(draw.random() < 0.3)) for n in range(60)] + [summary()])
    write(tmp_path / "b.jsonl", [item(n, acc=float(draw.random() < 0.9)) for n in range(59)] + [summary()])
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    result = gpt2_here("eval-diff", a, b, check=True)
    record, end = map(json.loads, result.stdout.splitlines())
    assert (record["schema"], end["schema"]) == ("gpt2.eval-diff/1", "gpt2.end/1")
    drawn = {"method": "percentiles over resampled pairs", "resamples": 10000, "seed": 0, "level": 0.95}
    assert record["bootstrap"] == drawn
    table = result.stderr.decode()
    for said in ("95 % interval", " better ", "McNemar", "1 item of task arc is only in A and was left out"):
        assert said in table
    (tmp_path / "b.jsonl.zst").write_bytes(zstandard.compress(b.read_bytes()))
    piped = zstandard.compress(a.read_bytes())
    again = gpt2_here("eval-diff", "-q", "-", tmp_path / "b.jsonl.zst", input=piped, check=True)
    assert again.stdout == result.stdout and b"interval" not in again.stderr
    gpt2_here("eval-diff", a, b, "-o", tmp_path / "d.jsonl", "--bootstrap", 0, "--level", 0.9, check=True)
    assert json.loads((tmp_path / "d.jsonl").read_text())["interval"] is None
    for arguments, status in (((a, b, "-o", tmp_path / "d.jsonl"), 2), (("-", "-"), 2), ((a,), 2),
                              ((a, tmp_path / "none"), 2), ((a, b, "--level", 1), 2), ((a, b, "--bootstrap", "x"), 2)):
        result = gpt2_here("eval-diff", *arguments)
        assert (result.returncode, result.stdout) == (status, b"")
    write(tmp_path / "few.jsonl", [item(n, acc=1.0) for n in range(19)] + [summary()])
    write(tmp_path / "none.jsonl", [item(n, acc=0.0) for n in range(19)] + [summary()])
    few = gpt2_here("eval-diff", tmp_path / "none.jsonl", tmp_path / "few.jsonl", check=True).stderr
    assert b"19 items of task arc are few" in few and b"better" not in few and b"are few" not in result.stderr
    write(b, [item(0, data="other", acc=1.0)])
    refused = gpt2_here("eval-diff", a, b)
    assert (refused.returncode, refused.stdout) == (65, b"") and b"other data" in refused.stderr


@pytest.mark.parametrize("line", [
    '{"schema":"gpt2.item/1","task":"\\ud800","item":0,"type":"x","metrics":{"acc":1}}',
    '{"schema":"gpt2.item/1","task":"arc","item":0,"type":"x","metrics":{"\\ud800":1}}',
    '{"schema":"gpt2.eval/1","run":"\\ud800","step":1,"tokens":1,"flops":1,"split":1,"nll_nats_per_token":1,"ppl":1,'
    '"n_tokens":1,"protocol":1}',
])
def test_half_a_surrogate_pair_is_refused(tmp_path: Path, line: str) -> None:
    """JSON can spell it, UTF-8 cannot: what was read could not be written."""
    (tmp_path / "a").write_text(line + "\n")
    with pytest.raises(BadInput, match="surrogate"):
        compare(DiffConfig(str(tmp_path / "a"), str(tmp_path / "a")), Silent())


def test_only_one_side_is_standard_input() -> None:
    with pytest.raises(UsageFault, match="only one of the two"):
        compare(DiffConfig("-", "-"), Silent())


values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                      | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(st.sampled_from(["acc", "mcc", "aggregation", "x"]), inner, max_size=3))


@settings(max_examples=150)
@given(st.lists(st.tuples(
    st.sampled_from([item(0, acc=1.0), {**item(1, acc=0.0), "target": 1, "prediction": 0},
                     summary(metrics={"mcc": {"aggregation": "matthews_corrcoef"}}), document(0, "aaa", 1.0, 2),
                     evaluation()]),
    st.dictionaries(st.sampled_from(["task", "item", "metrics", "doc_sha256", "request_sha256", "target", "prediction",
                                     "loglikelihoods_nats", "document", "id", "nll_nats", "n_tokens", "n_bytes",
                                     "protocol", "run"]), values, max_size=2)), min_size=1, max_size=6))
def test_whatever_the_records_hold_only_a_sentence_escapes(tmp_path_factory: Any, changed: Any) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    write(directory / "a", [{**record, **changes} for record, changes in changed])
    write(directory / "b", [item(0, acc=1.0), item(1, acc=1.0), document(0, "aaa", 2.0, 2), evaluation(),
                            summary(metrics={"mcc": {"aggregation": "matthews_corrcoef"}})])
    try:
        found = compare(DiffConfig(str(directory / "a"), str(directory / "b"), Resampling(5)), Silent())
    except Gpt2Error:
        return
    assert all(json.loads(encode_record("gpt2.eval-diff", record))["schema"] == "gpt2.eval-diff/1" for record in found)
