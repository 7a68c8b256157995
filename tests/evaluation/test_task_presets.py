"""Presets on small hand-written data in the official formats, and tasks made from a seed."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import lively_model, save_model, small_vocabulary

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.evaluation.last_word import WordSearch
from gpt2cli.evaluation.paper_tasks.analogies import RELATIONS, pairs_of
from gpt2cli.evaluation.paper_tasks.catalogue import PRESETS, preset_task
from gpt2cli.evaluation.paper_tasks.preset import Source
from gpt2cli.evaluation.paper_tasks.syllogisms import ALL, ONLY_IF_THERE_ARE, VALID
from gpt2cli.evaluation.published import PUBLISHED
from gpt2cli.evaluation.tasks import TasksConfig, evaluate_tasks
from gpt2cli.model.weights import load_model
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice
from gpt2cli.sizes import ModelShape
from gpt2cli.tokens.encode import Encoder

CBT = "\n".join([
    *(f"{number} The hen said , `` It is day {number} , is n't it ? ''" for number in range(1, 21)),
    "21 Then the XXXXX went home .\then\t\tday|fox|hen|home", "",
    *(f"{number} A fox ran ." for number in range(1, 21)), "21 XXXXX saw it .\tFox\t\tday|fox", "",
])
XML = """<?xml version="1.0" encoding="UTF-8"?>
<collection><schema>
 <text><txt1>The cup fell off the shelf since</txt1> <pron>it</pron> <txt2>was not level.</txt2></text>
 <answers><answer>The cup</answer> <answer>The shelf</answer></answers> <correctAnswer> B. </correctAnswer>
</schema><schema>
 <text><txt1>Anna thanked Ruth. </txt1> <pron>Her</pron> <txt2>help had come early.</txt2></text>
 <answers><answer>Anna</answer> <answer>Ruth</answer></answers> <correctAnswer>B</correctAnswer>
