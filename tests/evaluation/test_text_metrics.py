"""Text metrics against the programs whose numbers they claim: lm_eval, sacrebleu, rouge-score; the rest by hand."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.sentences import first_sentences, split_sentences
from gpt2cli.evaluation.task import Filter, MetricChoice, Task
from gpt2cli.evaluation.task_filters import pipelines_of
from gpt2cli.evaluation.task_metrics import AGGREGATIONS, METRICS, summarise
from gpt2cli.evaluation.text_metrics import TEXT_METRICS, measure_text, normalised_words, word_f1

WORDS = ["the", "The", "a", "cat", "cats", "sat", "42", "mat,", "it's", "--", "été", "running", "ran", ".", "Dr."]


def pairs(count: int = 60, references: int = 1) -> list[tuple[str, list[str]]]:
    random_ = random.Random(1)

    def text() -> str:
        return " ".join(random_.choices(WORDS, k=random_.randint(1, 12)))

    return [(text() if number % 9 else "", [text() for _ in range(references)]) for number in range(count)]


@pytest.mark.parametrize("options", [
    {}, {"ignore_case": True}, {"ignore_punctuation": True, "ignore_numbers": True},
    {"regexes_to_ignore": [r"\b(the|a)\b", r"\W+"], "ignore_case": True},
])
def test_exact_match_is_lm_evals(options: dict[str, object]) -> None:
    from lm_eval.api.metrics import exact_match_hf_evaluate

    random_ = random.Random(2)
    hits = 0
    for _ in range(200):
        guess, gold = (" ".join(random_.choices([*WORDS[:4], "42"], k=random_.randint(1, 3))) for _ in range(2))
        theirs = exact_match_hf_evaluate(predictions=[guess], references=[gold], **options)["exact_match"]
        ours = measure_text("exact_match", guess, [gold], options, "x")
        assert ours == theirs
        hits += int(ours)
    assert 0 < hits < 200


@pytest.mark.parametrize("references", [1, 3])
def test_corpus_measures_are_sacrebleus(references: int) -> None:
    import sacrebleu

    found = pairs(references=references)
    guesses = [guess for guess, _ in found]
    golds = [list(stream) for stream in zip(*(gold for _, gold in found), strict=True)]
    expected = {"bleu": sacrebleu.corpus_bleu(guesses, golds).score,
                "chrf": sacrebleu.corpus_chrf(guesses, golds).score,
                "chrf++": sacrebleu.corpus_chrf(guesses, golds, word_order=2).score,
                "ter": sacrebleu.corpus_ter(guesses, golds).score}
    for name, score in expected.items():
        values = [measure_text(name, guess, gold, {}, "x") for guess, gold in found]
        assert AGGREGATIONS[METRICS[name].aggregation].function(values) == pytest.approx(score, rel=1e-12), name
        assert score > 1


def test_references_may_differ_in_number() -> None:
    found = [("the cat sat on it", ["the cat sat on it", "a cat"]), ("ran", ["the cat ran"])]
    for name in ("bleu", "chrf", "ter"):
        values = [measure_text(name, guess, gold, {}, "x") for guess, gold in found]
        assert AGGREGATIONS[METRICS[name].aggregation].function(values) > 0


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL", "rougeLsum"])
def test_rouge_is_rouge_scores(kind: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    for stemmer in (True, False):
        scorer = RougeScorer([kind], use_stemmer=stemmer)
        for guess, gold in pairs(30):
            assert measure_text(kind, guess, gold, {"use_stemmer": stemmer}, "x") == scorer.score(gold[0], guess)[
                kind].fmeasure


def test_words_are_normalised_as_squads_script_does() -> None:
    assert normalised_words("The  quick, brown fox; an owl's a-b (a) THE") == ["quick", "brown", "fox", "owls", "ab"]
    assert word_f1("the white house", "a white horse") == 0.5
    assert word_f1("no no", "no") == pytest.approx(2 / 3)
    assert word_f1("the", "a") == 1 and word_f1("", "cat") == 0 and word_f1("dog", "cat") == 0


def test_coqa_leaves_each_person_out_once() -> None:
    golds = ["white", "it was white", "white cat", "grey"]
    one = [word_f1("white", gold) for gold in golds]
    expected = (max(one[1:]) + max(one[0], one[2], one[3]) + max(one[0], one[1], one[3]) + max(one[:3])) / 4
    assert TEXT_METRICS["coqa_f1"]("white", golds, {}) == pytest.approx(expected)
    assert expected < 1
    assert TEXT_METRICS["coqa_f1"]("White!", ["the white"], {}) == 1
    assert TEXT_METRICS["squad_f1"]("white", golds, {}) == 1
    assert TEXT_METRICS["squad_em"]("The grey", golds, {}) == 1 and TEXT_METRICS["squad_em"]("g", golds, {}) == 0


def test_standard_errors_come_from_a_fixed_seed() -> None:
    values = [measure_text("bleu", guess, gold, {}, "x") for guess, gold in pairs(40)]
    metric = MetricChoice("bleu", "bleu", True)
    one, again, other = (summarise([metric], {"bleu": values}, 200, seed)["bleu"] for seed in (1, 1, 2))
    assert one == again and one["stderr"] != other["stderr"]
    assert one["stderr_method"] == "bootstrap of 200" and one["stderr"] > 0
    few = summarise([MetricChoice("chrf", "chrf", True)],
                    {"chrf": [measure_text("chrf", guess, gold, {}, "x") for guess, gold in pairs(10)]}, 1000, 1)
    assert few["chrf"]["stderr_method"] == "bootstrap of 100"


def task(*steps: tuple[str, dict[str, object]], more: tuple[Filter, ...] = ()) -> Task:
    return Task("t", "generate_until", {}, "records", "", "t.yaml", filters=(Filter("f", steps), *more))


@pytest.mark.parametrize(("steps", "answer", "expected"), [
    ([("regex", {"regex_pattern": r"(\d+)", "group_select": -1})], "1 then 22 ", "22"),
    ([("regex", {"regex_pattern": r"(\d+)"})], "none", "[invalid]"),
    ([("regex", {})], "so #### -12.5 and", "-12.5"),
    ([("regex", {"regex_pattern": "(a)|(b)", "fallback": "?"})], "xb", "b"),
    ([("regex", {"regex_pattern": "(a?)(b?)", "fallback": "?"})], "x", "?"),
    ([("remove_whitespace", {}), ("lowercase", {}), ("take_first", {})], " A\n", "a"),
    ([("uppercase", {})], "é", "É"),
    ([("map", {"mapping_dict": {"a": "b"}, "default_value": "z"})], "a", "b"),
    ([("map", {"mapping_dict": {"a": "b"}, "default_value": "z"})], "c", "z"),
    ([("first_sentences", {"n": 2})], "One. Two! Three?", "One. Two!"),
])
def test_filters(steps: list[tuple[str, dict[str, object]]], answer: str, expected: str) -> None:
    assert pipelines_of(task(*steps))[0].apply([answer], "x") == expected


def test_filters_of_several_answers() -> None:
    answers = ["a", "b", "b", "c"]
    assert pipelines_of(task(("majority_vote", {})))[0].apply(answers, "x") == "b"
    assert pipelines_of(task(("take_first_k", {"k": 3}), ("majority_vote", {})))[0].apply(answers, "x") == "b"
    with pytest.raises(BadInput, match="raise repeats"):
        pipelines_of(task(("take_first_k", {"k": 5})))[0].apply(answers, "x")


@pytest.mark.parametrize(("steps", "said"), [
    ([("custom", {})], "custom is not supported"),
    ([("lowercase", {"x": 1})], "'x' is not supported"),
    ([("regex", {"regex_pattern": "("})], "wrong pattern"),
    ([("regex", {"group_select": "1"})], "group_select"),
    ([("map", {"mapping_dict": {"a": "b"}})], "default_value"),
    ([("map", {"mapping_dict": {1: "b"}, "default_value": ""})], "from text to text"),
    ([("first_sentences", {"n": 0})], "whole number from 1"),
])
def test_filters_that_are_wrong(steps: list[tuple[str, dict[str, object]]], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        pipelines_of(task(*steps))
    with pytest.raises(BadInput, match="same name"):
        pipelines_of(task(more=(Filter("f", ()),)))


def test_a_hostile_pattern_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt2cli.evaluation.bounded_patterns.MAX_SECONDS", 0.2)
    hostile = r"^(?:a|aa)+$"
    start = time.monotonic()
    with pytest.raises(BadInput, match=r"record 3: the filter f needs a pattern .* takes more than"):
        pipelines_of(task(("regex", {"regex_pattern": hostile})))[0].apply(["a" * 400 + "!"], "record 3")
    with pytest.raises(BadInput, match="record 4: exact_match needs a pattern"):
        measure_text("exact_match", "a" * 400 + "!", ["b"], {"regexes_to_ignore": [hostile]}, "record 4")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(("text", "count", "expected"), [
    (" Yes. No.", 1, "Yes."),
    ("Mr. J. Smith came. He left.", 1, "Mr. J. Smith came."),
    ("It cost 3.50 euros! Really?", 1, "It cost 3.50 euros!"),
    ('"Go!" he said. Then', 1, '"Go!"'),
    ("first line\nsecond", 1, "first line"),
    ("one. two. three. four.", 3, "one. two. three."),
    ("no end", 3, "no end"),
    ("\n\n", 1, ""),
    ("It was I. You know.", 1, "It was I."),
    ("... well. so", 1, "... well."),
])
def test_first_sentences(text: str, count: int, expected: str) -> None:
    assert first_sentences(text, count) == expected


@given(st.text(alphabet="aA .!?\n\"')é", max_size=40))
def test_sentences_lose_nothing(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentences) and first_sentences(text) == (sentences[0] if sentences else "")
