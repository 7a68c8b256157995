"""gpt2 eval-text: numbers that can be done by hand, what is said of sets, pairs, ends and mistakes."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

from gpt2cli.quality.documents import TextSource
from gpt2cli.quality.evaluate import QualityConfig, evaluate_texts
from gpt2cli.quality.measures import Settings
from gpt2cli.quality.uncertainty import Resampling
from gpt2cli.records.jsonl import encode_record
from gpt2cli.reporter import Silent

Records = list[dict[str, Any]]
ROOT = Path(__file__).resolve().parents[2]
WORDS = [f"word{number}" for number in range(400)]


def lines(seed: int, n: int, length: int = 20) -> bytes:
    draw = random.Random(seed)
    return "".join(" ".join(draw.choices(WORDS, k=draw.randint(length, length + 3))) + "\n" for _ in range(n)).encode()


@pytest.fixture
def evaluated(gpt2_here: Callable) -> Callable[..., Records]:
    def run(*arguments: object, **keywords: Any) -> Records:
        *records, end = map(json.loads, gpt2_here("eval-text", *arguments, check=True, **keywords).stdout.splitlines())
        assert end["schema"] == "gpt2.end/1" and end["count"] == len(records)
        return records

    return run


def test_by_hand(evaluated: Callable[..., Records]) -> None:
    text = b"a b a b a b\n\na b c\nd\n"
    *documents, record = evaluated("--lines", "--per-doc", "--distinct-at", 2, input=text)
    assert (record["n_documents"], record["n_empty_documents"], record["n_units"], record["n_bytes"]) == (4, 1, 10, 17)
    assert record["n_ngrams"] == {"1": 10, "2": 7, "3": 5, "4": 3}
    assert record["n_distinct"] == {"1": 4, "2": 3, "3": 3, "4": 2}
    assert record["n_too_short"] == {"1": 1, "2": 2, "3": 2, "4": 3}
    values = {name: (measure["value"], measure["n_documents"]) for name, measure in record["measures"].items()}
    assert values["distinct_1"] == (0.4, 3) and values["distinct_2"] == (pytest.approx(3 / 7), 2)
    # of 10 words, a and b 4 times each: two drawn words are the same in (6 + 6) of 45 draws
    assert values["distinct_1_at"] == (pytest.approx((2 - 12 / 45) / 2), 3)
    assert values["seq_rep_1"] == (pytest.approx((4 / 6 + 0 + 0) / 3), 3)
    assert values["seq_rep_4"] == (pytest.approx(1 - 2 / 3), 1), "one document has four words"
    assert record["measures"]["seq_rep_4"]["interval"] is None
    assert values["rep_16"] == (pytest.approx(4 / 10), 3) and values["mean_length"] == (2.5, 4)
    assert values["loops"] == (pytest.approx(1 / 3), 3) and values["vocabulary"] == (4, 3)
    assert [document["loop_length"] for document in documents] == [2, 0, 0, 0]
    assert [document["seq_rep_2"] for document in documents] == [pytest.approx(3 / 5), None, 0, None]
    assert [document["self_bleu"] is None for document in documents] == [False, True, False, False]
    assert record["self_bleu_references"] == 2


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for below in value.values() if isinstance(value, dict) else value:
            yield from leaves(below)
    else:
        yield value


@pytest.mark.parametrize("text", [b"x", b"x y", b" \n", b"x\n\n\n", b"x\nx\n", b"one two\nthree\n" * 3, b"\xc2\xa0"])
@pytest.mark.parametrize("unit", ["word", "token"])
def test_little_text_is_measured_as_far_as_it_goes(text: bytes, unit: str, evaluated: Callable[..., Records],
                                                   tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(text)
    for arguments in (["--lines"], []):
        for record in evaluated("--unit", unit, "--per-doc", "--against", tmp_path / "r", "--references",
                                tmp_path / "r", "--distinct-at", 2, *arguments, input=text):
            assert all(math.isfinite(leaf) for leaf in leaves(record) if isinstance(leaf, float))
            if record["schema"] == "gpt2.text-quality/1" and record["n_documents"] == 1:
                assert all(measure["interval"] is None for measure in record["measures"].values())


def test_a_second_set(evaluated: Callable[..., Records], gpt2_here: Callable, tmp_path: Path) -> None:
    (tmp_path / "human").write_bytes(lines(1, 60))
    loops = b"".join(line + b" again and again and again and\n" for line in lines(2, 40, 8).splitlines())
    both = ("--lines", "--against", tmp_path / "human", "--distinct-at", 300)
    text, against, less = evaluated(*both, input=loops)
    assert [record["schema"] for record in (text, less)] == ["gpt2.text-quality/1", "gpt2.text-quality-diff/1"]
    assert (text["set"], against["set"]) == ("text", "against")
    alone = evaluated("--lines", "--self-bleu", 39, "--distinct-at", 300, tmp_path / "human")[0]["measures"]
    for name, change in less["measures"].items():
        a, b = text["measures"][name], against["measures"][name]
        assert change["value"] == pytest.approx(a["value"] - b["value"])
        assert change["interval"][0] <= change["value"] <= change["interval"][1] and change["stderr"] > 0
        assert b["value"] == alone[name]["value"], "a set's values don't depend on the other's"
    loop = less["measures"]["loops"]
    assert (loop["value"], loop["method"]) == (1, "two wilsons, independent") and 0.8 < loop["interval"][0] < 1
    assert text["self_bleu_references"] == against["self_bleu_references"] == 39
    said = gpt2_here("eval-text", *both, input=loops).stderr.decode()
    assert "the sets differ in size" in said and "the documents differ in length" in said
    alike = gpt2_here("eval-text", "--lines", "--against", tmp_path / "human", tmp_path / "human").stderr.decode()
    assert "differ in" not in alike and "different words" in alike
    table = {line.split(":", 1)[1].split("  ")[0].strip() for line in said.splitlines()}
    assert {"distinct-1 at 300", "end in a loop", "Zipf coefficient", "self-BLEU, 39 references"} <= table


def test_references_by_field_and_place(evaluated: Callable[..., Records], gpt2_here: Callable, tmp_path: Path) -> None:
    texts = [{"id": str(n), "text": line} for n, line in enumerate(lines(3, 25).decode().splitlines())]
    references = [{"id": str(n), "text": line} for n, line in enumerate(lines(4, 25).decode().splitlines())]
    by_place = "".join(json.dumps(record) + "\n" for record in texts).encode()
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in references))
    (first,) = evaluated("--references", path, input=by_place)
    score = sacrebleu.corpus_bleu([one["text"] for one in texts], [[one["text"] for one in references]]).score
    assert first["measures"]["bleu"]["value"] == pytest.approx(score)
    assert first["references"] == {"pair": "position", "n_paired": 25, "n_unpaired": 0, "n_unused": 0}
    path.write_text("".join(json.dumps(record) + "\n" for record in reversed(references)))
    (second,) = evaluated("--references", path, "--pair", "id", input=by_place)
    assert second["measures"] == first["measures"] and second["references"]["pair"] == "id"
    path.write_text("".join(json.dumps(record) + "\n" for record in references[:20]) + '{"id":"x","text":"y"}\n')
    result = gpt2_here("eval-text", "--references", path, "--pair", "id", input=by_place, check=True)
    assert b"5 of 25 texts have no reference with the same `id`" in result.stderr
    assert b"1 references belong to no text" in result.stderr
    refused = gpt2_here("eval-text", "--references", path, input=by_place)
    assert (refused.returncode, refused.stdout) == (65, b"")
    assert b"25 texts and 21 references can't be paired by position" in refused.stderr
    path.write_text("".join(json.dumps(record) + "\n" for record in references[:24]) + '{"id":"x"}\n')
    refused = gpt2_here("eval-text", "--references", path, input=by_place)
    assert refused.returncode == 65 and b"1 records of --references have no text, so positions" in refused.stderr


def test_the_same_text_gives_the_same_bytes(gpt2_here: Callable, tmp_path: Path) -> None:
    text = lines(5, 40)
    first, second = (gpt2_here("eval-text", "--lines", "--per-doc", input=text, check=True).stdout for _ in range(2))
    assert first == second
    other = gpt2_here("eval-text", "--lines", "--per-doc", "--seed", 1, input=text, check=True).stdout
    one, two = (json.loads(out.splitlines()[-2])["measures"] for out in (first, other))
    assert one["self_bleu"]["value"] == two["self_bleu"]["value"], "40 documents: all others are references"
    assert one["zipf"] == two["zipf"] and one["rep_16"]["stderr"] != two["rep_16"]["stderr"]
    few = [json.loads(gpt2_here("eval-text", "--lines", "--self-bleu", 5, "--seed", seed, input=text).stdout
                      .splitlines()[0])["measures"]["self_bleu"]["value"] for seed in (0, 1)]
    assert few[0] != few[1]


def test_options_are_heeded(evaluated: Callable[..., Records], gpt2_here: Callable, tmp_path: Path) -> None:
    text = lines(6, 30)
    (plain,) = evaluated("--lines", input=text)
    (narrow,) = evaluated("--lines", "--level", 0.5, "--zipf-ranks", 10, "--bootstrap", 200, "--self-bleu", 0,
                          input=text)
    assert "self_bleu" not in narrow["measures"] and narrow["zipf_ranks"] == 10
    assert narrow["bootstrap"] == {"resamples": 200, "level": 0.5}
    assert narrow["measures"]["zipf"]["value"] < plain["measures"]["zipf"]["value"]
    for name in ("rep_16", "distinct_1", "loops"):
        (low, high), (wide_low, wide_high) = (some["measures"][name]["interval"] for some in (narrow, plain))
        assert wide_low <= low and high <= wide_high and high - low < wide_high - wide_low
    (tokens,) = evaluated("--lines", "--unit", "token", input=text)
    assert tokens["unit"] == "token" and tokens["n_units"] > plain["n_units"] and "tokenizer_sha256" in tokens
    output = tmp_path / "q.jsonl"
    gpt2_here("eval-text", "--lines", "-q", "-o", output, input=text, check=True)
    assert json.loads(output.read_text()) == plain
    again = gpt2_here("eval-text", "--lines", "-o", output, input=text)
    assert again.returncode == 2 and json.loads(output.read_text()) == plain


@pytest.mark.parametrize(("arguments", "text", "status", "said"), [
    (["--pair", "id"], b"x", 2, "--pair says nothing without --references"),
    (["--stride", "4"], b"x", 2, "--stride says nothing without --model"),
    (["--vocab", "x"], b"x", 2, "--vocab says nothing without --unit token"),
    (["--lines", "--format", "jsonl"], b"x", 2, "--lines is of plain text"),
    (["-", "--against", "-"], b"x", 2, "standard input can be only one of"),
    (["--references", "-"], b"x", 2, "standard input can be only one of"),
    (["none.jsonl"], b"", 2, "there is no none.jsonl"),
    (["--model", "none"], b"x", 2, "none"),
    ([], b"", 65, "there is no text to measure"),
    (["--lines"], b"\n\n", 65, "there is no text to measure"),
    (["--format", "jsonl"], b"no json", 65, "line 1: not JSON"),
    (["--bootstrap", "3"], b"x", 2, "not a whole number of at least 20"),
])
def test_mistakes_are_sentences(arguments: list[str], text: bytes, status: int, said: str, gpt2_here: Callable) -> None:
    result = gpt2_here("eval-text", *arguments, input=text)
    assert (result.returncode, result.stdout) == (status, b"") and said in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1


def test_a_text_that_is_lost_is_said(gpt2_here: Callable) -> None:
    text = b'{"text":"a b"}\n{"title":"x"}\n{"text":"\xff"}\n'
    said = gpt2_here("eval-text", input=text, check=True).stderr.decode()
    assert "skipped: 1 record without text" in said and "replaced 1 byte sequences" in said
    assert "2 documents are few" in said


def test_the_subject_alone(tmp_path: Path) -> None:
    """Without the command line: a summary comes back, and every record can be written."""
    (tmp_path / "t").write_bytes(lines(7, 5))
    written: list[tuple[str, dict[str, Any]]] = []
    config = QualityConfig(TextSource((str(tmp_path / "t"),), lines=True), against=(str(tmp_path / "t"),),
                           settings=Settings(resampling=Resampling(50)), per_document=True)
    summary = evaluate_texts(config, Silent(), lambda kind, fields: written.append((kind, fields)))
    kinds = [kind for kind, _ in written]
    assert kinds == [*["gpt2.text-quality-document"] * 5, "gpt2.text-quality"] * 2 + ["gpt2.text-quality-diff"]
    assert all(encode_record(kind, fields) for kind, fields in written)
    assert summary.difference is not None and summary.difference == written[-1][1]
    assert summary.text["measures"].keys() == summary.difference["measures"].keys()
    changes = {name: change["value"] for name, change in summary.difference["measures"].items()}
    assert {name for name, change in changes.items() if change is None} == {f"distinct_{n}_at" for n in range(1, 5)}
    assert all(change in (0, None) for change in changes.values())


def test_a_reader_that_leaves_and_a_full_device(shell_environment: dict[str, str]) -> None:
    text = lines(8, 600, 3)
    left = subprocess.run(["bash", "-c", "gpt2 eval-text -q --lines --per-doc --self-bleu 0 | head -c 1 >/dev/null; "
                           "echo ${PIPESTATUS[0]}"], input=text, env=shell_environment, capture_output=True,
                          check=False)
    assert (left.stdout, left.stderr) == (b"141\n", b"")
    full = subprocess.run(["bash", "-c", "gpt2 eval-text -q --lines >/dev/full"], input=text[:100],
                          env=shell_environment, capture_output=True, check=False)
    assert full.returncode == 74 and b"No space left on device" in full.stderr


def test_without_a_model_torch_is_not_waited_for(tmp_path: Path, shell_environment: dict[str, str]) -> None:
    (tmp_path / "t").write_bytes(lines(9, 3))
    code = ("import sys; from gpt2cli.cli import main; main._complete_or_run(['eval-text', '-q', '--lines', 't']); "
            "assert 'numpy' in sys.modules and 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True,
                   env=shell_environment | {"PYTHONPATH": str(ROOT)})


def test_documents_all_alike_have_no_error(evaluated: Callable[..., Records], tmp_path: Path) -> None:
    alike = "to be or not to be that is the question whether it is nobler\n"
    (tmp_path / "other").write_text(alike * 30)
    record, _, less = evaluated("--lines", "--distinct-at", 100, "--against", tmp_path / "other",
                                input=alike.encode() * 500)
    for measures in record["measures"], less["measures"]:
        errors = {name: measure["stderr"] for name, measure in measures.items() if name != "loops"}
        assert set(errors.values()) == {0.0}, errors


def test_the_table_for_people(gpt2_here: Callable, tmp_path: Path) -> None:
    alone = gpt2_here("eval-text", input=b"one", check=True).stderr.decode()
    assert "1 document, 1 word\n" in alone and "one document tells nothing of others" in alone
    (tmp_path / "other").write_bytes(lines(9, 40, 12))
    said = gpt2_here("eval-text", "--lines", "--against", tmp_path / "other", input=lines(8, 40, 22), check=True).stderr
    low, high = next(line for line in said.decode().splitlines() if "mean length" in line).split()[-3::2]
    assert 9 < float(low) < 10 < float(high) and [len(end.partition(".")[2]) for end in (low, high)] == [2, 2]
