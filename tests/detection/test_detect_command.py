"""gpt2 detect train, classify and report as a person runs them, their numbers worked out again from the records."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gpt2cli.detection.evidence import share_generated, statement

WORDS = 12
N = 500


def jsonl(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def lines(output: bytes) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """human.jsonl, passages with prompts; t1.jsonl and k40.jsonl, "samples" that draw words one by one."""
    place, drawn = tmp_path_factory.mktemp("corpus"), random.Random(5)
    words = " ".join(topics[name] for name in sorted(topics)).split()
    size = WORDS + 3
    passages = [words[at : at + size] for at in range(0, N * size, size)]
    jsonl(place / "human.jsonl", [{"prompt": " ".join(p[:3]), "text": " " + " ".join(p[3:])} for p in passages])
    common = [word for word, _ in Counter(words).most_common(40)]
    for name, choices, top_k in (("t1", words, None), ("k40", common, 40)):
        jsonl(place / f"{name}.jsonl", [
            {"schema": "gpt2.sample/1", "prompt": " ".join(p[:3]), "text": " ".join(drawn.choices(choices, k=WORDS)),
             "finish_reason": "length", "temperature": 1.0, "top_k": top_k, "top_p": None} for p in passages])
    return place


@pytest.fixture
def texts(corpus: Path) -> tuple[str, ...]:
    return ("--human", str(corpus / "human.jsonl"), "--generated", str(corpus / "t1.jsonl"),
            "--generated", str(corpus / "k40.jsonl"))


@pytest.fixture
def detector(gpt2_here: Callable, texts: tuple[str, ...], tmp_path: Path) -> Path:
    gpt2_here("detect", "train", *texts, "-q", "-o", tmp_path / "detector", check=True)
    return tmp_path / "detector"


def test_the_same_texts_give_the_same_bytes_in_any_number_of_files(
    gpt2_here: Callable, corpus: Path, detector: Path, texts: tuple[str, ...], tmp_path: Path
) -> None:
    records = (corpus / "human.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "a.jsonl").write_text("".join(records[:300] + records[:5]))
    (tmp_path / "b.jsonl").write_text("".join(records[300:]))
    run = gpt2_here("detect", "train", "--human", tmp_path / "a.jsonl", "--human", tmp_path / "b.jsonl", *texts[2:],
                    "-o", tmp_path / "again", check=True)
    assert (tmp_path / "again").read_bytes() == detector.read_bytes()
    assert b"left out 5 repetitions of texts given before" in run.stderr and b"AUC" in run.stderr
    verdict = lines(gpt2_here("verify", detector, check=True).stdout)[0]
    assert verdict["kind"] == "detector" and verdict["facts"]["words"] == WORDS


def test_the_report_is_what_its_texts_records_say(
    gpt2_here: Callable, corpus: Path, detector: Path, texts: tuple[str, ...]
) -> None:
    run = gpt2_here("detect", "report", detector, *texts, check=True)
    *records, end = lines(run.stdout)
    assert end["count"] == len(records)
    groups = {(one["group"], one.get("top_k"), one["words"]): one for one in records}
    assert set(groups) == {("length", None, 8), ("length", None, 12), ("setting", None, 12), ("setting", 40, 12),
                           ("all", None, 12)}
    assert list(groups)[2:4] == [("setting", None, 12), ("setting", 40, 12)], "a setting without top-k before one with"
    whole, hard, easy = groups["all", None, 12], groups["setting", None, 12], groups["setting", 40, 12]
    assert b"texts were used to make the detector" in run.stderr
    assert 60 < whole["n_human"] < 140 and whole["n_generated"] == hard["n_generated"] + easy["n_generated"]
    assert easy["auc_interval"][0] > hard["auc_interval"][1] and easy["accuracy"] > hard["accuracy"]
    assert groups["length", None, 8]["auc"] < groups["length", None, 12]["auc"] == whole["auc"]

    judged: dict[str, list[dict]] = {}
    prompts = [json.loads(line)["prompt"] for line in (corpus / "human.jsonl").read_text().splitlines()]
    for name in ("human", "t1", "k40"):
        found = lines(gpt2_here("detect", detector, corpus / f"{name}.jsonl", "--max-false-positives", "0.05",
                                check=True).stdout)[:-1]
        judged[name] = [one for one, prompt in zip(found, prompts, strict=True) if in_test(prompt)]
    assert len(judged["human"]) == whole["n_human"] and len(judged["k40"]) == easy["n_generated"]
    scores = [[one["score"] for one in judged[name]] for name in ("human", "t1")]
    labels = np.repeat([0, 1], list(map(len, scores)))
    assert hard["auc"] == pytest.approx(roc_auc_score(labels, np.concatenate(scores)))
    right = [np.mean([one["probability"] <= 0.5 for one in judged["human"]]),
             np.mean([one["probability"] > 0.5 for one in judged["t1"]])]
    assert hard["accuracy"] == pytest.approx(np.mean(right))
    threshold = next(one for one in whole["thresholds"] if one["max_false_positives"] == 0.05)
    flagged = np.mean([one["verdict"] == "generated" for one in judged["k40"] + judged["t1"]])
    assert threshold["found"] == pytest.approx(flagged)
    assert threshold["false_positives"] == np.mean([one["verdict"] == "generated" for one in judged["human"]])
    row = next(one for one in whole["evidence"] if (one["max_false_positives"], one["prevalence"]) == (0.05, 0.01))
    assert row["flagged_generated"] == pytest.approx(
        0.01 * flagged / (0.01 * flagged + 0.99 * threshold["false_positives"]))
    said = run.stderr.decode()
    assert "On a single text this is weak evidence" in said and "temperature 1, top-k 40" in said


def in_test(prompt: str) -> bool:
    """Whether a prompt's texts are for testing, by the rule that the man page and split.py state."""
    from hashlib import sha256

    digest = sha256(b"gpt2 detect " + sha256(prompt.encode()).hexdigest().encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < 0.2


def test_only_what_was_asked_for_is_reported(gpt2_here: Callable, detector: Path, texts: tuple[str, ...]) -> None:
    run = gpt2_here("detect", "report", detector, *texts, "--length", "5", "--max-false-positives", "0.2",
                    "--length", "5", "--prevalence", "0.3", "-q", check=True)
    *records, _ = lines(run.stdout)
    assert run.stderr == b"" and [one["words"] for one in records if one["group"] == "length"] == [5]
    assert [one["max_false_positives"] for one in records[-1]["thresholds"]] == [0.2]
    assert [one["prevalence"] for one in records[-1]["evidence"]] == [0.3]


def test_a_length_that_nothing_has_is_said(
    gpt2_here: Callable, corpus: Path, detector: Path, texts: tuple[str, ...], tmp_path: Path
) -> None:
    run = gpt2_here("detect", "report", detector, *texts, "--length", "13")
    assert run.returncode == 2 and b"--length 13 is beyond the first 12 words" in run.stderr and not run.stdout
    whole = tmp_path / "whole"
    gpt2_here("detect", "train", *texts, "--words", "all", "-q", "-o", whole, check=True)
    run = gpt2_here("detect", "report", whole, *texts, "--length", "8", "--length", "900", "-q", check=True)
    assert [one["words"] for one in lines(run.stdout)[:-1] if one["group"] == "length"] == [8]
    assert b"--length 900: no human text has as many words" in run.stderr


def test_verdicts_keep_their_limits_and_prevalence_moves_probabilities(
    gpt2_here: Callable, corpus: Path, detector: Path
) -> None:
    runs = (gpt2_here("detect", "classify", detector, corpus / "k40.jsonl", "--prevalence", share, check=True)
            for share in ("0.5", "0.02"))
    (*even, _), (*rare, _) = (lines(run.stdout) for run in runs)
    for one, other in zip(even, rare, strict=True):
        assert one["verdict"] == other["verdict"] and other["prevalence"] == 0.02
        odds = one["probability"] / (1 - one["probability"]) * 0.02 / 0.98
        assert other["probability"] == pytest.approx(odds / (1 + odds))
        assert (one["verdict"] == "generated") == (one["score"] > one["generated_above"])
        assert (one["p_human"] <= 0.01) == (one["score"] > one["generated_above"])
    assert [one["document"] for one in even] == list(range(N))


def test_what_can_not_be_promised_is_not_said(gpt2_here: Callable, corpus: Path, detector: Path) -> None:
    run = gpt2_here("detect", detector, corpus / "k40.jsonl", "--max-false-positives", "0.0001",
                    "--max-false-negatives", "0.0001", check=True)
    *records, _ = lines(run.stdout)
    assert {one["verdict"] for one in records} == {"undecided"}
    assert records[0]["generated_above"] is records[0]["human_below"] is None
    assert b"no text is called generated" in run.stderr and b"that takes 9,999" in run.stderr
    made_with = sum(not in_test(one["prompt"]) for one in lines((corpus / "k40.jsonl").read_bytes()))
    assert f"{made_with} of {N} texts were used to make this detector, or share a prompt".encode() in run.stderr
    short = gpt2_here("detect", detector, input=b"only a few words", check=True)
    assert b"1 of 1 text has fewer than the 12 words" in short.stderr and b"used to make" not in short.stderr
    assert short.stderr.endswith(b"gpt2 detect: 1 text: 0 generated, 0 human, 1 undecided\n")
    said = lines(short.stdout)[0]
    assert (said["verdict"], said["words"]) == ("undecided", 4)


def test_a_likelihood_detector_scores_as_eval_ppl(
    gpt2_here: Callable, corpus: Path, lively: Path, tmp_path: Path
) -> None:
    few = [jsonl(tmp_path / f"{name}.jsonl", lines((corpus / f"{name}.jsonl").read_bytes())[:120])
           for name in ("human", "k40")]
    for method in ("logprob", "logrank"):
        gpt2_here("detect", "train", "--method", method, "--model", lively, "--human", few[0], "--generated", few[1],
                  "-q", "-o", tmp_path / method, check=True)
        *found, _ = lines(gpt2_here("detect", tmp_path / method, few[0], "--model", lively, check=True).stdout)
        # as cut for judging: nothing but the white space at the ends is gone
        cut = jsonl(tmp_path / "cut.jsonl", [{"text": one["text"].strip()} for one in lines(few[0].read_bytes())])
        if method == "logprob":
            documents = lines(gpt2_here("eval-ppl", lively, cut, "--per-doc", check=True).stdout)
            values = [-one["nll_nats"] / one["n_tokens"] for one in documents
                      if one["schema"] == "gpt2.eval-document/1"]
        else:
            tokens = [one for one in lines(gpt2_here("eval-ppl", lively, cut, "--per-token", check=True).stdout)
                      if one["schema"] == "gpt2.eval-token/1"]
            values = [np.mean([np.log(one["rank"]) for one in tokens if one["document"] == number])
                      for number in range(len(found))]
        scores = np.array([one["score"] for one in found])
        assert np.abs(np.abs(scores) - np.abs(values)).max() < 1e-6
        assert len(set(np.sign(scores / np.array(values)))) == 1
        gpt2_here("detect", "report", tmp_path / method, "--model", lively, "--human", few[0], "--generated", few[1],
                  check=True)


def test_another_model_or_none_is_refused(
    gpt2_here: Callable, corpus: Path, lively: Path, orderly: tuple, detector: Path, texts: tuple[str, ...],
    tmp_path: Path
) -> None:
    gpt2_here("detect", "train", "--method", "logprob", "--model", lively, *texts[:4], "-q",
              "-o", tmp_path / "by-lively", check=True)
    for arguments, words in (
        ((tmp_path / "by-lively", "--model", orderly[0]), b"is not the model"),
        ((tmp_path / "by-lively",), b"name its place with --model"),
        ((detector, "--model", lively), b"needs no --model"),
        (("train", "--method", "logprob", *texts, "-o", tmp_path / "x"), b"--method logprob needs --model MODEL"),
        (("train", "--model", lively, *texts, "-o", tmp_path / "x"), b"--method tfidf needs no --model"),
    ):
        run = gpt2_here("detect", *arguments, input=b"a text")
        assert run.returncode == 2 and words in run.stderr, run.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (("none", "a.jsonl"), 2, b"there is no none"),
    (("a.jsonl",), 65, b"is no detector; gpt2 detect train makes one"),
    (("-", "-"), 2, b"can't be the detector and the texts"),
    (("train", "--human", "-", "--generated", "-", "-o", "d"), 2, b"can't be both"),
    (("train", "--human", "a.jsonl", "--generated", "a.jsonl", "-o", "d"), 65, b"too few human texts"),
    (("train", "--human", "a.jsonl", "-o", "d"), 2, b"--generated"),
    (("train", "--human", "a.jsonl", "--generated", "b.jsonl", "-o", "d", "--words", "0"), 2, b"--words"),
    (("train", "--human", "a.jsonl", "--generated", "b.jsonl", "-o", "d", "--words", "999"), 65, b"fewer --words"),
    (("train", "--human", "a.jsonl", "--generated", "b.jsonl", "-o", "a.jsonl"), 2, b"--force"),
    (("report", "a.jsonl", "--human", "a.jsonl"), 2, b"--generated"),
    (("--max-false-positives", "0", "d"), 2, b"--max-false-positives"),
    (("--prevalence", "1", "d"), 2, b"--prevalence"),
])
def test_wrong_input_is_a_sentence_and_a_status(
    gpt2_here: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int,
    words: bytes,
) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "a.jsonl", [{"text": f"human {n}"} for n in range(9)])
    jsonl(tmp_path / "b.jsonl", [{"text": f"generated {n}"} for n in range(9)])
    run = gpt2_here("detect", *arguments)
    assert run.returncode == status and words in run.stderr, run.stderr
    assert run.stdout == b"" and not (tmp_path / "d").exists()


