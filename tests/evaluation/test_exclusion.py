"""Clean scores against evaluating what is left after the documents were taken out by hand, and overlaps that lie."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from overlap_files import Record, of, overlap_records, save, sha, write

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.evaluation.clean_difference import metric_difference, text_difference
from gpt2cli.evaluation.exclusion import Exclusion, ExclusionChoice, TextOfItem
from gpt2cli.evaluation.measures import DocumentSums
from gpt2cli.evaluation.merge import merge_records
from gpt2cli.evaluation.overlap_records import read_overlap
from gpt2cli.evaluation.perplexity import EvalConfig, evaluate
from gpt2cli.evaluation.units import Units
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice
from gpt2cli.tokens.pack import PackConfig, pack_shards
from gpt2cli.tokens.tokenize import TokenizeConfig, tokenize_documents

TEXTS = [f"Document {number}: " + "the quick brown fox jumps, and then \u00e9 " * (1 + 3 * number % 7)
         for number in range(9)]
TEXTS[5] = TEXTS[2]
OVERLAP = {0: 0, 1: 3, 2: 1, 3: 10, 4: 0, 5: 1, 6: 0, 7: 2, 8: 0}
"""Of ten n-grams each; documents 2 and 5 are one text."""


@pytest.fixture
def overlap(tmp_path: Path) -> str:
    return save(tmp_path / "overlap.jsonl", overlap_records(TEXTS, OVERLAP))


def run(model: Path, text: str, **options: Any) -> tuple[list[Record], list[Record]]:
    documents: list[Record] = []
    config = EvalConfig(ModelChoice(str(model), "cpu"), (text,), per_document=True, **options)
    records = evaluate(config, Silent(), lambda kind, fields: documents.append(fields))
    return records, documents


MEASURED = ("nll_nats", "n_tokens", "n_words", "n_bytes", "n_characters", "n_documents", "n_empty_documents", "stderr",
            "ppl", "word_ppl", "byte_ppl", "bits_per_byte", "bits_per_character", "text_sha256", "document_moments",
            "bootstrap", "scored_text_sha256", "n_lines", "n_lines_not_detokenized", "n_crlf_read_as_lf", "metric",
            "n_byte_order_marks_dropped")


@pytest.mark.parametrize("options", [
    {}, {"protocol": "harness"}, {"protocol": "hf-docs", "stride": 7}, {"protocol": "disjoint", "context": 16},
    {"bootstrap": 20}, {"detokenizer": "wikitext"}, {"protocol": "paper-wikitext2"}, {"protocol": "paper-lambada"},
    {"protocol": "paper-1bw"}], ids=str)
@pytest.mark.parametrize("max_overlap", [0.0, 0.1])
def test_the_clean_score_is_that_of_a_file_without_them(
    model_directory: Path, tmp_path: Path, overlap: str, options: dict[str, Any], max_overlap: float
) -> None:
    """One window at a time, so that what comes together is the same in both."""
    text = write(tmp_path / "all.jsonl", [*TEXTS[:4], "", *TEXTS[4:]])
    kept = [text for number, text in enumerate(TEXTS) if OVERLAP[number] / 10 <= max_overlap]
    by_hand = write(tmp_path / "kept.jsonl", [*kept, ""])
    (whole, clean), _ = run(model_directory, text, batch=1, exclude=ExclusionChoice(overlap, max_overlap), **options)
    (plain,), _ = run(model_directory, by_hand, batch=1, **options)
    assert {name: clean.get(name) for name in MEASURED} == {name: plain.get(name) for name in MEASURED}
    assert whole == run(model_directory, text, batch=1, **options)[0][0], "the score of all is what it was"
    rule = clean["protocol"].pop("exclude_overlap")
    assert clean["protocol"] == plain["protocol"]
    assert (rule["ngram"], rule["max_overlap"], rule["train"]) == (8, max_overlap, {"documents": 7, "words": 70})
    exclusion = clean["exclusion"]
    assert (exclusion["n_documents"], exclusion["n_documents_excluded"]) == (10, 9 - len(kept))
    assert exclusion["n_tokens_excluded"] == whole["n_tokens"] - plain["n_tokens"]
    assert exclusion["difference"]["bits_per_byte"] == plain["bits_per_byte"] - whole["bits_per_byte"]


def test_sums_are_exactly_those_of_the_documents_that_stay(model_directory: Path, tmp_path: Path, overlap: str) -> None:
    text = write(tmp_path / "all.jsonl", TEXTS)
    (_, clean), documents = run(model_directory, text, exclude=ExclusionChoice(overlap))
    stay = [each for each in documents if not each["excluded"]]
    assert [each["overlap"] for each in documents] == [OVERLAP[number] / 10 for number in range(9)]
    assert [each["document"] for each in stay] == [number for number in range(9) if not OVERLAP[number]]
    assert clean["nll_nats"] == math.fsum(each["nll_nats"] for each in stay)
    assert clean["n_tokens"] == sum(each["n_tokens"] for each in stay)


def test_a_shards_documents_are_what_they_decode_to(model_directory: Path, tmp_path: Path, overlap: str) -> None:
    text, shard = write(tmp_path / "all.jsonl", TEXTS), tmp_path / "all.tok.zst"
    with open(shard, "wb") as stream:
        tokenize_documents([text], stream, TokenizeConfig(vocab=str(model_directory)), Silent())
    from_text, from_shard = (run(model_directory, path, exclude=ExclusionChoice(overlap))[0]
                             for path in (text, str(shard)))
    for one, other in zip(from_shard, from_text, strict=True):
        assert one["nll_nats"] == pytest.approx(other["nll_nats"], rel=1e-6)
    assert from_shard[1]["text_sha256"] == from_text[1]["text_sha256"]
    pack_shards([str(shard)], tmp_path / "set", PackConfig(val_fraction=0.5), Silent())
    (whole,), documents = run(model_directory, str(tmp_path / "set"))
    decoded = {sha(text): text for text in TEXTS}
    texts = [decoded[each["id"]] for each in documents]
    found = save(tmp_path / "o.jsonl", overlap_records(texts, {n: int(n == 0) for n in range(len(texts))}))
    again, clean = run(model_directory, str(tmp_path / "set"), exclude=ExclusionChoice(found))[0]
    assert again == whole and (whole["split"], clean["split"]) == ("val", None)
    assert "val_sha256" in whole and "val_sha256" not in clean, "a fit takes none for the validation split"
    assert clean["protocol"]["exclude_overlap"]["of_split"] == "val"


def test_nothing_met_leaves_the_score_as_it_is(model_directory: Path, tmp_path: Path) -> None:
    found = save(tmp_path / "o.jsonl", overlap_records(TEXTS, dict.fromkeys(range(9), 0)))
    (whole, clean), _ = run(model_directory, write(tmp_path / "t.jsonl", TEXTS), exclude=ExclusionChoice(found))
    assert {name: clean.get(name) for name in MEASURED} == {name: whole.get(name) for name in MEASURED}
    assert set(clean["exclusion"]["difference"].values()) == {0.0}


def test_the_error_of_the_difference_is_the_spread_of_resampled_ones() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(20, 200, 200)
    kept = rng.random(200) < 0.7
    nll = tokens * np.where(kept, 3.0, 2.0) + rng.normal(0, 8, 200) * np.sqrt(tokens)
    sums = [DocumentSums(), DocumentSums()]
    for number in range(200):
        for column in sums[: 1 + int(kept[number])]:
            column.add(float(nll[number]), int(tokens[number]), Units(1, 1, 1))
    found = text_difference(sums[0].total(), sums[1].total())
    draws = []
    for _ in range(2000):
        n = np.bincount(rng.integers(0, 200, 200), minlength=200)
        draws.append((n * kept) @ nll / ((n * kept) @ tokens) - n @ nll / (n @ tokens))
    assert found["nll_nats_per_token"] == pytest.approx(
        nll[kept].sum() / tokens[kept].sum() - nll.sum() / tokens.sum(), rel=1e-9)
    assert found["stderr"] == pytest.approx(np.std(draws), rel=0.1)
    for aggregation, function in (("mean", np.mean), ("perplexity", lambda values: np.exp(-np.mean(values)))):
        x = -nll / tokens
        entries = [{"aggregation": aggregation, "value": float(function(values))} for values in (x, x[kept])]
        measured = metric_difference(*entries, x.tolist(), kept.tolist())
        spread = []
        for _ in range(1000):
            drawn = rng.integers(0, 200, 200)
            spread.append(function(x[drawn][kept[drawn]]) - function(x[drawn]))
        assert measured["value"] == pytest.approx(function(x[kept]) - function(x))
        assert measured["stderr"] == pytest.approx(np.std(spread), rel=0.12)
    unknown = {"aggregation": "bleu", "value": 3.0}
    assert metric_difference(unknown, {**unknown, "value": 2.0}, [0, 0], [True, False]) == {"value": -1.0,
                                                                                            "stderr": None}


@pytest.mark.parametrize("documents", [True, False])
def test_pieces_merge_to_both_scores_of_the_whole(model_directory: Path, tmp_path: Path, overlap: str, documents: bool
                                                  ) -> None:
    """The overlap of the whole text serves each piece: its documents stand together in it."""
    whole, _ = run(model_directory, write(tmp_path / "all.jsonl", TEXTS), exclude=ExclusionChoice(overlap))
    paths = []
    for number in range(3):
        piece = write(tmp_path / "piece.jsonl", TEXTS[3 * number : 3 * number + 3])
        records, own = run(model_directory, piece, exclude=ExclusionChoice(overlap))
        fields = [{"kind": "gpt2.eval-document", **each} for each in own] if documents else []
        paths.append(save(tmp_path / f"{number}.jsonl", fields + [{"kind": "gpt2.eval", **each} for each in records]))
    merged = merge_records(paths, 10 if documents else 0, Silent())
    assert len(merged) == 2
    for one, other in zip(merged, whole, strict=True):
        assert one["protocol"] == other["protocol"]
        assert (one["text_sha256"] == other["text_sha256"]) == documents
        assert one["nll_nats"] == pytest.approx(other["nll_nats"], rel=1e-6)
        assert [one[name] for name in MEASURED[1:7]] == [other[name] for name in MEASURED[1:7]]
    for name, value in whole[1]["exclusion"].pop("difference").items():
        assert merged[1]["exclusion"]["difference"][name] == pytest.approx(value, rel=1e-5), name
    merged[1]["exclusion"].pop("difference")
    assert merged[1]["exclusion"] == whole[1]["exclusion"]


def test_what_a_merge_of_clean_scores_refuses(model_directory: Path, tmp_path: Path, overlap: str) -> None:
    parts = []
    for number in (0, 1):
        piece = write(tmp_path / "piece.jsonl", TEXTS[4 * number : 4 * number + 3])
        parts.append([{"kind": "gpt2.eval", **each}
                      for each in run(model_directory, piece, exclude=ExclusionChoice(overlap))[0]])
    (all_0, clean_0), (all_1, clean_1) = parts

    def merge(*records: Record) -> list[Record]:
        return merge_records([save(tmp_path / "m.jsonl", list(records))], 0, Silent())

    for records in ((all_0, clean_0, all_1), (all_0, all_1, clean_1), (clean_0, all_0)):
        with pytest.raises(UsageFault, match=r"has no (clean score|score of all) beside it, and others do"):
            merge(*records)
    with pytest.raises(BadInput, match="counts more than all of its text"):
        merge(all_0, {**clean_0, "n_tokens": all_0["n_tokens"] + 1}, all_1, clean_1)
    other = {**clean_1["protocol"], "exclude_overlap": {**clean_1["protocol"]["exclude_overlap"], "max_overlap": 0.5}}
    with pytest.raises(UsageFault, match="differ in protocol: exclude_overlap"):
        merge(all_0, clean_0, all_1, {**clean_1, "protocol": other})
    with pytest.raises(BadInput, match="overlap_sha256 is no sha256"):
        merge(all_0, {**clean_0, "exclusion": 3}, all_1, clean_1)
    (alone,) = merge(clean_0, clean_1)
    assert alone["n_tokens"] == clean_0["n_tokens"] + clean_1["n_tokens"] and "exclusion" not in alone


@pytest.mark.parametrize(("texts", "says"), [
    ([*TEXTS[:4], "changed", *TEXTS[5:]], "knows no text like document 4 "),
    ([*TEXTS[:4], *TEXTS[6:]], "has the text of document 4 .* at another place"),
    ([*TEXTS, TEXTS[0]], "document 9 .* at another place"),
    (["new", *TEXTS], "knows no text like document 0 "),
    ([TEXTS[1], TEXTS[0]], "document 1 .* at another place"),
    ([TEXTS[3], ""], "every document with a scored token has more overlap"),
])
def test_an_overlap_of_other_documents_is_refused(model_directory: Path, tmp_path: Path, overlap: str,
                                                  texts: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        run(model_directory, write(tmp_path / "t.jsonl", texts), exclude=ExclusionChoice(overlap))


def test_where_nothing_clean_is_left_no_model_is_loaded(tmp_path: Path, model_directory: Path) -> None:
    found = save(tmp_path / "o.jsonl", overlap_records(TEXTS, dict.fromkeys(range(9), 1)))
    weights = (model_directory / "model.safetensors").read_bytes()
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model_directory.iterdir():
        if file.name != "manifest.json":
            (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(weights[:50])
    text = write(tmp_path / "t.jsonl", TEXTS)
    with pytest.raises(BadInput, match="all 9 documents have some of their 8-grams"):
        run(broken, text, exclude=ExclusionChoice(found))
    with pytest.raises(BadInput, match="no sound safetensors"):
        run(broken, text, exclude=ExclusionChoice(found, 0.1))
    with pytest.raises(UsageFault, match="does not fit the model, which has 32 positions"):
        run(broken, text, context=33)
    one = save(tmp_path / "o.jsonl", overlap_records(TEXTS[:1], {0: 1}))
    with pytest.raises(BadInput, match=r"the one document has .* cut it into documents"):
        run(broken, text, exclude=ExclusionChoice(one))
    with pytest.raises(UsageFault, match="--count-from counts the units of all"):
        run(broken, text, exclude=ExclusionChoice(one), count_from=text)


GOOD = overlap_records(TEXTS, OVERLAP)


@pytest.mark.parametrize(("records", "says"), [
    (GOOD[:-1], "ends without a gpt2.overlap-set record: it was cut short"),
    ([], "holds no gpt2.overlap records"),
    (GOOD[1:], "document 1 stands where document 0 should"),
    ([*GOOD[:3], *GOOD[4:]], "document 4 stands where document 3 should"),
    (GOOD[-1:], "make it without --summary"),
    ([*GOOD[:8], GOOD[9]], "counts 9 n_documents, and its documents make 8"),
    ([*GOOD, {**GOOD[-1], "n": 5}], "two overlap sets .8-grams and 5-grams"),
    ([*GOOD, GOOD[0]], "documents after its overlap set"),
    ([{**GOOD[0], "n_overlap": 1, "overlap": 0.1}, *GOOD[1:]], "counts 17 n_overlap, and its documents make 18"),
    ([{**GOOD[0], "overlap": 0.5}, *GOOD[1:]], "overlap is 0.5, and 0 of 10 n-grams make 0"),
    ([{**GOOD[0], "n_overlap": 11, "overlap": 1.1}, *GOOD[1:]], "11 of 10 n-grams"),
    ([{**GOOD[0], "id": "x"}, *GOOD[1:]], "id is no sha256"),
    ([{**GOOD[0], "document": True}, *GOOD[1:]], "document is no count"),
    ([*GOOD[:2], {**GOOD[2], "id": GOOD[3]["id"]}, *GOOD[3:]], "has two different overlaps"),
    ([*GOOD[:-1], {**GOOD[-1], "n": 0}], "n is 0, no length"),
    ([*GOOD[:-1], {**GOOD[-1], "train": 7}], "does not say in what form"),
    ([{**GOOD[0], "task": "t"}, *GOOD[1:]], "item is no count"),
    ([{**GOOD[0], "task": "t", "item": 1}, {**GOOD[1], "task": "t", "item": 1}, *GOOD[2:]], "item 1 of task t is"),
])
def test_a_file_that_is_not_one_whole_overlap_is_refused(tmp_path: Path, records: list[Record], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read_overlap(save(tmp_path / "o.jsonl", records), Silent())


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2, 1 << 60), st.floats(), st.text(max_size=3),
                   st.just("\ud800"), st.just("0" * 64), st.lists(st.integers(), max_size=2),
                   st.dictionaries(st.text(max_size=2), st.integers(), max_size=2))
NAMES = sorted({name for record in (GOOD[0], GOOD[-1]) for name in record} - {"kind"} | {"task", "item"})


@given(st.lists(st.tuples(st.booleans(), st.dictionaries(st.sampled_from(NAMES), VALUES)), max_size=4), st.floats(0, 1))
def test_only_our_errors_escape_a_hostile_overlap(tmp_path_factory: pytest.TempPathFactory, records: Any, most: float
                                                  ) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.jsonl"
    bases = [{**{name: value for name, value in GOOD[-is_set].items() if name != "kind"},
              "schema": GOOD[-is_set]["kind"] + "/1"} for is_set in (0, 1)]
    path.write_text("".join(json.dumps({**bases[is_set], **fields}) + "\n" for is_set, fields in records))
    sentence = "none"
    try:
        exclusion = Exclusion(read_overlap(str(path), Silent()), most)
        exclusion.of_task("t", [TextOfItem(0, sha(TEXTS[0]))])
        exclusion.documents().take(sha(TEXTS[0]))
    except Gpt2Error as error:
        sentence = str(error)
    assert sentence and "\n" not in sentence


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.data())
def test_a_run_of_the_documents_is_found_wherever_it_stands(tmp_path_factory: pytest.TempPathFactory, kinds: list[int],
                                                            data: st.DataObject) -> None:
    """Against a plain search for a slice: documents that are alike may begin a run in several places."""
    found = tmp_path_factory.getbasetemp() / "run.jsonl"
    exclusion = Exclusion(read_overlap(save(found, overlap_records([f"text {kind}" for kind in kinds], {
        place: kind for place, kind in enumerate(kinds)})), Silent()), 1.0)
    taken = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    is_there = any(kinds[start : start + len(taken)] == taken for start in range(len(kinds)))
    run_ = exclusion.documents()
    try:
        overlaps = [run_.take(sha(f"text {kind}")).n_overlap for kind in taken]
    except BadInput:
        assert not is_there
    else:
        assert is_there and overlaps == taken


def test_both_scores_are_shown_and_told_apart(gpt2_here: Callable, model_directory: Path, tmp_path: Path, overlap: str
                                              ) -> None:
    text = write(tmp_path / "t.jsonl", TEXTS)
    found = gpt2_here("eval-ppl", model_directory, text, "--exclude-overlap", overlap, "--per-doc", check=True)
    whole, clean = of(found.stdout, "gpt2.eval")
    said = found.stderr.decode()
    assert "without 5 of 9 documents, those that have any of their 8-grams in the training text" in said
    assert f"{clean['exclusion']['difference']['nll_nats_per_token']:+.4f} nats a token against all (standard" in said
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(found.stdout)
    diff = of(gpt2_here("eval-diff", tmp_path / "a.jsonl", tmp_path / "b.jsonl", check=True).stdout, "gpt2.eval-diff")
    assert {record["n_pairs"] for record in diff} == {9} and all(not record["differing"] for record in diff)
    assert diff[0]["a"] == pytest.approx(whole["nll_nats_per_token"])
    stay = b"".join(line for line in found.stdout.splitlines(keepends=True) if b'"excluded":true' not in line)
    (tmp_path / "b.jsonl").write_bytes(stay)
    diff = of(gpt2_here("eval-diff", tmp_path / "b.jsonl", tmp_path / "b.jsonl", check=True).stdout, "gpt2.eval-diff")
    assert diff[0]["a"] == pytest.approx(clean["nll_nats_per_token"]) and diff[0]["n_pairs"] == 4
