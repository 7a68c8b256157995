"""Records of documents and tokens, canonical units, intervals, and pieces merged to the whole."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.evaluation.bootstrap import percentile_intervals
from gpt2cli.evaluation.measures import DocumentSums
from gpt2cli.evaluation.merge import merge_records
from gpt2cli.evaluation.perplexity import EvalConfig, evaluate
from gpt2cli.evaluation.units import Units
from gpt2cli.records.jsonl import RecordWriter
from gpt2cli.reporter import Silent
from gpt2cli.sampling.open_model import ModelChoice

TEXTS = tuple(f"Document {number}: " + "the quick brown fox jumps, and then \u00e9 " * (1 + 3 * number % 7)
              for number in range(9))
Found = list[tuple[str, dict[str, Any]]]


def run(model: Path, texts: tuple[str, ...], scratch: Path, **options: Any) -> tuple[dict[str, Any], Found]:
    path = scratch / "d.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    found: Found = []
    config = EvalConfig(ModelChoice(str(model), "cpu"), (str(path),), **options)
    return evaluate(config, Silent(), lambda kind, fields: found.append((kind, fields)))[0], found


def save(path: Path, *records: tuple[str, dict[str, Any]]) -> str:
    with open(path, "wb") as stream:
        writer = RecordWriter(stream)
        for kind, fields in records:
            writer.write(kind, fields)
    return str(path)


@pytest.fixture
def pieces(model_directory: Path, tmp_path: Path) -> list[str]:
    """Three files of three documents each, with their document records."""
    files = []
    for number in range(3):
        record, found = run(model_directory, TEXTS[3 * number : 3 * number + 3], tmp_path, per_document=True)
        files.append(save(tmp_path / f"{number}.jsonl", *found, ("gpt2.eval", record)))
    return files


def test_document_records_add_up(model_directory: Path, tmp_path: Path) -> None:
    record, found = run(model_directory, (*TEXTS, ""), tmp_path, per_document=True)
    assert {kind for kind, _ in found} == {"gpt2.eval-document"}
    documents = [fields for _, fields in found]
    assert [d["document"] for d in documents] == list(range(9))
    assert [d["id"] for d in documents] == [hashlib.sha256(text.encode()).hexdigest() for text in TEXTS]
    assert math.fsum(d["nll_nats"] for d in documents) == record["nll_nats"]
    for name in ("n_tokens", "n_words", "n_bytes", "n_characters"):
        assert sum(d[name] for d in documents) == record[name]
    assert (record["n_documents"], record["n_empty_documents"]) == (10, 1)
    alone = run(model_directory, TEXTS[4:5], tmp_path)[0]
    for name in ("ppl", "word_ppl", "byte_ppl", "bits_per_byte", "bits_per_character"):
        assert documents[4][name] == pytest.approx(alone[name], rel=1e-5)


def test_token_records_come_in_order_and_add_up(model_directory: Path, tmp_path: Path) -> None:
    record, found = run(model_directory, TEXTS, tmp_path, per_token=True, per_document=True, batch=1)
    tokens = [fields for kind, fields in found if kind == "gpt2.eval-token"]
    assert len(tokens) == record["n_tokens"]
    assert math.fsum(t["nll_nats"] for t in tokens) == pytest.approx(record["nll_nats"], rel=1e-12)
    for number, text in enumerate(TEXTS):
        own = [t for t in tokens if t["document"] == number]
        assert [t["position"] for t in own] == list(range(len(own)))
        assert "".join(t["text"] for t in own).replace("\ufffd", "") == text.replace("\u00e9", "")
    assert all(t["rank"] >= 1 and 0 <= t["entropy_nats"] <= math.log(500) + 1e-5 for t in tokens)
    kinds = [(kind, fields["document"]) for kind, fields in found]
    assert kinds == sorted(kinds, key=lambda item: (item[1], item[0] == "gpt2.eval-document"))
    assert run(model_directory, TEXTS, tmp_path, per_token=True, batch=9)[0]["nll_nats"] == pytest.approx(
        record["nll_nats"], rel=1e-6)


def test_weights_of_hf_docs_tokens_make_its_sum(model_directory: Path, tmp_path: Path) -> None:
    record, found = run(model_directory, TEXTS, tmp_path, per_token=True, protocol="hf-docs", stride=7)
    tokens = [fields for _, fields in found]
    assert any("weight" in t for t in tokens)
    assert min(t["position"] for t in tokens) == 1
    assert math.fsum(t["nll_nats"] * t.get("weight", 1) for t in tokens) == pytest.approx(record["nll_nats"], rel=1e-9)


def test_no_bos_leaves_out_each_first_token(model_directory: Path, tmp_path: Path) -> None:
    with_bos, found = run(model_directory, TEXTS, tmp_path, per_token=True)
    without, rest = run(model_directory, TEXTS, tmp_path, per_token=True, bos=False)
    assert without["n_tokens"] == with_bos["n_tokens"] - len(TEXTS)
    assert [f["id"] for _, f in rest] == [f["id"] for _, f in found if f["position"] > 0]
    with pytest.raises(BadInput, match="no token to score"):
        run(model_directory, ("x",), tmp_path, bos=False)
    _, found = run(model_directory, ("x", "xy z"), tmp_path, per_document=True, bos=False)
    unscored = next(fields for kind, fields in found if not fields["n_tokens"])
    assert [unscored[name] for name in ("nll_nats_per_token", "word_ppl", "byte_ppl", "bits_per_byte")] == [None] * 4


def test_units_are_counted_in_another_file(model_directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "canonical.txt"
    other.write_text("four words are here\n")
    own, record = run(model_directory, TEXTS, tmp_path)[0], run(model_directory, TEXTS, tmp_path,
                                                                  count_from=str(other), bootstrap=20)[0]
    assert (record["n_words"], record["n_bytes"], record["n_characters"]) == (4, 20, 20)
    assert record["nll_nats"] == own["nll_nats"]
    assert record["bits_per_byte"] == pytest.approx(own["nll_nats"] / math.log(2) / 20)
    assert record["protocol"]["units"] == "of another text"
    assert record["units_sha256"] != record["text_sha256"]
    assert set(record["bootstrap"]["intervals"]) == {"nll_nats_per_token", "ppl"}


@pytest.mark.parametrize("documents", [True, False])
def test_pieces_merge_to_the_whole(model_directory: Path, tmp_path: Path, pieces: list[str], documents: bool) -> None:
    whole = run(model_directory, TEXTS, tmp_path, bootstrap=50 if documents else 0)[0]
    if not documents:
        for path in pieces:
            Path(path).write_bytes(Path(path).read_bytes().splitlines(keepends=True)[-1])
    (merged,) = merge_records(pieces, 50 if documents else 0, Silent())
    assert merged.pop("merged") == {"pieces": 3, "text_sha256": "over documents" if documents else "over pieces"}
    assert (merged.pop("text_sha256") == whole.pop("text_sha256")) == documents
    assert set(merged) == set(whole)
    for name, value in whole.items():
        if isinstance(value, float):
            assert merged[name] == pytest.approx(value, rel=1e-6), name
        elif isinstance(value, int | str):
            assert merged[name] == value, name
    assert merged["stderr"] is not None
    if documents:
        for name, ends in whole["bootstrap"]["intervals"].items():
            assert merged["bootstrap"]["intervals"][name] == pytest.approx(ends, rel=1e-6)


def test_sums_of_the_same_documents_merge_to_the_last_bits(tmp_path: Path, pieces: list[str]) -> None:
    (merged,) = merge_records(pieces, 0, Silent())
    documents = DocumentSums()
    for line in (line for path in pieces for line in Path(path).read_text().splitlines()):
        record = json.loads(line)
        if record["schema"] == "gpt2.eval-document/1":
            documents.add(record["nll_nats"], record["n_tokens"],
                          Units(record["n_words"], record["n_bytes"], record["n_characters"]))
    assert {name: merged[name] for name in ("n_words", "n_bytes", "n_tokens")} == {
        "n_words": sum(documents.words), "n_bytes": sum(documents.bytes), "n_tokens": sum(documents.tokens)}
    assert merged["nll_nats"] == pytest.approx(documents.total().nll_nats, rel=1e-15)
    assert merged["stderr"] == pytest.approx(documents.total().standard_error(), rel=1e-11)


@pytest.mark.parametrize(("change", "says"), [
    ({"model_sha256": "0" * 64}, "differ in model_sha256"),
    ({"tokenizer_sha256": "0" * 64}, "differ in tokenizer_sha256"),
    ({"dtype": "bf16"}, "differ in dtype"),
    ({"protocol": {"name": "sliding", "context": 8}}, r"protocol: context \(32 and 8\), stride \(16 and nothing\), w"),
    ({"units_sha256": "0" * 64}, "with --count-from and others not"),
    ({}, "are of the same text"),
])
def test_what_is_not_one_evaluation_is_refused(
    tmp_path: Path, pieces: list[str], change: dict[str, Any], says: str
) -> None:
    record = json.loads(Path(pieces[0]).read_text().splitlines()[-1])
    other = save(tmp_path / "other.jsonl", ("gpt2.eval", {**record, **change}))
    with pytest.raises(UsageFault, match=says):
        merge_records([pieces[0], other], 0, Silent())


@pytest.mark.parametrize(("damage", "says"), [
    ({"document_moments": None}, "no document_moments"),
    ({"nll_nats": "much"}, "nll_nats is no sum"),
    ({"n_words": -1}, "n_words is no count"),
    ({"n_bytes": True}, "n_bytes is no count"),
    ({"text_sha256": "beef"}, "no sha256"),
    ({"n_tokens": 0}, "counts no token"),
])
def test_records_without_sums_are_refused(tmp_path: Path, pieces: list[str], damage: dict[str, Any], says: str) -> None:
    record = {**json.loads(Path(pieces[0]).read_text().splitlines()[-1]), **damage}
    with pytest.raises(BadInput, match=says):
        merge_records([save(tmp_path / "other.jsonl", ("gpt2.eval", record))], 0, Silent())


def test_cut_files_and_files_without_documents_are_told(tmp_path: Path, pieces: list[str]) -> None:
    lines = Path(pieces[0]).read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(BadInput, match="cut short"):
        merge_records([str(cut)], 0, Silent())
    cut.write_bytes(lines[-1])
    with pytest.raises(UsageFault, match="--per-doc"):
        merge_records([str(cut)], 10, Silent())
    cut.write_bytes(b"")
    with pytest.raises(BadInput, match=r"no gpt2\.eval record"):
        merge_records([str(cut)], 0, Silent())


values = st.one_of(st.none(), st.booleans(), st.integers(-5, 1 << 60), st.floats(), st.text(max_size=5),
                   st.just("0" * 64),
                   st.dictionaries(st.sampled_from(["n", "nll_nll", "nll_tokens", "tokens_tokens"]), st.integers()))
NAMES = ("nll_nats", "n_tokens", "n_words", "document_moments", "text_sha256", "units_sha256", "protocol", "id")


@given(st.lists(st.tuples(st.booleans(), st.dictionaries(st.sampled_from(NAMES), values)), max_size=4))
def test_only_our_errors_escape_a_hostile_file(tmp_path_factory: pytest.TempPathFactory, records: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.jsonl"
    base = dict.fromkeys((*NAMES[:4], "run", "step", "tokens", "flops", "split", "ppl", "nll_nats_per_token",
                          "document", "n_bytes", "n_characters", "id", "protocol"), 1)
    path.write_text("".join(
        json.dumps({"schema": "gpt2.eval/1" if whole else "gpt2.eval-document/1", **base, **fields}) + "\n"
        for whole, fields in records))
    with pytest.raises(Gpt2Error):
        merge_records([str(path)], 5, Silent())


def test_intervals_cover_a_ratio_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(100):
        documents = DocumentSums()
        for tokens in rng.integers(20, 200, 40).tolist():
            documents.add(tokens * 3.0 + float(rng.normal(0, math.sqrt(tokens))), tokens, Units(tokens, tokens, tokens))
        low, high = percentile_intervals(documents, 200)["intervals"]["nll_nats_per_token"]
        covered += low <= 3.0 <= high
    assert 85 <= covered <= 100


def test_intervals_are_the_same_each_time_and_null_for_one_document() -> None:
    documents = DocumentSums()
    documents.add(30.0, 10, Units(5, 40, 40))
    assert percentile_intervals(documents, 100)["intervals"] is None
    documents.add(20.0, 10, Units(5, 40, 40))
    first = percentile_intervals(documents, 100)
    assert first == percentile_intervals(documents, 100)
    assert first["intervals"]["nll_nats_per_token"] == [2.0, 3.0]
    assert first["intervals"]["ppl"] == pytest.approx([math.exp(2), math.exp(3)])
    documents.add(1e6, 2, Units(1, 1, 1))
    assert percentile_intervals(documents, 100)["intervals"]["ppl"] is None