</schema></collection>
"""
COQA = {"version": "1.0", "data": [{
    "id": "1", "story": "A boat lay on the lake. Tom painted it red.",
    "questions": [{"input_text": "Where was the boat?", "turn_id": 1}, {"input_text": "What colour?", "turn_id": 2}],
    "answers": [{"input_text": "on the lake", "span_text": "x"}, {"input_text": "red", "span_text": "x"}],
    "additional_answers": {"0": [{"input_text": "the lake"}, {"input_text": "Red"}]},
}]}
STORY = "A long day ended .\n\nPeople went home .\n\n@highlight\n\nday ends\n\n@highlight\n\npeople go home\n"
LAMBADA = """anna said that she was `` very tired '' of the boat , and so tom sold the boat
he liked cake , so he ate cake
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "m", lively_model(ModelShape(2, 2, 16, 512, 500)),
                      small_vocabulary())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Preset -> its data files."""
    directory = tmp_path_factory.mktemp("data")

    def write(name: str, text: str) -> str:
        (directory / name).write_text(text, encoding="utf-8")
        return str(directory / name)

    lambada = write("lambada.txt", LAMBADA)
    pairs = [(f"House {number} is red. It is old.", f"La maison {number} est rouge.") for number in range(7)]
    english = write("test.en", "".join(f"{one}\n" for one, _ in pairs))
    french = write("src.sgm", "<srcset><doc>\n" + "".join(
        f'<seg id="{number}">{other.replace("é", "&eacute;")}</seg>\n' for number, (_, other) in enumerate(pairs)))
    records = "".join(json.dumps({"translation": {"en": one, "fr": other}}) + "\n" for one, other in pairs)
    questions = "".join(json.dumps({"question": f"who won race {number}", "answer": [f"runner {number}", "x"]}) + "\n"
                        for number in range(8))
    news = json.dumps({"article": "Snow fell. " * 300, "highlights": "snow fell\nit was cold"}) + "\n"
    cbt = write("cbt.txt", CBT)
    return {
        **{name: [lambada] for name in PRESETS if name.startswith("lambada")}, "cbt-cn": [cbt], "cbt-ne": [cbt],
        "winograd": [write("wsc.xml", XML)], "coqa": [write("coqa.json", json.dumps(COQA, indent=1))],
        "cnn-dm": [write("a.story", STORY), write("news.jsonl", news)],
        "wmt14-en-fr": [write("pairs.jsonl", records)], "wmt14-fr-en": [french, english],
        "natural-questions": [write("nq.jsonl", questions)],
    }


def task(name: str, *paths: str, **options: Any) -> Any:
    return preset_task(name, Source(tuple(paths), **options))


def run(name: str, model: Path, paths: list[str], **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    config = TasksConfig(ModelChoice(str(model)), tuple(paths), preset=name, text=True, resamples=20, **options)
    records = list(evaluate_tasks(config, Silent()))
    return [fields for _, fields in records[:-1]], records[-1][1]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs_and_tells_its_choices(name: str, model: Path, data: dict[str, list[str]]) -> None:
    items, summary = run(name, model, data.get(name, []), limit=6)
    assert items and summary["task"] == name and summary["n_items"] == len(items)
    assert len(summary["notes"]) >= 3
    for measure in summary["metrics"].values():
        assert measure["value"] is not None and measure["value"] >= 0
    rows = summary.get("published", [])
    assert {row["metric"] for row in rows} == set(PRESETS[name].published)
    for row in rows:
        assert row["paper"] == PUBLISHED[PRESETS[name].published[row["metric"]]].as_fields()
        value = summary["metrics"][row["metric"]]["value"]
        assert row["own"] == pytest.approx(value * (100 if row["unit"].endswith("%") else 1))


def test_published_numbers_are_the_papers(model: Path, data: dict[str, list[str]]) -> None:
    shown = {name: {key: list(PUBLISHED[key].values.values()) for key in preset.published.values()}
             for name, preset in PRESETS.items() if preset.published}
    assert shown["lambada-stop-words"] == {"lambada-acc": [45.99, 55.48, 60.12, 63.24]}
    assert shown["lambada"] == {"lambada-acc-plain": [52.66], "lambada-ppl": [35.13, 15.60, 10.87, 8.63]}
    assert shown["cbt-cn"] == {"cbt-cn": [87.65, 92.35, 93.45, 93.30]}
    assert shown["cbt-ne"] == {"cbt-ne": [83.4, 87.1, 88.0, 89.05]}
    assert [shown[name] for name in ("winograd", "coqa", "wmt14-en-fr", "wmt14-fr-en", "natural-questions")] == [
        {"winograd": [70.70]}, {"coqa": [55.0]}, {"wmt14-en-fr": [5.0]}, {"wmt14-fr-en": [11.5]},
        {"natural-questions": [4.1]}]
    assert list(shown["cnn-dm"].values()) == [[29.34], [8.27], [26.58]]


def test_cbt_scores_candidate_and_rest_of_sentence(model: Path, data: dict[str, list[str]]) -> None:
    items, summary = run("cbt-cn", model, data["cbt-cn"])
    first, second = items
    assert first["target"] == 2 and second["target"] == 1
    context, continuation = first["requests"][2]
    assert context.startswith("The hen said, \"It is day 1, isn't it?\" The hen said")
    assert context.endswith(" Then the ")
    assert continuation == "hen went home."
    assert second["requests"][0] == [" ".join(["A fox ran."] * 20) + " ", "day saw it."]
    assert summary["metrics"]["acc"]["n"] == 2


@pytest.mark.parametrize(("line", "said"), [
    ("21 Then the XXXXX went .\then", "is no question"),
    ("21 Then the hen went .\then\t\tday|hen", "is no question"),
    ("21 Then the XXXXX went .\tcow\t\tday|hen", "none of the candidates"),
    ("20 Then the XXXXX went .\then\t\tday|hen", "does not begin with 21"),
    ("Then the XXXXX went .\then\t\tday|hen", "does not begin with 21"),
    ("21 A sentence .", "ends within a question"),
])
def test_cbt_files_that_are_none(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "cbt.txt"
    path.write_text("\r\n".join([*(f"{number} A ." for number in range(1, 21)), line]), encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        task("cbt-cn", str(path))


def test_winograd_puts_names_in_the_pronouns_place(data: dict[str, list[str]]) -> None:
    first, second = task("winograd", *data["winograd"]).docs
    assert first.fields == {"sentence": "The cup fell off the shelf since _ was not level.",
                            "options": ["the cup", "the shelf"], "label": 1}
    assert second.fields == {"sentence": "Anna thanked Ruth. _ help had come early.",
                             "options": ["Anna's", "Ruth's"], "label": 1}


def test_winograd_reads_records_too(tmp_path: Path, data: dict[str, list[str]]) -> None:
    text = "The cup fell off the shelf since it was not level."
    record = {"text": text, "pronoun": "it", "pronoun_loc": text.index("it "), "label": 1,
              "options": ["The cup", "The shelf"]}
    path = tmp_path / "wsc.jsonl"
    path.write_text(json.dumps(record), encoding="utf-8")
    assert task("winograd", str(path)).docs[0].fields == task("winograd", *data["winograd"]).docs[0].fields
    path.write_text(json.dumps({**record, "pronoun_loc": 0}), encoding="utf-8")
    with pytest.raises(BadInput, match="at 0 of its text stands no 'it'"):
        task("winograd", str(path))


def test_winograd_refuses_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "bbbb">]><collection>&b;</collection>', encoding="utf-8")
    with pytest.raises(BadInput, match="defines entities"):
        task("winograd", str(path))
    path.write_text("<collection><schema>", encoding="utf-8")
    with pytest.raises(BadInput, match="neither JSONL nor sound XML"):
        task("winograd", str(path))


def test_coqa_asks_after_the_questions_before(data: dict[str, list[str]]) -> None:
    first, second = task("coqa", *data["coqa"]).docs
    assert first.fields["prompt"] == "A boat lay on the lake. Tom painted it red.\n\nQ: Where was the boat?\nA:"
    assert second.fields["prompt"] == first.fields["prompt"] + " on the lake\nQ: What colour?\nA:"
    assert first.fields["answers"] == ["on the lake", "the lake"]


def test_cnn_dm_keeps_the_beginning_of_an_article(model: Path, data: dict[str, list[str]]) -> None:
    loaded = task("cnn-dm", *data["cnn-dm"])
    assert loaded.docs[0].fields == {"prompt": "A long day ended .\n\nPeople went home .\nTL;DR:",
                                     "highlights": "day ends\npeople go home"}
    items, summary = run("cnn-dm", model, data["cnn-dm"])
    assert items[1]["n_dropped_tokens"] > 0 and items[1]["n_prompt_tokens"] == 512 - 100
    assert summary["protocol"]["too_long"] == r"tokens are dropped before '\nTL;DR:'"
    assert summary["protocol"]["top_k"] == 2 and summary["protocol"]["max_gen_toks"] == 100
    assert run("cnn-dm", model, data["cnn-dm"]) == (items, summary)
    other, _ = run("cnn-dm", model, data["cnn-dm"], seed=7)
    assert [item["generated"] for item in other] != [item["generated"] for item in items]


def test_a_cut_article_ends_in_its_prompt(model: Path, data: dict[str, list[str]]) -> None:
    from gpt2cli.evaluation.generation_settings import generation_settings
    from gpt2cli.evaluation.task import Item
    from gpt2cli.evaluation.task_generation import _prompt

    loaded, encoder = task("cnn-dm", *data["cnn-dm"]), Encoder(small_vocabulary())
    doc = loaded.docs[1]
    prompt = _prompt(Item(doc, doc.fields["prompt"]), generation_settings(loaded), encoder, 512, "x")
    text = encoder.decode(list(prompt.ids)).decode()
    assert text.startswith("Snow fell. Snow fell.") and text.endswith("\nTL;DR:")
    assert len(text) < len(doc.fields["prompt"])


def test_translations_stand_after_examples(model: Path, data: dict[str, list[str]]) -> None:
    items, summary = run("wmt14-en-fr", model, data["wmt14-en-fr"])
    assert [item["item"] for item in items] == [5, 6] and summary["num_fewshot"] == 5
    lines = items[0]["context"].split("\n")
    assert lines[0] == "House 0 is red. It is old. = La maison 0 est rouge."
    assert lines[5] == "House 5 is red. It is old. =" and len(lines) == 6
    items, summary = run("wmt14-fr-en", model, data["wmt14-fr-en"], num_fewshot=0)
    assert items[0]["context"] == "La maison 0 est rouge. =" and items[0]["target"] == "House 0 is red. It is old."
    assert summary["num_fewshot"] == 0 and len(items) == 7
    with pytest.raises(UsageFault, match="none is left to evaluate"):
        task("wmt14-en-fr", *data["wmt14-en-fr"], num_fewshot=7)


def test_questions_stand_after_examples(model: Path, data: dict[str, list[str]]) -> None:
    items, _ = run("natural-questions", model, data["natural-questions"], num_fewshot=1)
    assert items[0]["context"] == "Q: who won race 0\nA: runner 0\nQ: who won race 1\nA:"
    assert items[0]["target"] == ["runner 1", "x"]


def test_lambada_detokenises_lines_and_takes_records_as_they_are(data: dict[str, list[str]], tmp_path: Path) -> None:
    docs = task("lambada", *data["lambada"]).docs
    assert docs[1].fields == {"text": "he liked cake, so he ate cake", "context": "he liked cake, so he ate",
                              "word": "cake"}
    path = tmp_path / "lambada.jsonl"
    path.write_text(json.dumps({"text": "``a b '' c"}), encoding="utf-8")
    assert task("lambada", str(path)).docs[0].fields["text"] == "``a b '' c"


def test_the_last_token_is_the_last_token(model: Path, data: dict[str, list[str]]) -> None:
    items, _ = run("lambada-token", model, data["lambada"])
    loaded, encoder = load_model(model), Encoder(small_vocabulary())
    for item in items:
        ids = torch.tensor(encoder.encode(item["context"]).astype(np.int64))
        log_V = loaded.model.logits(loaded.model(ids[None, :-1])[0, -1]).double().log_softmax(0)
        assert item["loglikelihoods_nats"][0] == pytest.approx(log_V[ids[-1]].item(), abs=1e-5)
        assert item["metrics"]["acc"] == float(log_V.argmax() == ids[-1])


def test_the_most_probable_word_is_found(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against every word of up to two tokens, its probability computed from whole texts."""
    monkeypatch.setattr("gpt2cli.evaluation.last_word.MAX_PIECES", 2)
    vocabulary, loaded = small_vocabulary(), load_model(model).model
    tokens = vocabulary.token_bytes()
    context = Encoder(vocabulary).encode("The king said that").tolist()

    def is_word(text: bytes) -> bool:
        return re.fullmatch(rb"[A-Za-z0-9'-]+", text) is not None or (bool(text) and max(text) > 127)

    begin = [i for i, token in enumerate(tokens) if token[:1] == b" " and is_word(token[1:])]
    inside = [i for i, token in enumerate(tokens) if i != vocabulary.eot and is_word(token)]
    end = torch.tensor([i for i in range(500) if i not in set(inside)])

    @torch.inference_mode()
    def logs(ids: list[list[int]]) -> torch.Tensor:
        return loaded.logits(loaded(torch.tensor(ids))[:, -1]).double().log_softmax(1)

    first = logs([context])[0]
    after = logs([[*context, i] for i in begin])
    found = {tokens[i].decode().strip(): (first[i] + after[row, end].logsumexp(0)).item()
             for row, i in enumerate(begin)}
    for row, i in enumerate(begin):
        further = logs([[*context, i, j] for j in inside])
        for place, j in enumerate(inside):
            word = (tokens[i] + tokens[j]).decode("utf-8", "replace").strip()
            nats = (first[i] + after[row, j] + further[place, end].logsumexp(0)).item()
            found[word] = max(found.get(word, -math.inf), nats)
    word, nats = WordSearch(loaded, vocabulary, 500, frozenset()).best(context)
    best = max(found, key=lambda each: found[each])
    assert (word, nats) == (best, pytest.approx(found[best], abs=1e-5))
    other, lower = WordSearch(loaded, vocabulary, 500, frozenset((word.lower(),))).best(context)
    assert other != word and lower < nats


