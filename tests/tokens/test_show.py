"""Documents shown are the documents held: by line, by byte, by record, and at any place."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from foreign_files import shard_of, wide_vocabulary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.records.shard import ShardHeader, ShardWriter
from gpt2cli.records.shard_format import Frame
from gpt2cli.tokens import show
from gpt2cli.tokens.encode import Encoder
from gpt2cli.tokens.show import ShowConfig, ShowSummary, show_documents
from gpt2cli.tokens.vocabulary import gpt2_vocabulary
from gpt2cli.tokens.whitespace_marks import PATTERN

TEXTS = ["one\r\n", "", "two <|endoftext|> three", "\x1b[31mred\x00", "Grüße \U0001f30d" * 40, "last"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(gpt2_vocabulary())


@pytest.fixture
def six(tmp_path: Path, encoder: Encoder) -> Path:
    path = tmp_path / "x.tok.zst"
    path.write_bytes(shard_of([encoder.encode(text).tolist() for text in TEXTS]))
    return path


def shown(path: Path | str, *more: Path, **config: object) -> tuple[bytes, ShowSummary]:
    stream = io.BytesIO()
    summary = show_documents([str(path), *map(str, more)], stream, ShowConfig(**config))  # type: ignore[arg-type]
    return stream.getvalue(), summary


def test_ids_are_a_line_for_each_document(six: Path) -> None:
    reference = tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=gpt2_vocabulary().ranks, special_tokens={})
    lines = shown(six)[0].decode().split("\n")
    assert lines.pop() == ""
    assert [reference.decode(list(map(int, line.split()))) for line in lines] == TEXTS
    assert lines[1] == ""


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=300))
def test_the_text_of_one_document_is_its_bytes(tmp_path: Path, encoder: Encoder, text: str) -> None:
    path = tmp_path / "one.tok.zst"
    path.write_bytes(shard_of([encoder.encode(text).tolist()]))
    assert shown(path, form="text")[0] == text.encode()


def test_the_text_of_several_is_what_decoding_them_gives(six: Path) -> None:
    assert shown(six, form="text")[0] == "<|endoftext|>".join(TEXTS).encode()


def test_records_keep_documents_apart(six: Path) -> None:
    data, summary = shown(six, form="json")
    records = [json.loads(line) for line in data.decode().splitlines()]
    assert [record["text"] for record in records] == TEXTS
    assert summary == ShowSummary(len(TEXTS), 0)
    assert all("text_base64" not in record for record in records)


def test_bytes_that_are_no_utf8_are_kept(tmp_path: Path, encoder: Encoder) -> None:
    ranks = gpt2_vocabulary().ranks
    path = tmp_path / "x.tok.zst"
    path.write_bytes(shard_of([[ranks[b"\xf0"], ranks[b"a"]], [ranks[b"b"]]]))
    data, summary = shown(path, form="json")
    first, second = (json.loads(line) for line in data.decode().splitlines())
    assert (first["text"], base64.b64decode(first["text_base64"])) == ("\ufffda", b"\xf0a")
    assert "text_base64" not in second
    assert summary == ShowSummary(2, 1)
    assert shown(path, form="text", stop=1)[0] == b"\xf0a"


@pytest.mark.parametrize(("first", "stop"), [
    (0, None), (0, 2), (2, 4), (5, None), (3, 100), (6, None), (9, 12), (4, 4)])
def test_any_range_from_a_file_a_pipe_and_joined_shards(six: Path, tmp_path: Path, monkeypatch, first: int,
                                                        stop: int | None) -> None:
    wanted = "".join(json.dumps(text) + "\n" for text in TEXTS[first:stop])

    def texts(*paths: Path) -> str:
        data = shown(*paths, form="json", first=first, stop=stop)[0].decode()
        return "".join(json.dumps(json.loads(line)["text"]) + "\n" for line in data.splitlines())

    assert texts(six) == wanted
    monkeypatch.setattr(show.os.path, "isfile", lambda path: False)
    assert texts(six) == wanted, "read as a stream"
    monkeypatch.undo()
    twice = "".join(json.dumps(text) + "\n" for text in (TEXTS + TEXTS)[first:stop])
    assert texts(six, six) == twice
    (tmp_path / "joined").write_bytes(six.read_bytes() * 2)
    assert texts(tmp_path / "joined") == twice


def test_head_reads_no_more_than_it_shows(six: Path, tmp_path: Path) -> None:
    """The footer of this shard is gone, and its first document is shown all the same; the whole is refused."""
    (tmp_path / "cut").write_bytes(six.read_bytes()[:-60])
    assert shown(tmp_path / "cut", form="text", stop=1)[0] == TEXTS[0].encode()
    with pytest.raises(BadInput, match="cut short"):
        shown(tmp_path / "cut", form="text")


def test_a_range_is_read_at_its_place(tmp_path: Path, monkeypatch) -> None:
    """Of forty frames two are decoded."""
    documents = [[number % 1000] * 9999 for number in range(520)]
    path = tmp_path / "x.tok.zst"
    path.write_bytes(shard_of(documents))
    decoded: list[int] = []
    plain = show.ShardFile._decode

    def counting(shard: object, frame: Frame) -> np.ndarray:
        decoded.append(frame.number)
        return plain(shard, frame)

    monkeypatch.setattr(show.ShardFile, "_decode", counting)
    assert shown(path, first=400, stop=403)[0].decode().split()[::9999] == ["400", "401", "402"]
    assert set(decoded) == {30}


def test_sets_show_train_before_val_or_one_of_them(shard_directory: Path, six: Path) -> None:
    train, val = (shown(shard_directory, split=split)[0] for split in ("train", "val"))
    assert train and val
    assert shown(shard_directory)[0] == train + val
    assert shown(shard_directory / "index.json")[0] == train + val
    with pytest.raises(UsageFault, match="is no shard set, so it has no splits"):
        shown(six, split="val")


def test_shards_of_several_vocabularies_each_by_its_own(six: Path, tmp_path: Path) -> None:
    (tmp_path / "wide").write_bytes(shard_of([[wide_vocabulary().ranks[b"zq"]]], wide_vocabulary()))
    assert shown(six, tmp_path / "wide", form="text", first=5)[0] == b"last<|endoftext|>zq"


def test_a_header_that_lies_about_its_vocabulary(tmp_path: Path) -> None:
    text = wide_vocabulary().canonical()
    with open(tmp_path / "x", "wb") as stream:
        writer = ShardWriter(stream, ShardHeader(1 << 20, 7, wide_vocabulary().sha256, text))
        writer.write_document(np.array([1 << 19]))
        writer.close(None)
    with pytest.raises(BadInput, match="n_vocab or eot is not its vocabulary's"):
        shown(tmp_path / "x", form="text")
