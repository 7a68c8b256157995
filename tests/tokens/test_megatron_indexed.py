"""Megatron's .bin and .idx, against a reader and a writer by struct alone."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from foreign_files import EOT, exported, imported, megatron_files, read_megatron_files, wide_vocabulary

from gpt2cli.errors import BadInput, UsageFault
from gpt2cli.tokens import megatron_indexed


def test_a_document_is_a_sequence_with_its_end_of_text(tmp_path: Path) -> None:
    source = random.Random(3)
    documents = [[source.randrange(EOT) for _ in range(source.randrange(500))] for _ in range(1300)]
    out = exported(tmp_path, "megatron", documents, name="owt_text_document")
    assert sorted(path.name for path in out.iterdir()) == ["owt_text_document.bin", "owt_text_document.idx"]
    assert read_megatron_files(out / "owt_text_document") == [[[*ids, EOT]] for ids in documents]
    for name in ("owt_text_document", "owt_text_document.bin", "owt_text_document.idx"):
        found, summary = imported("megatron", out / name)
        assert found == documents
        assert summary.tally.sentences() == []


def test_wide_vocabularies_are_int32(tmp_path: Path) -> None:
    vocabulary = wide_vocabulary()
    out = exported(tmp_path, "megatron", [[65_791], []], vocabulary)
    assert (out / "train.idx").read_bytes()[17] == 4
    assert read_megatron_files(out / "train") == [[[65_791, vocabulary.eot]], [[vocabulary.eot]]]
    assert imported("megatron", out / "train")[0] == [[65_791], []]


def test_no_document_at_all(tmp_path: Path) -> None:
    out = exported(tmp_path, "megatron", [])
    assert read_megatron_files(out / "train") == []
    assert imported("megatron", out / "train")[0] == []


@pytest.mark.parametrize("code", ["H", "h", "i", "q"])
def test_every_type_that_can_hold_the_ids(tmp_path: Path, code: str) -> None:
    eot = () if code == "h" else (EOT,)
    found, summary = imported("megatron", megatron_files(tmp_path / "x", [[[1, 300, *eot]], [[7, *eot]]], code))
    assert found == [[1, 300], [7]]
    assert summary.tally.unended == (2 if code == "h" else 0)


@pytest.mark.parametrize("code", ["B", "b"])
def test_bytes_as_tokens(tmp_path: Path, code: str) -> None:
    assert imported("megatron", megatron_files(tmp_path / "x", [[[1, 100]]], code))[0] == [[1, 100]]


def test_sequences_of_a_document_are_joined(tmp_path: Path) -> None:
    """Megatron --split-sentences: a sequence is a sentence, and end-of-text closes the last of a document."""
    prefix = megatron_files(tmp_path / "x", [[[1, 2], [3], [4, EOT]], [[5], [EOT]]])
    found, summary = imported("megatron", prefix)
    assert found == [[1, 2, 3, 4], [5]]
    assert summary.tally.sentences() == []


def test_more_sequences_and_documents_than_are_read_at_once(tmp_path: Path, monkeypatch) -> None:
    """Boundaries and pointers are read in pieces, and a document may span more sequences than a piece."""
    monkeypatch.setattr(megatron_indexed, "_ITEMS", 16)
    many = [[[number] for number in range(70)] + [[EOT]], [[3, EOT]], *[[[number, EOT]] for number in range(90)]]
    found, _ = imported("megatron", megatron_files(tmp_path / "a", many))
    assert found == [list(range(70)), [3], *[[number] for number in range(90)]]
    out = exported(tmp_path, "megatron", found)
    assert read_megatron_files(out / "train") == [[[*ids, EOT]] for ids in found]


def test_boundaries_and_end_of_text_that_disagree_are_counted(tmp_path: Path) -> None:
    prefix = megatron_files(tmp_path / "x", [[[1, 2]], [[3, EOT, 4, EOT]], [], [[EOT]], [[5, EOT, 6]]])
    found, summary = imported("megatron", prefix)
    assert found == [[1, 2], [3], [4], [], [], [5], [6]]
    assert (summary.tally.unended, summary.tally.parted) == (3, 2)
    assert len(summary.tally.sentences()) == 2


def test_several_sets_follow_one_another(tmp_path: Path) -> None:
    prefixes = [megatron_files(tmp_path / name, [[[number, EOT]]]) for number, name in enumerate("ab")]
    assert imported("megatron", *prefixes)[0] == [[0], [1]]


def patched(data: bytes, at: int, code: str, value: int) -> bytes:
    return data[:at] + struct.pack(code, value) + data[at + struct.calcsize(code):]


# .idx of two documents, [1, EOT] and [2, 3, EOT]: head 34 bytes, sizes at 34, pointers at 42, boundaries at 58
DAMAGES = {
    "magic": (lambda idx: b"X" + idx[1:], "does not begin with MMIDIDX"),
    "empty": (lambda idx: b"", "does not begin with MMIDIDX"),
    "version": (lambda idx: patched(idx, 9, "<Q", 2), "has version 2"),
    "float": (lambda idx: patched(idx, 17, "<B", 7), "type number 7"),
    "huge count": (lambda idx: patched(idx, 18, "<Q", 1 << 60), "bytes where 1152921504606846976 sequences"),
    "huge documents": (lambda idx: patched(idx, 26, "<Q", (1 << 64) - 1), "document boundaries take"),
    "cut": (lambda idx: idx[:-1], "has 81 bytes where"),
    "modes": (lambda idx: idx + b"\0\0", "is multimodal"),
    "size": (lambda idx: patched(idx, 34, "<i", 3), "sequence 1 does not begin where"),
    "negative": (lambda idx: patched(idx, 34, "<i", -2), "sequence 0 does not begin where"),
    "last size": (lambda idx: patched(idx, 38, "<i", 4), "has 10 bytes where its index says 12"),
    "pointer": (lambda idx: patched(idx, 42, "<q", 2), "sequence 0 does not begin where"),
    "far pointer": (lambda idx: patched(idx, 50, "<q", 1 << 62), "sequence 1 does not begin where"),
    "first": (lambda idx: patched(idx, 58, "<q", 1), "don't begin at 0 and rise"),
    "falling": (lambda idx: patched(idx, 66, "<q", 3), "don't begin at 0 and rise"),
    "end": (lambda idx: patched(idx, 74, "<q", 1), "its documents end at sequence 1 of 2"),
    "beyond": (lambda idx: patched(idx, 74, "<q", 9), "its documents end at sequence 9 of 2"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    prefix = megatron_files(tmp_path / "x", [[[1, EOT]], [[2, 3, EOT]]])
    index = tmp_path / "x.idx"
    change, says = DAMAGES[name]
    index.write_bytes(change(index.read_bytes()))
    with pytest.raises(BadInput, match=says):
        imported("megatron", prefix)


def test_tokens_are_checked_too(tmp_path: Path) -> None:
    prefix = megatron_files(tmp_path / "x", [[[1, EOT]], [[-1, EOT]]], "i")
    with pytest.raises(BadInput, match=r"x\.bin: the token at byte 8 is -1"):
        imported("megatron", prefix)
    (tmp_path / "x.bin").write_bytes(bytes(15))
    with pytest.raises(BadInput, match="has 15 bytes where its index says 16"):
        imported("megatron", prefix)


def test_both_files_have_to_be_there(tmp_path: Path) -> None:
    prefix = megatron_files(tmp_path / "x", [[[1, EOT]]])
    (tmp_path / "x.bin").unlink()
    with pytest.raises(UsageFault, match=r"there is no .*x\.bin"):
        imported("megatron", prefix)
    with pytest.raises(UsageFault, match="two files"):
        imported("megatron", Path("-"))