def test_arithmetic_is_right_and_comes_from_the_seed() -> None:
    for digits in range(1, 6):
        made = task(f"arithmetic-{digits}")
        assert made.docs == task(f"arithmetic-{digits}").docs != task(f"arithmetic-{digits}", seed=1).docs
        seen = set()
        for doc in made.docs:
            match = re.fullmatch(r"Q: What is (\d+) (plus|minus) (\d+)\?\nA:", doc.fields["question"])
            assert match and len(match[1]) == len(match[3]) == digits
            sign = 1 if match[2] == "plus" else -1
            assert doc.fields["answer"] == f" {int(match[1]) + sign * int(match[3])}\n"
            assert int(doc.fields["answer"]) >= 0
            seen.add(match[2])
        assert len(seen) == 2 and len(made.docs) == 1000
    with pytest.raises(UsageFault, match="64"):
        task("arithmetic-1", num_fewshot=65)


def test_arithmetic_has_examples(model: Path) -> None:
    items, summary = run("arithmetic-2", model, [], limit=5)
    assert summary["num_fewshot"] == 4 and items[0]["context"].count("What is") == 5
    assert re.search(r"A: \d+\nQ: What is \d+ \w+ \d+\?\nA:$", items[0]["context"])
    assert items[0]["requests"][0][1].endswith("\n")


