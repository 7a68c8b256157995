"""Vocabularies: GPT-2's against the published digests, and every form of file against every other."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.errors import BadInput, Gpt2Error, UsageFault
from gpt2cli.tokens import vocabulary as vocab
from gpt2cli.tokens.vocabulary import Vocabulary, gpt2_vocabulary, load_vocabulary, recover_merges

DATA = Path(vocab.__file__).parent / "data"


@pytest.fixture(scope="module")
def small() -> Vocabulary:
    """256 bytes, `th`, `the`, ` the`, end-of-text."""
    return vocab.vocabulary_from_merges([(b"t", b"h"), (b"th", b"e"), (b" ", b"the")], "test")


def test_every_form_is_the_same_vocabulary(tmp_path: Path) -> None:
    gpt2 = gpt2_vocabulary()
    table = (DATA / "vocab.bpe").read_bytes()
    forms = {"canonical": gpt2.canonical().encode(), "r50k_base.tiktoken": gpt2.tiktoken_text().encode(),
             "headerless": table.partition(b"\n")[2], "crlf": table.replace(b"\n", b"\r\n"),
             "crlf.tiktoken": gpt2.tiktoken_text().replace("\n", "\r\n").encode(),
             "compressed": zstandard.ZstdCompressor().compress(table)}
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        found = load_vocabulary(tmp_path / name)
        assert (found, found.sha256) == (gpt2, gpt2.sha256), name


def test_identity_is_the_digest_of_the_canonical_form(small: Vocabulary, tmp_path: Path) -> None:
    text = small.canonical()
    assert text.endswith("dGhl 257\nIHRoZQ== 258\n<|endoftext|> 259\n")
    assert small.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert vocab.vocabulary_from_canonical(text, "x") == small
    assert not small.is_gpt2


def test_environment_names_the_default(small: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v").write_text(small.canonical())
    monkeypatch.setenv("GPT2_VOCAB", str(tmp_path / "v"))
    assert load_vocabulary(None) == small
    monkeypatch.delenv("GPT2_VOCAB")
    assert load_vocabulary(None).is_gpt2


def test_merges_are_recovered_from_ranks(small: Vocabulary) -> None:
    assert recover_merges(small) == [(b"t", b"h"), (b"th", b"e"), (b" ", b"the")]
    lines = (DATA / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    alphabet = vocab.byte_alphabet()
    for pair, line in zip(recover_merges(gpt2_vocabulary()), lines, strict=True):
        assert " ".join("".join(alphabet[byte] for byte in part) for part in pair) == line


@pytest.mark.parametrize(("change", "words"), [
    (lambda text: text.replace("IQ== 0\n", ""), "lacks the byte 0x21"),
    (lambda text: text.replace("dGhl 257", "dGhl 300"), "ids are not 0 to 259"),
    (lambda text: text.replace("dGhl 257", "dGhl 256"), "ids are not 0 to 259"),
    (lambda text: text.replace("dGhl 257", "dGg= 257"), "line 258 holds an empty or repeated token"),
    (lambda text: text.replace("dGhl 257", "dGhl!257"), "line 258 is no"),
    (lambda text: text.replace("dGhl 257", "d*hl 257"), "line 258 is no"),
    (lambda text: text + "<|endoftext|> 259\n", "a second time"),
    (lambda text: "hello", "line 1 is no"),
    (lambda text: "", "is empty"),
])
def test_a_broken_file_is_refused_in_a_sentence(small: Vocabulary, tmp_path: Path, change, words: str) -> None:
    path = tmp_path / "v"
    path.write_text(change(small.canonical()))
    with pytest.raises(BadInput, match=words) as caught:
        load_vocabulary(path)
    assert str(path) in str(caught.value)


def test_other_refusals(small: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="no vocabulary at"):
        load_vocabulary(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8 at byte 0"):
        load_vocabulary(tmp_path / "binary")
    (tmp_path / "merges").write_text("#version: 0.2\nt h\nq zz\n")
    with pytest.raises(BadInput, match="uses an unknown token"):
        load_vocabulary(tmp_path / "merges")
    orphan = vocab.vocabulary_from_canonical(small.canonical().replace("dGg= 256", "eHl6 256"), "x")
    with pytest.raises(BadInput, match="token 256"):
        recover_merges(orphan)


def test_a_shard_vocabulary_must_be_the_one_named(small: Vocabulary) -> None:
    assert vocab.vocabulary_of(small.canonical(), small.sha256, "x") == small
    assert vocab.vocabulary_of(None, gpt2_vocabulary().sha256, "x").is_gpt2
    with pytest.raises(BadInput, match="doesn't carry"):
        vocab.vocabulary_of(None, small.sha256, "x")


def test_lines_end_at_line_feeds_only(small: Vocabulary) -> None:
    """str.splitlines would also cut at U+2028 and form feeds, and number the lines wrongly."""
    for separator in ("\u2028", "\x0c", "\x85", "\r"):
        with pytest.raises(BadInput, match="line 257 is no"):
            vocab.vocabulary_from_canonical(small.canonical().replace("\ndGhl 257", f"{separator}dGhl 257"), "x")


def test_long_tokens_are_refused(small: Vocabulary, tmp_path: Path) -> None:
    long = base64.b64encode(b"a" * 1025).decode()
    text = small.canonical().replace("IHRoZQ==", long)
    with pytest.raises(BadInput, match="a token of 1025 bytes"):
        vocab.vocabulary_from_canonical(text, "x")
    lines = ["a a", *(f"{'a' * (1 << n)} {'a' * (1 << n)}" for n in range(1, 11))]
    (tmp_path / "merges.txt").write_text("\n".join(lines))
    with pytest.raises(BadInput, match="more than 1024 bytes"):
        load_vocabulary(tmp_path / "merges.txt")


def test_a_file_larger_than_any_vocabulary_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocab, "MAX_VOCABULARY_BYTES", 1000)
    (tmp_path / "v").write_bytes(zstandard.ZstdCompressor().compress(b"a" * 1_000_000))
    with pytest.raises(BadInput, match="larger than any vocabulary"):
        load_vocabulary(tmp_path / "v")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner:
                    st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
                        ["model", "vocab", "merges", "added_tokens", "type", "content", "id", "pre_tokenizer", "x"]),
                        inner, max_size=5), max_leaves=20)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
                 JSON.map(lambda value: json.dumps(value).encode()),
                 st.text("#version: 0123 abcĠ=\n\r", max_size=60).map(str.encode)))
@settings(deadline=None)
def test_only_gpt2_errors_escape(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(data)
    try:
        found = load_vocabulary(path)
    except Gpt2Error as error:
        assert "\n" not in str(error)
    else:
        assert all(bytes([byte]) in found.ranks for byte in range(256))


@pytest.mark.parametrize("data", [
    b"[" * 200_000, b'{"model":' * 200_000, b'{"model":{"vocab":{"a":' + b"9" * 5000 + b'},"merges":[]}}',
    b'{"model":{"vocab":{"a":1e999},"merges":[]}}', b'{"model":{"vocab":{"\\ud800":1},"merges":[]}}',
    b"IQ== " + b"9" * 5000, b"", b"\n\n", b"\xff\xfe{", b"\x28\xb5\x2f\xfd broken",
    b'{"a":NaN}', "IQ== ²".encode(), b"#version: 0.2\n \n", b"{}", b"\x00" * 100,
])
def test_hostile_files_are_refused_in_a_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "v").write_bytes(data)
    with pytest.raises(Gpt2Error):
        load_vocabulary(tmp_path / "v")
