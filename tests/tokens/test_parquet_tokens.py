"""Parquet, against pyarrow itself: rows of ids or of text, as Hugging Face's data sets have them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from foreign_files import EOT, exported, imported, shard_of, wide_vocabulary

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.reporter import Silent
from gpt2cli.tokens.import_tokens import ImportConfig, import_tokens
from gpt2cli.tokens.tokenize import TokenizeConfig, tokenize_documents

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
TEXTS = ["Hello, world.\r\n", "<|endoftext|> is text", "Grüße \U0001f30d", "a" * 5000]


def table_file(path: Path, **columns: object) -> Path:
    parquet.write_table(arrow.table(columns), path)
    return path


def test_a_document_is_a_row_with_its_end_of_text(tmp_path: Path) -> None:
    documents = [[number % 50_000] * (number % 700) for number in range(900)]
    out = exported(tmp_path, "parquet", documents)
    assert [path.name for path in out.iterdir()] == ["train-00000-of-00001.parquet"]
    table = parquet.read_table(out / "train-00000-of-00001.parquet")
    assert table.schema.names == ["input_ids"]
    assert str(table.schema.field("input_ids").type).startswith("list<") and "int32" in str(table.schema)
    assert table["input_ids"].to_pylist() == [[*ids, EOT] for ids in documents]
    found, summary = imported("parquet", out / "train-00000-of-00001.parquet")
    assert found == documents
    assert summary.tally.sentences() == []


def test_files_and_splits_are_named_as_datasets_expects(tmp_path: Path, shard_directory: Path, gpt2) -> None:
    gpt2("shard", "export", "--to", "parquet", shard_directory, "-o", tmp_path / "set", check=True)
    assert {path.name for path in (tmp_path / "set").iterdir()} == {
        "train-00000-of-00001.parquet", "validation-00000-of-00001.parquet", "vocabulary.tiktoken"}
    documents = [[1] * 300_000, [2], *[[3] * 1000] * 500]
    out = exported(tmp_path, "parquet", documents, shard_tokens=140_000)
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"train-{number:05d}-of-{len(names):05d}.parquet" for number in range(len(names))]
    assert len(names) > 2
    rows = [row for name in names for row in parquet.read_table(out / name)["input_ids"].to_pylist()]
    assert rows == [[*ids, EOT] for ids in documents]
    assert imported("parquet", *(out / name for name in names))[0] == documents


def test_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        exported(tmp_path / name, "parquet", [[1, 2], [3]])
    first, second = ((tmp_path / name / "out" / "train-00000-of-00001.parquet").read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize("kind", ["int32", "int64", "uint16", "large", "fixed"])
def test_lists_of_any_integers(tmp_path: Path, kind: str) -> None:
    types = {"large": arrow.large_list(arrow.int64()), "fixed": arrow.list_(arrow.int32(), 3)}
    of = types.get(kind) or arrow.list_(arrow.type_for_alias(kind))
    path = table_file(tmp_path / "x.parquet", input_ids=arrow.array([[1, 2, EOT], [3, 4, EOT]], of))
    found, _ = imported("parquet", path)
    assert found == [[1, 2], [3, 4]]


def test_rows_that_are_odd_are_counted(tmp_path: Path) -> None:
    rows = arrow.array([[1, EOT], None, [2], [], [3, EOT, 4, EOT]], arrow.list_(arrow.int32()))
    found, summary = imported("parquet", table_file(tmp_path / "x.parquet", tokens=rows))
    assert found == [[1], [2], [], [3], [4]]
    assert (summary.tally.unended, summary.tally.parted, summary.tally.skipped) == (2, 1, {"rows without ids": 1})


@pytest.mark.parametrize("kind", ["string", "large_string"])
def test_text_gives_the_shard_that_bpe_tokenize_makes(tmp_path: Path, kind: str) -> None:
    rows = arrow.array([TEXTS[0], None, *TEXTS[1:], ""], arrow.type_for_alias(kind))
    path = table_file(tmp_path / "x.parquet", url=arrow.array([str(n) for n in range(6)]), text=rows)
    stream, plain, reporter = io.BytesIO(), io.BytesIO(), Silent()
    import_tokens([str(path)], stream, ImportConfig("parquet"), reporter)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    tokenize_documents([str(tmp_path / "x.jsonl")], plain, TokenizeConfig(), Silent())
    assert stream.getvalue() == plain.getvalue()
    assert reporter.warnings == ["skipped: 1 row with empty text, 1 row without text"]


def test_text_that_is_no_utf8_is_replaced_and_counted(tmp_path: Path) -> None:
    bad = arrow.Array.from_buffers(arrow.string(), 1, [None, arrow.py_buffer(bytes([0, 0, 0, 0, 3, 0, 0, 0])),
                                                       arrow.py_buffer(b"a\xffb")])
    found, summary = imported("parquet", table_file(tmp_path / "x.parquet", text=bad))
    assert len(found) == 1 and summary.text_bytes == 5
    assert summary.tally.invalid_bytes == 1


def test_the_column_is_found_or_named(tmp_path: Path) -> None:
    ids = arrow.array([[1, EOT]], arrow.list_(arrow.int32()))
    both = table_file(tmp_path / "x.parquet", text=arrow.array(["no"]), input_ids=ids, other=arrow.array([[2, EOT]]))
    assert imported("parquet", both)[0] == [[1]]
    assert imported("parquet", both, column="other")[0] == [[2]]
    with pytest.raises(UsageFault, match="has no column body; it has text, input_ids, other"):
        imported("parquet", both, column="body")
    strange = table_file(tmp_path / "y.parquet", text=arrow.array([1.5]))
    with pytest.raises(UsageFault, match="column text is double"):
        imported("parquet", strange)
    lists = table_file(tmp_path / "z.parquet", input_ids=arrow.array([["a"]]))
    with pytest.raises(UsageFault, match="neither text nor lists of integers"):
        imported("parquet", lists)
    with pytest.raises(UsageFault, match="nanogpt has no columns"):
        imported("nanogpt", both, column="text")


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    out = exported(tmp_path, "parquet", [[1]], wide_vocabulary())
    path = out / "train-00000-of-00001.parquet"
    assert imported("parquet", path)[0] == [[1]], "the vocabulary beside is taken"
    (out / "vocabulary.tiktoken").unlink()
    with pytest.raises(BadInput, match="was exported in another vocabulary"):
        imported("parquet", path)


@pytest.mark.parametrize(("rows", "says"), [
    ([[1, 50257]], "row 0 has an id outside the vocabulary of 50,257"),
    ([[1, EOT], [-1]], "row 1 has an id outside"),
    ([[1, None]], "row 0 has a null among its ids"),
])
def test_ids_are_checked(tmp_path: Path, rows: list, says: str) -> None:
    path = table_file(tmp_path / "x.parquet", input_ids=arrow.array(rows, arrow.list_(arrow.int64())))
    with pytest.raises(BadInput, match=says):
        imported("parquet", path)


def test_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(shard_of([[1]]))
    with pytest.raises(BadInput, match="is no parquet file, or is damaged"):
        imported("parquet", tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"")
    with pytest.raises(BadInput, match="is no parquet file, or is damaged"):
        imported("parquet", tmp_path / "x.parquet")
    with pytest.raises(UsageFault, match="standard input"):
        imported("parquet", Path("-"))


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Gpt2Error, match=r"pip install 'gpt2cli\[parquet\]'"):
        imported("parquet", tmp_path / "x.parquet")
    with pytest.raises(Gpt2Error, match="needs pyarrow"):
        exported(tmp_path, "parquet", [[1]])
    assert not (tmp_path / "out").exists()