def test_analogies_have_one_right_answer() -> None:
    made = task("analogies")
    partners = {(relation, first): second for relation in RELATIONS for first, second in pairs_of(relation)}
    for doc in made.docs:
        a, b, c = re.fullmatch(r"(\w+) is to (\w+) as (\w+) is to", doc.fields["context"]).groups()
        relation, choices = doc.fields["relation"], doc.fields["choices"]
        assert partners[relation, a] == b and len(set(choices)) == 4 and b not in choices
        assert choices[doc.fields["label"]] == partners[relation, c]
    assert {doc.fields["label"] for doc in made.docs} == {0, 1, 2, 3}
    assert {doc.fields["relation"] for doc in made.docs} == set(RELATIONS)
    for relation in RELATIONS:
        firsts, seconds = zip(*pairs_of(relation), strict=True)
        assert len(set(firsts)) == len(firsts) and len(set(seconds)) == len(seconds) >= 12


def follows(form: str, *, may_be_empty: bool) -> bool:
    """Whether a form's conclusion holds in every world: any set of kinds of things, S, P and M or not each."""
    kinds = list(itertools.product((False, True), repeat=3))
    places = {"1": "MP SM", "2": "PM SM", "3": "MP MS", "4": "PM MS"}[form[3]].split()

    def holds(quantity: str, pair: str, world: list[tuple[bool, ...]]) -> bool:
        both = [("SPM".index(pair[0]), "SPM".index(pair[1]))][0]
        some = any(kind[both[0]] and kind[both[1]] for kind in world)
        some_not = any(kind[both[0]] and not kind[both[1]] for kind in world)
        return {"A": not some_not, "E": not some, "I": some, "O": some_not}[quantity]

    for size in range(len(kinds) + 1):
        for world in itertools.combinations(kinds, size):
            if not may_be_empty and not all(any(kind[place] for kind in world) for place in range(3)):
                continue
            premises = holds(form[0], places[0], list(world)) and holds(form[1], places[1], list(world))
            if premises and not holds(form[2], "SP", list(world)):
                return False
    return True