def test_a_report_without_new_texts_and_a_difference_of_length_are_said(
    gpt2_here: Callable, corpus: Path, tmp_path: Path
) -> None:
    longer = jsonl(tmp_path / "longer.jsonl", [{**one, "text": one["text"] * 2 + "."}
                                               for one in lines((corpus / "t1.jsonl").read_bytes())])
    human = corpus / "human.jsonl"
    run = gpt2_here("detect", "train", "--human", human, "--generated", longer, "--words", "all",
                    "--test-fraction", "0", "-o", tmp_path / "d", check=True)
    assert b"the detector may learn nothing but length" in run.stderr
    assert lines(gpt2_here("detect", tmp_path / "d", input=b"one two three", check=True).stdout)[0]["words"] == 3
    run = gpt2_here("detect", "report", tmp_path / "d", "--human", human, "--generated", longer)
    assert run.returncode == 65 and b"there are no human texts left to test on" in run.stderr


def test_a_flag_is_worth_what_bayes_says() -> None:
    assert share_generated(0.9, 0.1, 0.5) == pytest.approx(0.9)
    assert share_generated(0.9, 0.01, 0.01) == pytest.approx(0.009 / (0.009 + 0.0099))
    assert share_generated(0.0, 0.0, 0.5) is None


def test_small_shares_are_not_called_none() -> None:
    said = " ".join(statement({
        "thresholds": [{"max_false_positives": 0.0004, "found": 0.0412, "false_positives": 0.0008, "score": 1.0}],
        "evidence": [{"max_false_positives": 0.0004, "prevalence": 0.001, "flagged_generated": 0.04902,
                      "interval": [0.0041, 0.9999]}],
    }))
    assert "the threshold for 0.04 % false positives, 4.12 % of generated and 0.08 % of human texts" in said
    assert "Where 0.1 % of texts are generated, of 10,000 texts 0.4 generated and 8 human ones are flagged" in said
    assert "with probability 4.9 % (between 0.41 % and 100 %" in said