def test_syllogisms_are_valid_where_they_say_so() -> None:
    assert {form for form in ALL if follows(form, may_be_empty=True)} == VALID
    assert {form for form in ALL if follows(form, may_be_empty=False)} == VALID | ONLY_IF_THERE_ARE
    made = task("syllogisms")
    assert sum(doc.fields["label"] == 0 for doc in made.docs) == 500
    for doc in made.docs:
        assert (doc.fields["form"] in VALID) == (doc.fields["label"] == 0)
        assert doc.fields["form"] not in ONLY_IF_THERE_ARE
    assert made.docs == task("syllogisms").docs != task("syllogisms", seed=1).docs


@pytest.mark.parametrize(("name", "paths", "options", "said"), [
    ("lambda", [], {}, "there is no preset 'lambda'; there are lambada"),
    ("syllogisms", ["x"], {}, "takes no file"),
    ("lambada", ["a", "b"], {}, "takes one data file"),
    ("wmt14-en-fr", [], {}, "takes two files"),
    ("syllogisms", [], {"num_fewshot": 2}, "zero-shot"),
    ("lambada", ["/nowhere"], {}, "nowhere"),
])
def test_wrong_use(name: str, paths: list[str], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageFault, match=said):
        task(name, *paths, **options)


def test_sides_of_a_translation_must_match(tmp_path: Path, data: dict[str, list[str]]) -> None:
    (tmp_path / "short").write_text("one\n", encoding="utf-8")
    with pytest.raises(BadInput, match="they are no translation"):
        task("wmt14-en-fr", data["wmt14-fr-en"][1], str(tmp_path / "short"))


PIECES = ("1 A .\n", "21 XXXXX b .\ta\t\ta|b\n", '{"text": "a b c", "pronoun": "b", "pronoun_loc": 2}', "\n",
          '{"data": [{"story": "x", "questions": []', "]", "}", "@highlight\n", "<schema>", "</schema>", "\ud800", "é",
          '{"question": 1}\n', '{"translation": {"en": ""}}\n', '{"article": "a"}', "\t", "|", "\x00", "\r\n")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=8), raw=st.binary(max_size=12))
def test_only_sentences_escape(pieces: list[str], raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes("".join(pieces).encode("utf-8", "surrogatepass") + raw)
    for name, preset in PRESETS.items():
        if preset.data:
            try:
                task(name, str(path))
            except Gpt2Error as error:
                assert str(error)
